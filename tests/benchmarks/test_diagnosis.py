"""Tests the table of `benchmarks/diagnosis.py`."""

import pytest
from diagnosis import table

pytestmark = pytest.mark.backend_independent


def test_totals_of_several_runs_are_added_up():
    rows = [
        {"backend": "jax", "seeds": [300, 301], "totals": {"right": [3, 4], "checked": [1, 1]}},
        {"backend": "jax", "seeds": [302], "totals": {"right": [1, 2]}},
        {"backend": "torch", "seeds": [300], "totals": {"right": [2, 2]}},
    ]
    head, right, checked = table(rows)
    assert head.split("  ")[-1].strip() == "torch, 300 to 300"
    assert "jax, 300 to 302" in head
    assert right.split() == ["right", "4", "of", "6", "(66.7%)", "2", "of", "2", "(100.0%)"]
    assert checked.split() == ["checked", "1", "of", "1", "(100.0%)", "-"]
