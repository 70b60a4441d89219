"""Pictures of propagation and of kernels show every value, each in a figure of its own."""

import re
import sys

import numpy as np
import pytest

from keras_winit import plots, propagate


@pytest.fixture(scope="module")
def results():
    options = {"depth": 12, "width": 40, "samples": 50}
    return [propagate(f"winit>{name}", **options) for name in ("small_normal", "zeros")]


def test_a_picture_of_propagation_shows_every_layer(results, tmp_path):
    picture = plots.propagation(results, tmp_path / "out.png")
    data = (tmp_path / "out.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 20_000
    curves, *rows = picture.subfigs
    assert len(rows) == 2
    mean, stddev = curves.axes
    np.testing.assert_allclose(
        stddev.lines[0].get_ydata(), [layer.stddev for layer in results[0].layers]
    )
    np.testing.assert_allclose(
        mean.lines[0].get_ydata(), [layer.mean for layer in results[0].layers]
    )
    assert stddev.get_yscale() == "log"
    assert [axes.get_title() for axes in rows[0].axes][::9] == ["layer 1", "layer 12"]
    # Each histogram holds all entries, even if the layer is narrower than a bar.
    for axes in rows[0].axes:
        heights = axes.patches[0].get_data().values
        np.testing.assert_allclose(heights.sum(), 40 * 50)
    assert np.count_nonzero(rows[1].axes[0].patches[0].get_data().values) <= 2


def test_the_histogram_of_a_kernel_shows_every_value(tmp_path):
    values = np.random.default_rng(0).normal(0, 0.1, (40, 30))
    picture = plots.kernel(values, tmp_path / "out.png", "winit>x")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = picture.axes
    assert axes.get_title().startswith("winit>x (40, 30): mean ")
    bars = axes.patches[0].get_data()
    assert bars.values.sum() == 1200
    assert bars.edges[0] == values.min()
    assert bars.edges[-1] == values.max()
    assert axes.get_yscale() == "linear"


def test_a_kernel_of_mostly_zeros_has_a_log_axis():
    values = np.random.default_rng(0).normal(0, 0.1, (40, 30))
    values[np.abs(values) < 0.2] = 0
    assert plots.kernel(values).axes[0].get_yscale() == "symlog"


def test_a_single_result_in_another_format(results, tmp_path):
    plots.propagation(results[0], tmp_path / "out.svg")
    assert "<svg" in (tmp_path / "out.svg").read_text()


def test_pyplot_does_not_know_of_the_figures(results):
    plots.propagation(results)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_without_matplotlib(monkeypatch, results):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    sentence = "Pictures need matplotlib. Install it with `pip install matplotlib`."
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(sentence)}$"):
        plots.propagation(results)


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (plots.propagation, "`plots.propagation(results=...)` needs a result. Received: none."),
        (plots.kernel, "`plots.kernel(values=...)` needs values. Received: none."),
    ],
)
def test_nothing_to_draw(draw, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        draw([])
