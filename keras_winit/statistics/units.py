"""What each unit of a layer does over the samples: reduced in the graph."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_winit.statistics.graph import (
    INF,
    Segments,
    as_floats,
    backend_is,
    cond,
    finite,
    float32,
    groups,
    how_many,
    in_a_row,
    matrix,
    once_for_all,
)

# Between these no square has over- or underflowed.
LEAST, MOST = 1e-30, 1e30

# By what entries are divided where that does not hold.
SCALES = 1e-37, 8e37

# Of the mean square, what a variance must have for the mean to be fine enough.
COARSE = 1e-6


class Units(NamedTuple):
    """What the U units of L layers did over the samples; non-finite entries are only counted.

    All is float32. The mean is given from the lowest entry, where it does not cancel, and by
    half, where it does not overflow.

    Args:
        low: The smallest finite entry of each unit, of shape (U,). Infinite if there is none.
        high: The largest.
        rise: Half of what the mean is above `low`.
        stddev: Of the finite entries.
        missing: Count of entries that are not finite, or do not count.
        zeros: Entries exactly zero of each layer, of shape (L,).
        nonfinite: NaN and infinite entries among those that count.
        samples: Entries of each unit, `missing` ones too.
    """

    low: Any
    high: Any
    rise: Any
    stddev: Any
    missing: Any
    zeros: Any
    nonfinite: Any
    samples: Any


class Reduced(NamedTuple):
    """What a first look at a layer with U units gives; `joined` makes `Units` of it.

    Args:
        low: The smallest entry of each unit, of shape (U,).
        high: The largest.
        mean: Of each unit.
        variance: Of each unit.
        nonzero: Count of all entries that are not zero.
        samples: Count of the entries of a unit.
        values: The entries, of shape (samples, units), should they need a closer look; None
            on torch, where they have had it.
    """

    low: Any
    high: Any
    mean: Any
    variance: Any
    nonzero: Any
    samples: Any
    values: Any


def flatten(values: Any, mask: Any = None, unit_axis: int = -1) -> tuple[Any, Any]:
    """Values as float32 of shape (samples, units), and which of them count; None if all do.

    Args:
        values: Any shape of rank 1 or more; of rank 1, or if the number of units is not known
            before the step runs, it is one unit.
        mask: Boolean, of the shape of the leading axes of `values`. None: all count.
        unit_axis: Where the units lie.
    """
    rank, values = len(values.shape), float32(values)
    if mask is not None:
        mask = ops.reshape(mask, (*ops.shape(mask), *(1,) * (rank - len(mask.shape))))
        mask = ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(values))
    width = 1 if rank == 1 else values.shape[unit_axis] or 1

    def rows(tensor: Any) -> Any:
        if unit_axis not in (-1, rank - 1):
            tensor = ops.moveaxis(tensor, unit_axis, -1)
        return tensor if tensor.shape[1:] == (width,) else matrix(tensor, width)

    return rows(values), None if mask is None else rows(mask)


def side_by_side(shape: Sequence[int | None], unit_axis: int = -1) -> int:
    """How many samples `reduced` may take side by side, as one of that many more units.

    Some of those of one example: columns are added up one by one on TensorFlow, so short
    ones lose less, and narrow rows are slow everywhere.

    Args:
        shape: Of the values that `flatten` gets; an axis of unknown size is None.
        unit_axis: As there.
    """
    inner = [size for size in shape[1:] if size is not None]
    if not inner or len(inner) < len(shape) - 1:
        return 1
    width = inner.pop(unit_axis - 1 if unit_axis > 0 else unit_axis)
    count = math.prod(inner)
    most = max(256 // max(width, 1), math.isqrt(count))
    return next((k for k in range(min(most, count), 1, -1) if count % k == 0), 1)


def reduced(values: Any, counts: Any = None, beside: int = 1) -> Reduced | Units:
    """Reduce what `flatten` gave over the samples, as far as it goes for one layer.

    Args:
        values: Of shape (samples, units).
        counts: Likewise, or None.
        beside: What `side_by_side` gave; a divisor of the number of samples.
    """
    if counts is not None:
        return Units(*_by_columns(values, counts))
    if backend_is("torch"):
        return _reduced_by_torch(values, beside)
    if backend_is("jax"):
        import jax

        # Or else XLA may round what others make of them in another way.
        values = jax.lax.optimization_barrier(values)
    width = values.shape[1]
    wide = values if beside == 1 else matrix(values, beside * width)
    rows = wide.shape[0] or ops.cast(ops.shape(wide)[0], "float32")

    def over(reduce: Any, wide: Any) -> Any:
        once = reduce(wide, axis=0)
        return once if beside == 1 else reduce(matrix(once, width), axis=0)

    mean, variance = _moments(wide, rows)
    if beside > 1:
        columns = matrix(mean, width)
        mean = ops.mean(columns, axis=0)
        variance = ops.mean(matrix(variance, width) + ops.square(columns - mean), axis=0)
    return Reduced(
        low=over(ops.min, wide),
        high=over(ops.max, wide),
        mean=mean,
        variance=variance,
        nonzero=_nonzero(wide),
        samples=rows * beside,
        values=values,
    )


def _moments(wide: Any, rows: Any) -> tuple[Any, Any]:
    """Mean and variance of each column."""
    if not backend_is("tensorflow"):
        mean = ops.mean(wide, axis=0)
        return mean, ops.mean(ops.square(wide - mean), axis=0)
    import tensorflow as tf

    # What dense layers do forth and back is three times as fast as a mean and a difference.
    mean = tf.raw_ops.BiasAddGrad(out_backprop=wide) / rows
    off = tf.nn.bias_add(wide, -mean)
    return mean, tf.raw_ops.BiasAddGrad(out_backprop=tf.square(off)) / rows


def _nonzero(wide: Any) -> Any:
    if backend_is("tensorflow"):
        import tensorflow as tf

        # Unlike a comparison, it does these many at a time.
        return 2 * tf.nn.l2_loss(tf.sign(wide))
    # Not a comparison, which XLA would write to memory; columns first, as it adds up a row one
    # by one.
    return ops.sum(ops.sum(ops.abs(ops.sign(wide)), axis=0))


def _reduced_by_torch(values: Any, beside: int) -> Reduced | Units:
    """In few and fast calls: over an axis, `aminmax` and `var_mean` take ten times as long."""
    import torch

    wide = values.reshape(-1, beside * values.shape[1])

    def over(reduce: Any, wide: Any) -> Any:
        once = reduce(wide, 0)
        return once if beside == 1 else reduce(once.view(beside, -1), 0)

    low, high, mean = over(torch.amin, wide), over(torch.amax, wide), torch.mean(wide, 0)
    off = wide - mean
    variance = torch.mean(off.square_(), 0)
    if beside > 1:
        columns = mean.view(beside, -1)
        mean = torch.mean(columns, 0)
        within = variance.view(beside, -1)
        variance = torch.mean(within + (columns - mean).square_(), 0)
    told = torch.addcmul(variance, mean, mean, value=-COARSE)
    # Their difference is NaN of units that are infinite throughout.
    least, most = torch.where(low == high, 1 + (high - low), told).aminmax()
    # At once, as who comes after may change a tensor in place.
    if not LEAST < least <= most < MOST:
        return Units(*_by_columns(values, None))
    nonzero = how_many("ne", wide, 0, off)
    return Reduced(low, high, mean, variance, nonzero, len(values), None)


def joined(layers: Sequence[Reduced | Units]) -> Units:
    """Of several layers in a row, those that are `Reduced` first."""
    plain = [one for one in layers if isinstance(one, Reduced)]
    parts = [one for one in layers if isinstance(one, Units)]
    if backend_is("torch"):
        made = [_together(plain, *_columns(plain))] if plain else []
    else:
        sizes = [(one.values.shape[0] or 128) * one.values.shape[1] for one in plain]
        made = [_checked(plain[group]) for group in groups(sizes)] if plain else []
    return Units(*map(ops.concatenate, zip(*made, *parts, strict=True)))


def _columns(layers: Sequence[Reduced]) -> list[Any]:
    """Low, high, mean and variance of all units in a row."""
    return [ops.concatenate(parts) for parts in zip(*(one[:4] for one in layers), strict=True)]


def _checked(layers: Sequence[Reduced]) -> Units:
    """As it is, where that tells the spread; by a closer look where not."""
    low, high, mean, variance = columns = _columns(layers)
    told = variance - COARSE * ops.square(mean)
    # Their difference is NaN of units that are infinite throughout.
    told = ops.where(ops.equal(low, high), 1 + (high - low), told)
    # Neither is true of NaN.
    sound = ops.all(ops.logical_and(told > LEAST, told < MOST))

    def closer() -> tuple[Any, ...]:
        return tuple(_closer([one.values for one in layers]))

    return Units(*cond(sound, lambda: tuple(_together(layers, *columns)), closer))


def _together(layers: Sequence[Reduced], low: Any, high: Any, mean: Any, variance: Any) -> Units:
    samples = as_floats([one.samples for one in layers])
    sizes = samples * as_floats([one.low.shape[0] for one in layers])
    # Of a constant, mean and variance are rounded, if they have not overflowed.
    differ = ops.not_equal(low, high)
    return Units(
        low=low,
        high=high,
        rise=ops.where(differ, (mean - low) / 2, 0.0),
        stddev=ops.where(differ, ops.sqrt(variance), 0.0),
        missing=ops.zeros_like(low),
        zeros=sizes - ops.stack([one.nonzero for one in layers]),
        nonfinite=ops.zeros_like(sizes),
        samples=samples,
    )


def _closer(layers: Sequence[Any]) -> Units:
    """Of entries of any size, and not finite ones among them; in few operations for many."""
    if len(layers) == 1:
        return Units(*_by_columns(layers[0], None))
    widths = [values.shape[1] for values in layers]
    flat, row, sizes = in_a_row(layers)
    # Each entry's place in its layer, then its unit among those of all.
    place = ops.arange(ops.size(flat), dtype="int32") - row.each(ops.cumsum(sizes) - sizes)
    first = ops.convert_to_tensor(np.cumsum([0, *widths])[:-1], "int32")
    width = row.each(ops.convert_to_tensor(widths, "int32"))
    unit = Segments(row.each(first) + place % width, sum(widths))
    valid = ops.isfinite(flat)
    low, high, rise, stddev, total = _of_some(flat, valid, unit)
    sizes = ops.cast(sizes, "float32")
    samples = sizes / as_floats(widths)
    return Units(
        low=low,
        high=high,
        rise=rise,
        stddev=stddev,
        missing=ops.take(samples, np.repeat(np.arange(len(widths)), widths)) - total,
        zeros=row.add(ops.cast(flat == 0, "float32")),
        nonfinite=sizes - row.add(ops.cast(valid, "float32")),
        samples=samples,
    )


@once_for_all
def _by_columns(values: Any, counts: Any) -> Units:
    """The same of one layer, of whose entries some may not count."""
    valid, unit = finite(values, counts), _Columns()
    low, high, rise, stddev, total = _of_some(values, valid, unit)
    samples = ops.cast(ops.shape(values)[0], "float32")
    counted = samples * values.shape[1] if counts is None else _number(counts)
    return Units(
        low=low,
        high=high,
        rise=rise,
        stddev=stddev,
        missing=samples - total,
        zeros=ops.reshape(_number(ops.logical_and(valid, values == 0)), (1,)),
        nonfinite=ops.reshape(counted - ops.sum(total), (1,)),
        samples=ops.reshape(samples, (1,)),
    )


def _number(flags: Any) -> Any:
    return ops.sum(ops.cast(flags, "float32"))


class _Columns:
    """Of a matrix, as if they were `Segments`."""

    def add(self, values: Any) -> Any:
        return ops.sum(values, axis=0)

    def most(self, values: Any) -> Any:
        return ops.max(values, axis=0)

    def each(self, values: Any) -> Any:
        return values


def _of_some(values: Any, valid: Any, unit: Segments | _Columns) -> tuple[Any, ...]:
    """Low, high, half of the rise, standard deviation and number of the valid ones in a unit."""
    total = unit.add(ops.cast(valid, "float32"))
    low = -unit.most(ops.where(valid, -values, -INF))
    high = unit.most(ops.where(valid, values, -INF))
    some = low <= high
    center, half = ops.where(some, low / 2 + high / 2, 0.0), high / 2 - low / 2
    # Neither this nor one over it is too small to be exact.
    scale = ops.clip(ops.where(some, half, 1.0), *SCALES)
    # A division for each unit, not for each entry.
    scaled = ops.where(valid, (values - unit.each(center)) * unit.each(1 / scale), 0.0)
    least = ops.maximum(total, 1.0)
    mean = unit.add(scaled) / least
    off = ops.where(valid, scaled - unit.each(mean), 0.0)
    rise = ops.where(low < high, scale * (mean / 2) + half / 2, 0.0)
    return low, high, rise, scale * ops.sqrt(unit.add(ops.square(off)) / least), total
