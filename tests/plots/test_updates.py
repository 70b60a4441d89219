"""Updates are drawn as a line for each kernel, or as the range of all kernels."""

import numpy as np
from support.pictures import NAN, finding, record

from keras_winit import plots


def legend_labels(picture):
    return [text.get_text().strip() for text in picture.legends[0].get_texts()]


def test_a_few_kernels_are_drawn_as_lines():
    ratios = np.array([[1e-3, 2e-3], [1e-2, NAN], [NAN, 5e-4]])
    records = [record(step, [1] * 3, update_ratio=ratios[:, step]) for step in (0, 1)]
    picture = plots.updates(records, findings=[finding("net/h1")])
    (axes,) = picture.axes
    rule_of_thumb, *lines = axes.lines
    assert set(rule_of_thumb.get_ydata()) == {1e-3}
    np.testing.assert_allclose([line.get_ydata() for line in lines], ratios)
    (band,) = axes.patches
    extent = band.get_extents().transformed(axes.transData.inverted())
    np.testing.assert_allclose(extent.intervaly, [3.7e-5, 6.4e-2])
    assert axes.get_title() == "Relative updates of 3 kernels"
    assert legend_labels(picture) == [
        *("healthy range", "rule of thumb, 0.001", "h0/kernel", "h1/kernel", "h2/kernel")
    ]
    colors = [text.get_color() for text in picture.legends[0].get_texts()[2:]]
    assert colors == ["black", "#b2182b", "black"]


def test_many_kernels_are_drawn_as_their_range():
    ratios = np.logspace(-6, -1, 41)
    records = [record(step, [1] * 41, update_ratio=ratios * (step + 1)) for step in (0, 1)]
    picture = plots.updates(records)
    (axes,) = picture.axes
    _, median, largest, smallest = axes.lines
    np.testing.assert_allclose(median.get_ydata(), [10**-3.5, 2 * 10**-3.5], rtol=1e-5)
    np.testing.assert_allclose(largest.get_ydata(), [0.1, 0.2], rtol=1e-5)
    np.testing.assert_allclose(smallest.get_ydata(), [1e-6, 2e-6], rtol=1e-5)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [1e-6, 0.2], rtol=1e-5)
    assert legend_labels(picture)[-2:] == [
        *("largest at the end: h40/kernel", "smallest at the end: h0/kernel")
    ]
