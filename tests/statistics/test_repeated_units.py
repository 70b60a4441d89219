"""Repeated units of kernels against numpy."""

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit import statistics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("kernel", "count"),
    [
        (np.zeros((5, 8)), 1),
        (np.full((5, 8), 0.1), 1),
        (np.eye(8), 8),
        (np.tile(np.arange(5.0)[:, None], (1, 8)), 1),
        (np.tile(RNG.normal(size=(5, 2)), (1, 4)), 2),
        (np.tile(RNG.normal(size=(3, 3, 4, 3)), (1, 1, 1, 2)), 3),
        (RNG.normal(size=(5, 1)) * np.ones(8) * (1 + 1e-8 * np.arange(8)), 1),
        (RNG.normal(size=(5, 1)) * np.ones(8) * (1 + 1e-3 * np.arange(8)), 8),
        (np.full((5, 8), np.nan), 1),
        (np.array([[np.nan, np.nan, np.inf, np.inf, 1.0]]), 3),
    ],
)
def test_distinct_units(kernel, count):
    assert statistics.distinct_units(keras.ops.convert_to_tensor(kernel)) == count


def repeated_share(kernel, unit_axes):
    """Return the share of one kernel, measured between two kernels that must not change it."""
    sums = numpy(statistics.unit_sums(kernel, unit_axes))
    norm = np.linalg.norm(numpy(kernel).astype(np.float64))
    single_unit, four_units = [7.0], [3.0, 1.0, 2.0, 1.0]
    sums = np.concatenate([single_unit, sums, four_units])
    starts, norms = np.array([0, 1, len(sums) - 4]), np.array([1.0, norm, 1.0])
    before, share, after = statistics.repeated_share(sums, starts, norms)
    assert np.isnan(before)
    assert after == pytest.approx(1 / 3)
    return float(share)


def test_repeated_share():
    kernel = RNG.normal(size=(3, 8, 6)).astype("float32")
    kernel[..., 3] = kernel[..., 1]
    kernel[..., 4] = kernel[..., 1]
    tensor = keras.ops.convert_to_tensor(kernel)
    assert repeated_share(tensor, (2,)) == pytest.approx(1 - 3 / 5)
    # No two of the units along the other axis are equal.
    assert repeated_share(tensor, (1,)) == 0


def test_repeated_share_of_constants_is_one():
    assert repeated_share(keras.ops.zeros((4, 5)), (1,)) == 1
    assert repeated_share(keras.ops.ones((4, 5)), (0, 1)) == 1


def test_repeated_share_is_undefined_for_one_unit_and_for_infinite_weights():
    assert np.isnan(repeated_share(keras.ops.ones((4, 1)), (1,)))
    kernel = RNG.normal(size=(3, 8, 6)).astype("float32")
    kernel[0, 0, 0] = np.inf
    assert np.isnan(repeated_share(keras.ops.convert_to_tensor(kernel), (2,)))
