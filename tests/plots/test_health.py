"""Health maps show the measured values: as ratios, as black cells and as gray cells."""

from dataclasses import replace

import numpy as np
import pytest
from support.pictures import INF, NAN, cells, record, render

from keras_winit import plots


def test_the_signal_is_relative_to_the_first_layer():
    records = [record(0, [0.8, 0.4, 0.08]), record(5, [0.8, 8, 0])]
    values, black = cells(plots.health(records))
    expected = np.log10(np.array([[0.8, 0.8], [0.4, 8], [0.08, 1]]) / 0.8)
    np.testing.assert_allclose(values[:2], expected[:2], atol=1e-6)
    np.testing.assert_allclose(values[2, 0], -1, atol=1e-6)
    # A signal of zero has the deepest color.
    assert values[2, 1] < -2
    assert not np.ma.getmaskarray(values).any()
    assert not black.any()


@pytest.mark.parametrize(
    ("first", "reference"), [(50, 1.3), (1e-5, 0.07), (0, 0.07), (NAN, 1.3), (0.5, 0.5)]
)
def test_the_reference_is_limited_to_the_healthy_range(first, reference):
    values, _ = cells(plots.health([record(0, [first, 0.65])]))
    np.testing.assert_allclose(values[1, 0], np.log10(0.65 / reference), atol=1e-6)


def test_the_reference_is_the_first_layer_with_a_kernel():
    original = record(0, [0.1, 0.5, 1])
    without_kernel = replace(original, variables=("x/kernel", *original.variables[1:]))
    values, _ = cells(plots.health([without_kernel]))
    np.testing.assert_allclose(values[:, 0], np.log10([0.2, 1, 2]), atol=1e-6)


def test_the_last_layer_is_shown_before_its_activation():
    renamed = replace(record(0, [1, 0.01, 2]), layers=("net/h0", "net/out", "net/out.pre"))
    values, _ = cells(plots.health([renamed]))
    np.testing.assert_allclose(values[:, 0], np.log10([1, 2]), atol=1e-6)


def test_gradients_are_relative_to_the_median_and_updates_to_the_target():
    first = record(0, [1] * 4, gradient_norm=[1, 10, 100, 0], update_ratio=[1e-3, 1e-2, 1e-4, 1e-3])
    # The gradients have another scale, and one kernel does not move while others do.
    resting = {"update_norm": [2, 2, 2, 0], "update_ratio": [1, 1, 1, NAN]}
    second = record(1, [1] * 4, gradient_norm=[7, 70, 700, NAN], **resting)
    # No kernel moves: gradients are being accumulated.
    third = record(2, [1] * 4, update_norm=0, update_ratio=NAN)
    picture = plots.health([first, second, third])
    gradient, _ = cells(picture, 1)
    np.testing.assert_allclose(gradient[:3, :2], [[-1, -1], [0, 0], [1, 1]], atol=1e-6)
    assert gradient[3, 0] < -2
    assert np.ma.getmaskarray(gradient)[3].tolist() == [False, True, False]
    update, _ = cells(picture, 2)
    np.testing.assert_allclose(update[:, 0], [0, 1, -1, 0], atol=1e-6)
    assert update[3, 1] < -2
    assert np.ma.getmaskarray(update)[:, 2].all()
    assert [axes.images[0].get_clim() for axes in picture.axes[:4]] == [(-2, 2)] * 3 + [(0, 1)]


@pytest.fixture
def broken_record():
    broken = {"nonfinite": [0, 3, 5], "dead_share": [0.5, NAN, NAN]}
    gradients = {"gradient_norm": [INF, NAN, NAN], "gradient_nonfinite": [0, 0, 4]}
    return record(0, [1, 1, NAN], **gradients, **broken)


def test_black_cells_are_not_finite_and_gray_cells_have_no_value(broken_record):
    picture = plots.health([broken_record])
    signal, gradient, _, dead = (cells(picture, panel) for panel in range(4))
    assert signal[1][:, 0].tolist() == [False, True, True]
    assert gradient[1][:, 0].tolist() == [True, False, True]
    assert np.ma.getmaskarray(gradient[0])[:, 0].tolist() == [True, True, True]
    assert dead[1][:, 0].tolist() == [False, True, True]
    labels = [text.get_text() for text in picture.legends[0].get_texts()]
    assert labels == ["NaN or infinite", "no value"]


def test_black_and_gray_reach_the_pixels(broken_record):
    picture = plots.health([broken_record])
    pixels = render(picture)
    for panel, row, color in ((0, 2, 0), (1, 1, 224), (1, 2, 0)):
        axes = picture.axes[panel]
        x, y = axes.transData.transform((-0.3, row + 0.3))
        around = pixels[round(len(pixels) - y) - 3 :, round(x) :][:7, :7]
        assert np.median(around, axis=(0, 1)).tolist() == [color] * 3


def test_without_a_count_of_nonfinite_entries_a_spread_of_nan_is_black(broken_record):
    uncounted = replace(broken_record, statistics=("unit_stddev", "dead_share", "x", "y"))
    assert cells(plots.health([uncounted]))[1][:, 0].tolist() == [False, False, True]


def test_a_single_nan_among_many_steps_stays_visible():
    records = [record(step, [1, 1]) for step in range(1000)]
    records[501] = record(501, [1, NAN], nonfinite=[0, 9])
    records[700] = record(700, [1e-3, 1])
    values, black = cells(plots.health(records))
    assert black.shape == values.shape == (2, 250)
    assert np.argwhere(black).tolist() == [[1, 501 // 4]]
    assert np.argwhere(values < -2).tolist() == [[0, 700 // 4]]


def test_the_title_counts_layers_and_findings():
    records = [record(3, [1, 1])]
    assert plots.health(records).get_suptitle() == (
        "Health of 2 layers, step 3: pale colors are healthy"
    )
    finding = {"layer": "net/h1", "severity": "info"}
    assert plots.health(records, findings=[finding]).get_suptitle() == (
        "Health of 2 layers (1 with findings), step 3: pale colors are healthy"
    )
