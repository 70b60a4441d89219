"""The history of a monitor: rows, curves, files, the table and the picture."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support.monitored import dense_pair, fit, row

from keras_winit import ActivationMonitor


@pytest.fixture(scope="module")
def records():
    """Return the records of two training steps."""
    monitor = ActivationMonitor(every=1)
    fit(dense_pair(), monitor)
    return monitor.history.records


def test_rows_curves_and_files(records, tmp_path):
    monitor = ActivationMonitor()
    monitor.history.records = records
    rows = list(monitor.history)
    assert len(rows) == len(monitor.history)
    assert rows[0] == {
        "step": 0,
        "layer": "loss",
        "call": 0,
        "statistic": "loss",
        "value": records[0].loss,
    }
    dead = [r["layer"] for r in rows if r["step"] == 0 and r["statistic"] == "dead_share"]
    assert dead == ["one"]
    monitor.history.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        from_csv = [{**r, "value": float(r["value"])} for r in csv.DictReader(file)]
    assert [(r["layer"], r["value"]) for r in from_csv] == [(r["layer"], r["value"]) for r in rows]
    monitor.history.to_jsonl(tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    steps, values = monitor.history.curve("two/kernel", "gradient_norm")
    assert steps.tolist() == [0, 1]
    assert values[1] == pytest.approx(float(records[1].variable_values[2, 1]))
    steps, values = monitor.history.curve("loss", "loss")
    assert (steps.tolist(), values.tolist()) == ([0, 1], [record.loss for record in records])
    with pytest.raises(KeyError) as caught:
        monitor.history.curve("three", "mean")
    assert caught.value.args == (
        "`History.curve` needs a statistic that was recorded. "
        "Received: layer='three', statistic='mean'.",
    )


def test_a_loss_that_is_not_finite_has_a_row(records, tmp_path):
    monitor = ActivationMonitor()
    first = replace(records[0], loss=float("nan"))
    monitor.history.records = [first, replace(records[1], loss=float("-inf"))]
    losses = [r["value"] for r in monitor.history if r["statistic"] == "loss"]
    np.testing.assert_equal(losses, [np.nan, -np.inf])
    monitor.history.to_jsonl(tmp_path / "rows.jsonl")
    lines = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert [line["value"] for line in lines if line["layer"] == "loss"] == [None, "-inf"]
    assert str(monitor).startswith("step 1, loss -inf\n")
    monitor.history.records = [replace(first, loss=None)]
    assert "loss" not in {r["statistic"] for r in monitor.history}
    assert str(monitor).startswith("step 0\n")


def test_the_table_shows_a_gradient_that_is_not_finite_as_nan(records):
    values = records[0].variable_values.copy()
    names = records[0].variable_statistics
    values[0, names.index("gradient_norm")] = np.nan
    values[0, names.index("gradient_nonfinite")] = 3
    monitor = ActivationMonitor()
    monitor.history.records = [replace(records[0], variable_values=values)]
    one, two = str(monitor).splitlines()[2:]
    assert one.split()[7] == "nan"
    assert two.split()[7] not in ("nan", "-")


@pytest.mark.parametrize(
    ("statistic", "headings", "names"),
    [
        ("gradient_norm", "variable gradient", ["one/kernel", "one/bias"]),
        ("weight_norm", "variable weight_norm", ["one/kernel", "one/bias"]),
        ("quantiles", "layer q01 q25 q50 q75 q99", ["one", "two"]),
        ("norm", "layer norm", ["one", "two"]),
    ],
)
def test_the_table_shows_the_chosen_statistics(statistic, headings, names):
    monitor = ActivationMonitor(statistics=statistic)
    fit(dense_pair(), monitor)
    _, heading_line, *lines = str(monitor).splitlines()
    assert heading_line.split() == headings.split()
    assert [line.split()[0] for line in lines[:2]] == names
    assert len([float(cell) for cell in lines[0].split()[1:]]) == len(headings.split()) - 1


def test_hostile_names_are_short_and_printable_in_the_table(records):
    monitor = ActivationMonitor()
    hostile = ("x" * 300, "a\n\x1b[31mb", "c", "d")
    monitor.history.records = [replace(records[0], layers=hostile)]
    lines = str(monitor).splitlines()
    assert all(line.isprintable() and len(line) < 200 for line in lines)
    assert len(lines) == 6


def test_a_notebook_shows_findings():
    monitor = ActivationMonitor()
    assert monitor._repr_html_() == "<p>nothing was measured yet</p>"
    fit(dense_pair(), monitor)
    assert "<table>" in monitor._repr_html_() or "nothing was found" in monitor._repr_html_()


def test_the_table_has_a_line_for_each_layer(records, capsys):
    monitor = ActivationMonitor(verbose=1)
    monitor.history.records = records
    title, headings, *lines = str(monitor).splitlines()
    assert title == f"step 1, loss {records[1].loss:.4g}"
    assert headings.split() == [
        *("layer", "mean", "stddev", "unit", "stddev", "zero", "dead", "saturated"),
        *("gradient", "update/weight"),
    ]
    assert [line.split()[0] for line in lines] == ["one", "two"]
    assert {len(line) for line in (headings, *lines)} == {len(headings)}
    assert lines[1].split()[5] == "-"
    monitor.on_epoch_end(0)
    assert capsys.readouterr().out == f"{monitor}\n"


def test_a_line_shows_the_first_variable_that_no_inner_layer_holds(records):
    paths = ("two/cell/kernel", "one/bias", "two/kernel", "one/kernel")
    moved = replace(records[0], layers=("one.pre", "one", "two/cell", "two"), variables=paths)
    monitor = ActivationMonitor()
    monitor.history.records = [moved]
    norms = moved.variable_values[:, moved.variable_statistics.index("gradient_norm")]
    shown = {line.split()[0]: line.split()[7] for line in str(monitor).splitlines()[2:]}
    first_variables = {"two/cell": 0, "one": 1, "two": 2}
    assert shown == {name: f"{norms[index]:.3g}" for name, index in first_variables.items()}


def test_the_monitor_plots_its_history(records, tmp_path):
    monitor = ActivationMonitor()
    message = "`plots.layers(records=...)` needs records with `unit_stddev`. Received: 0 records."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        monitor.plot()
    monitor.history.records = records
    picture = monitor.plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    profile, ratio, dead, *_ = picture.axes
    stddevs = [row(records[1], name)["unit_stddev"] for name in ("one", "two")]
    np.testing.assert_allclose(profile.lines[-1].get_xdata(), stddevs, rtol=1e-6)
    first = [row(records[0], name)["unit_stddev"] for name in ("one", "two")]
    np.testing.assert_allclose(
        ratio.images[0].get_array()[:, 1], np.log10(np.divide(stddevs, first)), rtol=1e-4
    )
    assert dead.images[0].get_array().mask.tolist() == [[False, False], [True, True]]
