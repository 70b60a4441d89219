"""Tests the table of `benchmarks/applications.py`."""

import json

import pytest
from applications import STEPS, read_rows, table

pytestmark = pytest.mark.backend_independent


def row(model, **options):
    costs = {step: [0.5 * number, 7.0] for number, step in enumerate(("forward", *STEPS), 1)}
    found = {"costs": costs, "method": "symbolic", "kernels": 53, "unknown": 0, "set": [1, 2, 3]}
    return {"backend": "torch", "model": model, **found, "deviation": 2e-7, **options}


def test_the_table_has_multiples_of_a_forward_pass_and_names_what_is_missing(tmp_path):
    failed = {"backend": "torch", "model": "B", "error": "ended with code 1"}
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in (row("A"), failed)))
    lines = table(read_rows(file), ["A", "B", "C", "D"])
    assert lines[0].startswith("torch, CPU seconds (forward passes) and MiB\nmodel ")
    # The inspection took 1 second, the forward pass half a second.
    assert lines[1].split()[:8] == ["A", "53", "0", "1/2/3", "0.50", "7", "1.00", "("]
    assert lines[1].endswith("3.00 (   6)     7    2.0e-07")
    assert lines[2].split() == ["B", *failed["error"].split()]
    assert lines[3:] == ["not measured: C, D"]


def test_a_model_that_was_run_again_counts_once(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row("A", kernels=n)) + "\n" for n in (1, 2)))
    (found,) = read_rows(file).values()
    assert found["kernels"] == 2
    assert read_rows(tmp_path / "none.jsonl") == {}
