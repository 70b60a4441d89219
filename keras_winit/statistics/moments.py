"""Quick moments of units: few and fast reductions, exact where squares stay in range.

They do not hold for entries that are infinite, NaN, so large or small that their squares leave
the range of float32, or nearly constant about a large mean.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_winit.statistics.graph import as_matrix, backend_is, count_on_torch, traced_once

# Standard deviations between these bounds come from squares that neither over- nor underflowed.
BOUNDS = {"tensorflow": (1e-15, 1e15), "torch": (1e-15, 1e15), "jax": (1e-28, 1e25)}

# Factors by which JAX multiplies deviations before it squares them, one for small deviations and
# one for large ones, and the limit between these. A power of two rounds nothing.
SMALL, LARGE, LIMIT = 2.0**44, 2.0**-24, 1e5

# The quick mean is precise enough for a standard deviation of at least this share of it.
LEAST_SHARE = 1e-3

# Rows that float32 adds up one after another without losing the fifth digit.
ROWS = 1024


class Moments(NamedTuple):
    """Quick moments of one layer of U units, which `join_units` makes `Units`.

    Args:
        low: Smallest entry of each unit, of shape (U,).
        high: Largest entry, of shape (U,).
        mean: Mean, of shape (U,).
        variances: Population variances, each of shape (U,): one, or on JAX two, of deviations
            multiplied by `SMALL` and by `LARGE`.
        nonzero: Number of entries that are not zero: a scalar, or on JAX of shape (U,).
        samples: Number of entries of each unit. An int or a scalar.
        values: The entries, of shape (samples, U), for the careful measure.
    """

    low: Any
    high: Any
    mean: Any
    variances: tuple[Any, ...]
    nonzero: Any
    samples: Any
    values: Any


def samples_per_row(shape: Sequence[int | None], unit_axis: int = -1) -> int:
    """Return how many samples the quick moments may lay side by side in one wider row.

    They are positions of one example, so that the number divides any batch. Wider and fewer
    rows lose less precision where a column is added up one by one, and are faster where they
    are narrow.

    Args:
        shape: Shape of the values that `flatten` gets. None: an axis of unknown size.
        unit_axis: Axis of the units. Defaults to the last.
    """
    inner = [length for length in shape[1:] if length is not None]
    if not inner or len(inner) < len(shape) - 1:
        return 1
    width = inner.pop(unit_axis - 1 if unit_axis > 0 else unit_axis)
    count = math.prod(inner)
    most = max(256 // max(width, 1), math.isqrt(count))
    return next((k for k in range(min(most, count), 1, -1) if count % k == 0), 1)


@traced_once
def quick_moments(values: Any, per_row: int) -> tuple[Any, ...]:
    """Return the first five fields of `Moments`, on TensorFlow or JAX."""
    width = values.shape[1]
    wide = values if per_row == 1 else as_matrix(values, per_row * width)
    if backend_is("jax"):
        # Anything else than a single reduction of simple functions, such as another one over
        # the columns of a row, takes XLA ten times as long to compile.
        long = values.shape[0] > ROWS
        return (
            ops.min(values, axis=0),
            ops.max(values, axis=0),
            *_moments(wide if long else values, width),
            ops.sum(ops.abs(ops.sign(values)), axis=0),
        )
    import tensorflow as tf

    low, high = tf.reduce_min(wide, axis=0), tf.reduce_max(wide, axis=0)
    if per_row > 1:
        low = tf.reduce_min(as_matrix(low, width), axis=0)
        high = tf.reduce_max(as_matrix(high, width), axis=0)
    # Unlike a comparison and a sum, these two are vectorized.
    return low, high, *_moments(wide, width), 2 * tf.nn.l2_loss(tf.sign(wide))


def _moments(wide: Any, width: int) -> tuple[Any, tuple[Any, ...]]:
    """Return the mean and the variances of each unit; rows of `wide` may hold several samples."""
    scales = (SMALL, LARGE) if backend_is("jax") else (1.0,)
    mean, variances = _column_moments(wide, scales)
    if wide.shape[1] == width:
        return mean, variances
    means = as_matrix(mean, width)
    mean = ops.mean(means, axis=0)
    return mean, tuple(
        ops.mean(as_matrix(variance, width) + ops.square(scale * (means - mean)), axis=0)
        for variance, scale in zip(variances, scales, strict=True)
    )


def _column_moments(wide: Any, scales: Sequence[float]) -> tuple[Any, tuple[Any, ...]]:
    if backend_is("jax"):
        share = 1 / wide.shape[0]
        mean = ops.sum(share * wide, axis=0)
        return mean, tuple(
            ops.sum(share * ops.square(scale * (wide - mean)), axis=0) for scale in scales
        )
    import tensorflow as tf

    # The kernels of a bias are three times as fast as a mean and a broadcast difference.
    rows = tf.cast(tf.shape(wide)[0], "float32")
    mean = tf.raw_ops.BiasAddGrad(out_backprop=wide) / rows
    deviation = tf.nn.bias_add(wide, -mean)
    return mean, (tf.raw_ops.BiasAddGrad(out_backprop=tf.square(deviation)) / rows,)


def quick_moments_on_torch(values: Any, per_row: int) -> tuple[Any, ...] | None:
    """Return the first five fields of `Moments` in few calls; None if they do not hold.

    Over an axis, `aminmax` and `var_mean` would take ten times as long.
    """
    import torch

    wide = values.reshape(-1, per_row * values.shape[1])

    def over_rows(reduce: Any) -> Any:
        columns = reduce(wide, 0)
        return columns if per_row == 1 else reduce(columns.view(per_row, -1), 0)

    low, high, mean = over_rows(torch.amin), over_rows(torch.amax), torch.mean(wide, 0)
    deviation = wide - mean
    variance = torch.mean(deviation.square_(), 0)
    if per_row > 1:
        means = mean.view(per_row, -1)
        mean = torch.mean(means, 0)
        variance = torch.mean(variance.view(per_row, -1) + (means - mean).square_(), 0)
    least, most = (bound**2 for bound in BOUNDS["torch"])
    margin = torch.addcmul(variance, mean, mean, value=-(LEAST_SHARE**2))
    # These are the conditions of `are_sound`, with a single read from the device.
    smallest, largest = torch.where(low == high, 1 + (high - low), margin).aminmax()
    if not least < smallest <= largest < most:
        return None
    return low, high, mean, (variance,), count_on_torch("ne", wide, 0, deviation)


def are_sound(low: Any, high: Any, mean: Any, stddev: Any) -> Any:
    """Return whether the quick moments hold for all of these units."""
    least, most = BOUNDS[keras.backend.backend()]
    margin = stddev - LEAST_SHARE * ops.abs(mean)
    # A constant unit is exact. The difference is NaN for one that is infinite throughout.
    margin = ops.where(ops.equal(low, high), 1 + (high - low), margin)
    # Both comparisons are false for NaN.
    return ops.all(ops.logical_and(margin > least, margin < most))


def stddev_of(variances: Sequence[Any]) -> Any:
    """Return the standard deviations of units, given their `variances` as in `Moments`."""
    if len(variances) == 1:
        return ops.sqrt(variances[0])
    small, large = (ops.sqrt(v) / s for v, s in zip(variances, (SMALL, LARGE), strict=True))
    return ops.where(small < LIMIT, small, large)
