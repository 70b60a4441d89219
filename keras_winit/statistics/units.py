"""Per-unit statistics of a layer's output over the samples of a batch, inside the graph.

A unit is an output channel. The quick measure takes few and fast reductions and is exact
unless entries are infinite, NaN, so large or small that their squares leave the range of
float32, or nearly constant about a large mean. The careful measure holds for all of these,
and for masked outputs.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_winit.statistics.graph import (
    INF,
    as_floats,
    as_matrix,
    backend_is,
    cond,
    count_on_torch,
    finite,
    float32,
    is_traced_by_jax,
    traced_once,
)

# Standard deviations between these bounds come from squares that neither over- nor underflowed.
BOUNDS = {"tensorflow": (1e-15, 1e15), "torch": (1e-15, 1e15), "jax": (1e-28, 1e25)}

# Factors by which JAX multiplies deviations before it squares them, one for small deviations and
# one for large ones, and the limit between these. A power of two rounds nothing.
SMALL, LARGE, LIMIT = 2.0**44, 2.0**-24, 1e5

# The quick mean is precise enough for a standard deviation of at least this share of it.
LEAST_SHARE = 1e-3

# Bounds of the factor by which the careful measure divides; its reciprocal must be normal.
SCALES = 1e-37, 8e37

# Rows that float32 adds up one after another without losing the fifth digit.
ROWS = 1024


class Units(NamedTuple):
    """Statistics of U units in L layers over the finite entries; all float32 tensors.

    The mean is stored as half of its distance from `low`: the distance does not cancel, and
    half of it does not overflow.

    Args:
        low: Smallest finite entry of each unit, of shape (U,). Infinite if there is none.
        high: Largest finite entry, of shape (U,).
        rise: Half of the mean's distance from `low`, of shape (U,).
        stddev: Standard deviation, of shape (U,).
        missing: Number of entries that are masked or not finite, of shape (U,).
        zeros: Number of entries that are exactly zero in each layer, of shape (L,).
        nonfinite: Number of NaN and infinite entries that are not masked, of shape (L,).
        samples: Number of entries of each unit, the missing ones included, of shape (L,).
    """

    low: Any
    high: Any
    rise: Any
    stddev: Any
    missing: Any
    zeros: Any
    nonfinite: Any
    samples: Any


class Moments(NamedTuple):
    """Result of the quick measure for one layer of U units; `join_units` makes it `Units`.

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


def flatten(values: Any, mask: Any = None, unit_axis: int = -1) -> tuple[Any, Any]:
    """Return values as float32 of shape (samples, units), and which of them count.

    Args:
        values: Tensor of rank 1 or more. A tensor of rank 1, or one whose number of units is
            not static, is taken for a single unit.
        mask: Boolean tensor, of the shape of the leading axes of `values`. None: all count.
        unit_axis: Axis of the units. Defaults to the last.

    Returns:
        The matrix, and a boolean matrix of the same shape or None.
    """
    rank, values = len(values.shape), float32(values)
    if mask is not None:
        mask = ops.reshape(mask, (*ops.shape(mask), *(1,) * (rank - len(mask.shape))))
        mask = ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(values))
    width = 1 if rank == 1 else values.shape[unit_axis] or 1

    def rows(tensor: Any) -> Any:
        if unit_axis not in (-1, rank - 1):
            tensor = ops.moveaxis(tensor, unit_axis, -1)
        return tensor if tensor.shape[1:] == (width,) else as_matrix(tensor, width)

    return rows(values), None if mask is None else rows(mask)


def samples_per_row(shape: Sequence[int | None], unit_axis: int = -1) -> int:
    """Return how many samples the quick measure may lay side by side in one wider row.

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


def reduce_units(
    values: Any, counts: Any = None, per_row: int = 1, careful: bool = False
) -> Moments | Units:
    """Reduce the matrix of `flatten` over the samples.

    Args:
        values: Float32 tensor of shape (samples, units).
        counts: Boolean tensor of the same shape, or None.
        per_row: Result of `samples_per_row`; a divisor of the number of samples.
        careful: Whether to take the careful measure at once.

    Returns:
        `Moments`, or `Units` where the careful measure was taken.
    """
    if careful or counts is not None:
        return Units(*_careful(values, counts))
    samples = values.shape[0] or ops.shape(values)[0]
    if not backend_is("torch"):
        low, high, mean, variances, nonzero = _quick(values, per_row)
        return Moments(low, high, mean, variances, nonzero, samples, values)
    moments = _quick_on_torch(values, per_row)
    if moments is None:
        # Taken at once, because later code may change a tensor in place.
        return Units(*_careful(values, None))
    low, high, mean, variances, nonzero = moments
    return Moments(low, high, mean, variances, nonzero, samples, None)


@traced_once
def _quick(values: Any, per_row: int) -> tuple[Any, ...]:
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


def _quick_on_torch(values: Any, per_row: int) -> tuple[Any, ...] | None:
    """Take the quick measure in few calls; return None if it does not hold.

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
    # As in `_sound`, but with a single read from the device.
    smallest, largest = torch.where(low == high, 1 + (high - low), margin).aminmax()
    if not least < smallest <= largest < most:
        return None
    return low, high, mean, (variance,), count_on_torch("ne", wide, 0, deviation)


def _sound(low: Any, high: Any, mean: Any, stddev: Any) -> Any:
    """Return whether the quick measure holds for all of these units."""
    least, most = BOUNDS[keras.backend.backend()]
    margin = stddev - LEAST_SHARE * ops.abs(mean)
    # A constant unit is exact. The difference is NaN for one that is infinite throughout.
    margin = ops.where(ops.equal(low, high), 1 + (high - low), margin)
    # Both comparisons are false for NaN.
    return ops.all(ops.logical_and(margin > least, margin < most))


def _stddev(variances: Sequence[Any]) -> Any:
    if len(variances) == 1:
        return ops.sqrt(variances[0])
    small, large = (ops.sqrt(v) / s for v, s in zip(variances, (SMALL, LARGE), strict=True))
    return ops.where(small < LIMIT, small, large)


def join_units(layers: Sequence[Moments | Units]) -> tuple[Units, Any]:
    """Concatenate the results of `reduce_units` for several layers.

    Args:
        layers: One or more results, all `Moments` before all `Units`.

    Returns:
        The joined `Units`, and a boolean: whether they are exact. If not, the careful measure
        is needed; only a function that JAX traces leaves that to the caller, because XLA would
        take most of its compile time for a branch that hardly ever runs.
    """
    quick = [layer for layer in layers if isinstance(layer, Moments)]
    parts, sound = [layer for layer in layers if isinstance(layer, Units)], True
    if quick:
        columns = zip(*((m.low, m.high, m.mean, *m.variances) for m in quick), strict=True)
        low, high, mean, *variances = [ops.concatenate(column) for column in columns]
        stddev = _stddev(variances)
        joined = _joined(quick, low, high, mean, stddev)
        if not backend_is("torch"):
            sound = _sound(low, high, mean, stddev)
        if not backend_is("torch") and not is_traced_by_jax(low):
            joined = cond(sound, lambda: joined, lambda: _all_careful(quick))
            sound = True
        parts.insert(0, Units(*joined))
    return Units(*map(ops.concatenate, zip(*parts, strict=True))), sound


def _joined(layers: Sequence[Moments], low: Any, high: Any, mean: Any, stddev: Any) -> Units:
    samples = as_floats([layer.samples for layer in layers])
    entries = samples * as_floats([layer.low.shape[0] for layer in layers])
    if backend_is("jax"):

        def total(per_unit: Any) -> Any:
            widths = [layer.low.shape[0] for layer in layers]
            owners = np.repeat(np.arange(len(layers)), widths)
            return ops.segment_sum(per_unit, owners, num_segments=len(layers), sorted=True)

        nonzero = total(ops.concatenate([layer.nonzero for layer in layers]))
        # If the careful measure fails, this many entries at least are known not to be finite.
        nonfinite = total(1 - ops.cast(ops.isfinite(high - low), "float32"))
    else:
        nonzero, nonfinite = ops.stack([layer.nonzero for layer in layers]), ops.zeros_like(entries)
    # The mean and the deviation of a constant unit are rounded, or have overflowed.
    varies = ops.not_equal(low, high)
    return Units(
        low=low,
        high=high,
        rise=ops.where(varies, (mean - low) / 2, 0.0),
        stddev=ops.where(varies, stddev, 0.0),
        missing=ops.zeros_like(low),
        zeros=entries - nonzero,
        nonfinite=nonfinite,
        samples=samples,
    )


def _all_careful(layers: Sequence[Moments]) -> Units:
    parts = [_careful(layer.values, None) for layer in layers]
    return Units(*map(ops.concatenate, zip(*parts, strict=True)))


@traced_once
def _careful(values: Any, counts: Any) -> Units:
    """Take the careful measure of one layer."""
    valid, width = finite(values, counts), values.shape[1]
    number = ops.sum(ops.cast(valid, "float32"), axis=0)
    low = ops.min(ops.where(valid, values, INF), axis=0)
    high = ops.max(ops.where(valid, values, -INF), axis=0)
    not_empty = low <= high
    center, half = ops.where(not_empty, low / 2 + high / 2, 0.0), high / 2 - low / 2
    # Neither the scale nor its reciprocal is too small to be exact.
    scale = ops.clip(ops.where(not_empty, half, 1.0), *SCALES)
    scaled = ops.where(valid, (values - center) * (1 / scale), 0.0)
    divisor = ops.maximum(number, 1.0)
    mean = ops.sum(scaled, axis=0) / divisor
    deviation = ops.where(valid, scaled - mean, 0.0)
    samples = ops.cast(ops.shape(values)[0], "float32")
    counted = samples * width if counts is None else ops.sum(ops.cast(counts, "float32"))
    zeros = ops.sum(ops.cast(ops.logical_and(valid, values == 0), "float32"))
    return Units(
        low=low,
        high=high,
        rise=ops.where(low < high, scale * (mean / 2) + half / 2, 0.0),
        stddev=scale * ops.sqrt(ops.sum(ops.square(deviation), axis=0) / divisor),
        missing=samples - number,
        zeros=ops.reshape(zeros, (1,)),
        nonfinite=ops.reshape(counted - ops.sum(number), (1,)),
        samples=ops.reshape(samples, (1,)),
    )
