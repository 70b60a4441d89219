"""Histograms and quantiles agree with numpy."""

import math

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit import statistics
from keras_winit.statistics.distribution import _largest_coprimes

RNG = np.random.default_rng(0)


def test_histogram():
    values = np.concatenate([RNG.normal(size=500) * 10.0 ** RNG.integers(-6, 6, 500), [0, 1, -1]])
    values = np.append(values, [np.nan, np.inf]).astype("float32")[:, None]
    tensor = keras.ops.convert_to_tensor(values)
    counts = numpy(statistics.histogram(*statistics.flatten(tensor)))
    edges = statistics.EDGES.astype("float32")
    edges = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    expected = np.histogram(values[np.isfinite(values)], edges)[0]
    np.testing.assert_array_equal(counts, expected)


def test_the_edges_are_symmetric():
    np.testing.assert_allclose(statistics.EDGES, -statistics.EDGES[::-1])


def test_largest_coprimes():
    for width in range(1, 40):
        for number, coprime in enumerate(_largest_coprimes(width)):
            coprimes = [k for k in range(number + 1) if math.gcd(k, width) == 1]
            assert coprime == max(coprimes, default=-1)
    # The function must be fast enough for the size of a vocabulary.
    assert _largest_coprimes(50_000)[-1] == 49_999


@pytest.mark.parametrize("shape", [(3, 4), (400, 16), (5000, 3), (7, 1024)])
def test_quantiles(shape):
    values, shares = RNG.normal(size=shape).astype("float32"), (0, 0.1, 0.5, 0.99, 1)
    values[1, 1] = np.nan
    tensor = keras.ops.convert_to_tensor(values)
    measured = numpy(statistics.quantiles(*statistics.flatten(tensor), shares))
    strides = [s for s in range(1, max(values.size // 512, 1) + 1) if math.gcd(s, shape[1]) == 1]
    subset = values.reshape(-1)[:: strides[-1]]
    assert len(subset) >= min(512, values.size)
    expected = np.quantile(subset[np.isfinite(subset)], shares)
    np.testing.assert_allclose(measured, expected, rtol=1e-5)


def compiled(function):
    """Return the function compiled, on a backend that has a compiler."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def test_quantiles_of_an_empty_batch_are_nan():
    function = compiled(lambda values: statistics.quantiles(values, None, (0, 0.5, 1)))
    assert np.isnan(numpy(function(keras.ops.zeros((0, 4), "float32")))).all()
