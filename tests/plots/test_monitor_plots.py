"""`ActivationMonitor.plot` draws each kind of picture, or says what was not measured."""

import re
from dataclasses import replace

import numpy as np
import pytest
from support.boards import RECORD
from support.pictures import NAN, fading_run, record

from keras_winit import ActivationMonitor, plots

# Each kind of picture needs at least one of these statistics.
NEEDED = {
    "layers": "`unit_stddev`",
    "health": "`unit_stddev`, `gradient_norm`, `update_ratio`, `dead_share` or `saturated_share`",
    "strips": "`histogram`",
    "profile": "`unit_stddev`, `gradient_norm`, `dead_share` or `saturated_share`",
    "updates": "`update_ratio`",
}
OTHER_STATISTICS = replace(
    RECORD,
    counts=np.zeros((4, 0)),
    edges=np.zeros(0),
    statistics=("a", "b", "c"),
    variable_statistics=("d", "e"),
)
UNMEASURED = [
    ([], "0 records."),
    (
        [OTHER_STATISTICS],
        "1 record without. Measure them with `ActivationMonitor(statistics=...)`.",
    ),
    (
        [record(0, []), record(1, [])],
        "2 records without layers. Choose some with `ActivationMonitor(layers=...)`.",
    ),
]


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize(("records", "received"), UNMEASURED, ids=["none", "others", "no layers"])
def test_the_error_says_what_was_not_measured(kind, records, received):
    monitor = ActivationMonitor()
    monitor.history.records = records
    message = f"`plots.{kind}(records=...)` needs records with {NEEDED[kind]}. Received: {received}"
    with pytest.raises(plots.Unmeasured, match=f"^{re.escape(message)}$"):
        monitor.plot(kind=kind)


def test_the_error_says_that_all_values_are_nan():
    message = (
        "`plots.layers(records=...)` needs records with `unit_stddev`. "
        "Received: 1 record in which all values are NaN."
    )
    with pytest.raises(plots.Unmeasured, match=f"^{re.escape(message)}$"):
        plots.layers([record(0, [NAN, NAN])])


@pytest.mark.parametrize("kind", NEEDED)
def test_each_kind_is_drawn_and_saved(kind, tmp_path):
    monitor = ActivationMonitor()
    monitor.history.records = fading_run(3)
    picture = monitor.plot(tmp_path / "out.png", kind)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert type(picture).__name__ == "Figure"


def test_an_unknown_kind_is_refused():
    message = (
        "`ActivationMonitor.plot(kind=...)` must be one of layers, health, strips, profile, "
        "updates. Received: kind='pie'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ActivationMonitor().plot(kind="pie")
