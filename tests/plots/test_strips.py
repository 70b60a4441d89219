"""Strips show the histograms of the layers."""

from dataclasses import replace

import numpy as np
from support.pictures import cells, fading_run, finding, record, tick_labels

from keras_winit import plots


def test_strips_show_the_histogram_of_each_layer():
    first, last = record(0, [1, 1]), record(7, [1, 1])
    first.counts[0] = [1, 0, 0, 0]
    last.counts[:] = [[0, 999, 1, 0], [0, 0, 0, 0]]
    without_histogram = replace(first, step=5, counts=np.zeros((2, 0)))
    picture = plots.strips([first, without_histogram, last])
    # The last bin is empty in all layers, so it is left out.
    shares = np.array([[[1, 0], [0, 0.999], [0, 0.001]], [[0, 0], [90 / 99, 0], [9 / 99, 0]]])
    for panel, expected in enumerate(shares):
        assert picture.axes[panel].get_ylim() == (-0.5, 2.5)
        values, black = cells(picture, panel)
        np.testing.assert_allclose(values.filled(0), np.log1p(1000 * expected), rtol=1e-6)
        assert black.tolist() == [[False, panel == 1]] * 3
    top, bottom, *_ = picture.axes
    assert top.get_title(loc="left") == "h0"
    assert tick_labels(top) == ["-1", "-0.01", "0", "0.01", "1"]
    # Ticks stand at the ends of bins, and in the middle of the bin around zero.
    np.testing.assert_allclose(top.get_yticks(), [-0.5, 0.49, 1, 1.51, 2.5], atol=0.01)
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["0", "7"]
    assert picture.get_suptitle() == "Histograms of 2 layer outputs, steps 0 to 7"


def test_many_layers_are_thinned_out():
    picture = plots.strips(fading_run(200, (0, 1)))
    assert picture.get_suptitle() == "Histograms of 50 of 200 layer outputs, steps 0 to 1"


def test_layers_with_warnings_and_errors_are_drawn_first():
    findings = [finding("net/h7"), finding("net/h8", "info")]
    picture = plots.strips(fading_run(200, (0, 1)), findings=findings, small=True)
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    # The panels run down the first column, then down the second.
    assert titles[:5] == ["h7", "h136", "h68", "h170", "h102"]
    assert picture.axes[0]._left_title.get_color() == "#b2182b"
