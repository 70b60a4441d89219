"""Monitor and history as HTML: the same cells as in the printed table."""

import html
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
from support.boards import RECORD
from support.monitored import fit
from support.scenarios import X, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor.output.history_table import format_html, format_table

pytestmark = pytest.mark.backend_independent


def cells_of(text):
    """Return the rows of the tables in some HTML, each as the texts of its cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[html.unescape(cell) for cell in re.findall(r">([^<]*)</t[hd]>", row)] for row in rows]


def test_html_has_the_cells_of_the_printed_table():
    _, *lines = format_table(RECORD, {}).splitlines()
    rows = cells_of(format_html(RECORD, {}))
    assert [" ".join(row).split() for row in rows] == [line.split() for line in lines]
    assert rows[1][0] == "block/conv"


def test_names_and_notes_are_escaped():
    names = ("<script>", "b", "c", "d")
    text = format_html(replace(RECORD, layers=names), {"<i>": "why & how"})
    assert "<script>" not in text
    assert "<i>" not in text
    assert cells_of(text)[1][0] == "<script>"
    assert "why &amp; how" in text


def test_a_monitor_shows_its_table_and_its_findings():
    monitor = ActivationMonitor(verbose=0)
    assert "nothing was measured yet" in monitor._repr_html_()
    # A softmax over one unit is found at the first step.
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, "softmax")])
    fit(compiled(model, "sgd"), monitor, y=np.zeros((len(X), 1)))
    text = monitor._repr_html_()
    assert [row[0] for row in cells_of(text)][:2] == ["layer", model.layers[0].name]
    assert monitor.findings
    assert text.endswith(monitor.findings._repr_html_())
