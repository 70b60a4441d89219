"""What was measured, as rows, files, a table and a picture."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support.monitored import dense_pair, fit, row

from keras_winit import ActivationMonitor


@pytest.fixture(scope="module")
def samples():
    """Of two steps."""
    monitor = ActivationMonitor(every=1)
    fit(dense_pair(), monitor)
    return monitor.history.records


def test_history_as_rows_and_files(samples, tmp_path):
    monitor = ActivationMonitor()
    monitor.history.records = samples
    rows = list(monitor.history)
    assert len(rows) == len(monitor.history)
    assert rows[0] == {
        "step": 0,
        "layer": "loss",
        "call": 0,
        "statistic": "loss",
        "value": samples[0].loss,
    }
    assert [r["layer"] for r in rows if r["step"] == 0 and r["statistic"] == "dead_share"] == [
        "one"
    ]
    monitor.history.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = [{**r, "value": float(r["value"])} for r in csv.DictReader(file)]
    assert [(r["layer"], r["value"]) for r in read] == [(r["layer"], r["value"]) for r in rows]
    monitor.history.to_jsonl(tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    steps, values = monitor.history.curve("two/kernel", "gradient_norm")
    assert steps.tolist() == [0, 1]
    place = samples[1].variable_values[2, 1]
    assert values[1] == pytest.approx(float(place))
    with pytest.raises(KeyError, match="no step has 'mean' of 'three'"):
        monitor.history.curve("three", "mean")


def test_a_loss_that_is_no_number_is_one_all_the_same(samples, tmp_path):
    monitor = ActivationMonitor()
    broken = replace(samples[0], loss=float("nan"))
    monitor.history.records = [broken, replace(samples[1], loss=float("-inf"))]
    losses = [one["value"] for one in monitor.history if one["statistic"] == "loss"]
    np.testing.assert_equal(losses, [np.nan, -np.inf])
    monitor.history.to_jsonl(tmp_path / "rows.jsonl")
    lines = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert [line["value"] for line in lines if line["layer"] == "loss"] == [None, "-inf"]
    assert str(monitor).startswith("step 1, loss -inf\n")
    monitor.history.records = [replace(broken, loss=None)]
    assert "loss" not in {one["statistic"] for one in monitor.history}
    assert str(monitor).startswith("step 0\n")


def test_a_gradient_that_is_no_number_stands_in_the_table(samples):
    values = samples[0].variable_values.copy()
    names = samples[0].variable_statistics
    values[0, names.index("gradient_norm")] = np.nan
    values[0, names.index("gradient_nonfinite")] = 3
    monitor = ActivationMonitor()
    monitor.history.records = [replace(samples[0], variable_values=values)]
    one, two = str(monitor).splitlines()[2:]
    assert one.split()[7] == "nan"
    assert two.split()[7] not in ("nan", "-")


def test_the_table_of_whatever_was_measured():
    for chosen, columns, rows in (
        ("gradient_norm", "variable gradient", ["one/kernel", "one/bias"]),
        ("weight_norm", "variable weight_norm", ["one/kernel", "one/bias"]),
        ("quantiles", "layer q01 q25 q50 q75 q99", ["one", "two"]),
        ("norm", "layer norm", ["one", "two"]),
    ):
        monitor = ActivationMonitor(statistics=chosen)
        fit(dense_pair(), monitor)
        _, heads, *lines = str(monitor).splitlines()
        assert heads.split() == columns.split()
        assert [line.split()[0] for line in lines[:2]] == rows
        assert len([float(cell) for cell in lines[0].split()[1:]]) == len(columns.split()) - 1


def test_names_in_the_table_are_short_and_harmless(samples):
    monitor = ActivationMonitor()
    hostile = ("x" * 300, "a\n\x1b[31mb", "c", "d")
    monitor.history.records = [replace(samples[0], layers=hostile)]
    lines = str(monitor).splitlines()
    assert all(line.isprintable() and len(line) < 200 for line in lines)
    assert len(lines) == 6


def test_in_a_notebook():
    monitor = ActivationMonitor()
    assert monitor._repr_html_() == "<p>nothing was measured yet</p>"
    fit(dense_pair(), monitor)
    assert "<table>" in monitor._repr_html_() or "nothing was found" in monitor._repr_html_()


def test_the_table_has_a_line_for_each_layer(samples, capsys):
    monitor = ActivationMonitor(verbose=1)
    monitor.history.records = samples
    title, heads, *lines = str(monitor).splitlines()
    assert title == f"step 1, loss {samples[1].loss:.4g}"
    assert heads.split() == [
        *("layer", "mean", "stddev", "unit", "stddev", "zero", "dead", "saturated"),
        *("gradient", "update/weight"),
    ]
    assert [line.split()[0] for line in lines] == ["one", "two"]
    assert {len(line) for line in (heads, *lines)} == {len(heads)}
    assert lines[1].split()[5] == "-"
    monitor.on_epoch_end(0)
    assert capsys.readouterr().out == f"{monitor}\n"


def test_a_line_shows_the_first_variable_that_no_deeper_layer_has(samples):
    paths = ("two/cell/kernel", "one/bias", "two/kernel", "one/kernel")
    moved = replace(samples[0], layers=("one.pre", "one", "two/cell", "two"), variables=paths)
    monitor = ActivationMonitor()
    monitor.history.records = [moved]
    norms = moved.variable_values[:, moved.variable_statistics.index("gradient_norm")]
    shown = {line.split()[0]: line.split()[7] for line in str(monitor).splitlines()[2:]}
    places = {"two/cell": 0, "one": 1, "two": 2}
    assert shown == {name: f"{norms[place]:.3g}" for name, place in places.items()}


def test_the_picture(samples, tmp_path):
    monitor = ActivationMonitor()
    message = "`plots.layers(samples=...)` needs samples with `unit_stddev`. Received: 0 samples."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        monitor.plot()
    monitor.history.records = samples
    picture = monitor.plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    profile, ratio, dead, *_ = picture.axes
    stddevs = [row(samples[1], name)["unit_stddev"] for name in ("one", "two")]
    np.testing.assert_allclose(profile.lines[-1].get_xdata(), stddevs, rtol=1e-6)
    first = [row(samples[0], name)["unit_stddev"] for name in ("one", "two")]
    np.testing.assert_allclose(
        ratio.images[0].get_array()[:, 1], np.log10(np.divide(stddevs, first)), rtol=1e-4
    )
    assert dead.images[0].get_array().mask.tolist() == [[False, False], [True, True]]
