"""Pictures: drawn from plain rows, into a file of their own."""

import sys

import numpy as np
import pytest

from keras_winit import plots, propagate


@pytest.fixture(scope="module")
def results():
    options = {"depth": 12, "width": 40, "samples": 50}
    return [propagate(f"winit>{name}", **options) for name in ("small_normal", "zeros")]


def test_the_picture_shows_every_row(results, tmp_path):
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
    # Every entry is in its histogram, also of a layer that is narrower than a bar.
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
    # Mostly zeros: the others must be seen too.
    values[np.abs(values) < 0.2] = 0
    assert plots.kernel(values).axes[0].get_yscale() == "symlog"


def test_one_result_and_other_formats(results, tmp_path):
    plots.propagation(results[0], tmp_path / "out.svg")
    assert "<svg" in (tmp_path / "out.svg").read_text()
    assert plots.propagation(results[0]) is not None


def test_pyplot_is_left_alone(results):
    plots.propagation(results)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_without_matplotlib(monkeypatch, results):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        plots.propagation(results)
