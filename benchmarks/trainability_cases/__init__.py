"""The networks, starts, training and summary of `benchmarks/trainability.py`."""
