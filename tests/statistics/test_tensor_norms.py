"""Norms of tensors against numpy."""

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit import statistics

RNG = np.random.default_rng(0)


def norms_of(tensors):
    """Return norms and non-finite counts, by the careful measure where the quick one fails."""
    for careful in (False, True):
        lengths, nonfinite, sound = statistics.norms(lambda: tensors, careful)
        if sound:
            return numpy(lengths), numpy(nonfinite)
    raise AssertionError("the careful measure always holds")


@pytest.mark.parametrize("scales", [[1.0], [1.0, 1e-30], [1.0, 0.0, 1e-30, 1e30]])
def test_norms_of_any_scale(scales):
    tensors = [keras.ops.convert_to_tensor(s * np.arange(5.0), "float32") for s in scales]
    lengths, nonfinite = norms_of(tensors)
    np.testing.assert_allclose(lengths, np.array(scales) * 30**0.5, rtol=1e-6)
    np.testing.assert_array_equal(nonfinite, 0)


def test_entries_that_are_not_finite_are_counted():
    finite = keras.ops.convert_to_tensor(np.arange(5.0), "float32")
    broken = keras.ops.convert_to_tensor([1.0, np.nan, np.inf, -np.inf])
    lengths, nonfinite = norms_of([finite, broken])
    np.testing.assert_array_equal(nonfinite, [0, 3])
    assert lengths[0] == pytest.approx(30**0.5)
    assert not np.isfinite(lengths[1])


def test_quick_norms_agree_with_careful_norms():
    shapes = [(3, 3, 4, 8), (20, 30), (30,), (30,), ()]
    tensors = [keras.ops.convert_to_tensor(RNG.normal(size=shape), "float32") for shape in shapes]
    quick, _, sound = statistics.norms(lambda: tensors)
    careful, nonfinite, _ = statistics.norms(lambda: tensors, careful=True)
    assert sound
    np.testing.assert_allclose(numpy(quick), numpy(careful), rtol=1e-5)
    np.testing.assert_array_equal(numpy(nonfinite), 0)
