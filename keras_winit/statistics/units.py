"""Per-unit statistics of a layer's output over the samples of a batch, inside the graph.

A unit is an output channel. The quick measure is that of `statistics.moments`. The careful
measure also holds where that one does not, and for masked outputs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_winit.statistics.graph import (
    INF,
    as_floats,
    as_matrix,
    backend_is,
    cond,
    finite,
    float32,
    is_traced_by_jax,
    traced_once,
)
from keras_winit.statistics.moments import (
    Moments,
    are_sound,
    quick_moments,
    quick_moments_on_torch,
    stddev_of,
)

# Bounds of the factor by which the careful measure divides; its reciprocal must be normal.
SCALES = 1e-37, 8e37


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
        return Units(*_careful_units(values, counts))
    samples = values.shape[0] or ops.shape(values)[0]
    if not backend_is("torch"):
        low, high, mean, variances, nonzero = quick_moments(values, per_row)
        return Moments(low, high, mean, variances, nonzero, samples, values)
    moments = quick_moments_on_torch(values, per_row)
    if moments is None:
        # The measure is taken at once, because later code may change a tensor in place.
        return Units(*_careful_units(values, None))
    low, high, mean, variances, nonzero = moments
    return Moments(low, high, mean, variances, nonzero, samples, None)


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
        stddev = stddev_of(variances)
        joined = _joined_quick_units(quick, low, high, mean, stddev)
        if not backend_is("torch"):
            sound = are_sound(low, high, mean, stddev)
        if not backend_is("torch") and not is_traced_by_jax(low):
            joined = cond(sound, lambda: joined, lambda: _joined_careful_units(quick))
            sound = True
        parts.insert(0, Units(*joined))
    return Units(*map(ops.concatenate, zip(*parts, strict=True))), sound


def _joined_quick_units(
    layers: Sequence[Moments], low: Any, high: Any, mean: Any, stddev: Any
) -> Units:
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


def _joined_careful_units(layers: Sequence[Moments]) -> Units:
    parts = [_careful_units(layer.values, None) for layer in layers]
    return Units(*map(ops.concatenate, zip(*parts, strict=True)))


@traced_once
def _careful_units(values: Any, counts: Any) -> Units:
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
