"""Models that `benchmarks/diagnosis.py` trains, healthy or with a planted fault."""
