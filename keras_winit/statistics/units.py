"""What each unit of a layer does over the samples: reduced in the graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_winit.statistics.graph import (
    INF,
    Segments,
    as_floats,
    backend_is,
    cond,
    finite,
    groups,
    in_a_row,
    once_for_all,
    size,
)

# Between these a mean of squares has neither over- nor underflowed.
LEAST, MOST = 1e-30, 1e30


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
    """What one pass over a layer with U units gives; `joined` makes `Units` of it.

    Args:
        low: The smallest entry of each unit, of shape (U,).
        high: The largest.
        mean: Of each unit; on torch, above `low`.
        square: Mean square of each unit; on torch, variance.
        nonzero: Count of all entries that are not zero.
        size: Count of all entries.
        values: The entries, of shape (samples, units), should they need a closer look; None
            on torch, where they have had it.
    """

    low: Any
    high: Any
    mean: Any
    square: Any
    nonzero: Any
    size: Any
    values: Any


def flatten(values: Any, mask: Any = None, unit_axis: int = -1) -> tuple[Any, Any]:
    """Values as float32 of shape (samples, units), and which of them count; None if all do.

    Args:
        values: Any shape of rank 1 or more; of rank 1, or if the number of units is not known
            before the step runs, it is one unit.
        mask: Boolean, of the shape of the leading axes of `values`. None: all count.
        unit_axis: Where the units lie.
    """
    rank = len(values.shape)
    if keras.backend.standardize_dtype(values.dtype) != "float32":
        values = ops.cast(values, "float32")
    if mask is not None:
        mask = ops.reshape(mask, (*ops.shape(mask), *(1,) * (rank - len(mask.shape))))
        mask = ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(values))
    width = 1 if rank == 1 else values.shape[unit_axis] or 1

    def rows(tensor: Any) -> Any:
        if unit_axis not in (-1, rank - 1):
            tensor = ops.moveaxis(tensor, unit_axis, -1)
        return tensor if tensor.shape[1:] == (width,) else ops.reshape(tensor, (-1, width))

    return rows(values), None if mask is None else rows(mask)


def reduced(values: Any, counts: Any = None) -> Reduced | Units:
    """Reduce what `flatten` gave over the samples, as far as it goes in one pass."""
    if counts is not None:
        return Units(*_by_columns(values, counts))
    if backend_is("torch"):
        return _reduced_by_torch(values)
    if backend_is("jax"):
        import jax

        # Or else XLA may round what others make of them in another way.
        values = jax.lax.optimization_barrier(values)
    beside = _beside(values) if backend_is("jax") else 1
    wide = values if beside == 1 else ops.reshape(values, (-1, beside * values.shape[1]))

    def over(reduce: Any, wide: Any) -> Any:
        once = reduce(wide, axis=0)
        return once if beside == 1 else reduce(ops.reshape(once, (beside, -1)), axis=0)

    return Reduced(
        low=over(ops.min, wide),
        high=over(ops.max, wide),
        mean=over(ops.mean, wide),
        square=over(ops.mean, ops.square(wide)),
        nonzero=_nonzero(values),
        size=size(values),
        values=values,
    )


def _nonzero(values: Any) -> Any:
    if backend_is("tensorflow"):
        import tensorflow as tf

        # Unlike a comparison, it does these many at a time.
        return 2 * tf.nn.l2_loss(tf.sign(values))
    return _number(values != 0)


def _beside(values: Any) -> int:
    """How many samples to take side by side: XLA and torch are slow at reducing narrow rows."""
    count, width = values.shape
    return next((k for k in range(256 // width, 1, -1) if count and count % k == 0), 1)


def _reduced_by_torch(values: Any) -> Reduced | Units:
    """In few and fast calls: `aminmax` and `var_mean` take ten times as long."""
    import torch

    beside = _beside(values)
    wide = values.reshape(-1, beside * values.shape[1])

    def over(reduce: Any, wide: Any) -> Any:
        once = reduce(wide, 0)
        return once if beside == 1 else reduce(once.view(beside, -1), 0)

    low, high, mean = (over(reduce, wide) for reduce in (torch.amin, torch.amax, torch.mean))
    off = wide - (mean if beside == 1 else mean.repeat(beside))
    variance = over(torch.mean, off * off)
    spread = variance.sum().item()
    # At once, as who comes after may change a tensor in place.
    if not LEAST < spread < MOST and not (spread == 0 and torch.equal(low, high)):
        return Units(*_by_columns(values, None))
    nonzero = torch.count_nonzero(values)
    return Reduced(low, high, mean - low, variance, nonzero, values.numel(), None)


def joined(layers: Sequence[Reduced | Units]) -> Units:
    """Of several layers in a row, those that are `Reduced` first."""
    plain = [one for one in layers if isinstance(one, Reduced)]
    parts = [one for one in layers if isinstance(one, Units)]
    if backend_is("torch"):
        made = [_together(plain, *_columns(plain, "mean", "square"))] if plain else []
    else:
        sizes = [(one.values.shape[0] or 128) * one.values.shape[1] for one in plain]
        made = [_checked(plain[group]) for group in groups(sizes)] if plain else []
    return Units(*map(ops.concatenate, zip(*made, *parts, strict=True)))


def _columns(layers: Sequence[Reduced], *names: str) -> list[Any]:
    return [ops.concatenate([getattr(one, name) for one in layers]) for name in names]


def _checked(layers: Sequence[Reduced]) -> Units:
    """By squares, where they tell the spread; in more passes where not."""
    low, high, mean, square = _columns(layers, "low", "high", "mean", "square")
    variance, alike = square - ops.square(mean), ops.equal(low, high)
    # Neither NaN, nor so large or small that squares have over- or underflowed.
    some = ops.logical_or(alike, square > LEAST)
    sound = ops.all(ops.logical_and(some, square < MOST))
    # TensorFlow adds up one by one; of a tenth of the square five digits are left.
    apart = ops.all(ops.logical_or(alike, variance > 0.1 * square))

    def by_squares() -> tuple[Any, ...]:
        return tuple(_together(layers, mean - low, variance))

    def centered() -> tuple[Any, ...]:
        off = [one.values - one.mean for one in layers]
        rest = ops.concatenate([ops.mean(values, axis=0) for values in off])
        again = ops.concatenate([ops.mean(ops.square(values), axis=0) for values in off])
        return tuple(_together(layers, mean - low + rest, again - ops.square(rest)))

    def closer() -> tuple[Any, ...]:
        return tuple(_closer([one.values for one in layers]))

    usual = ops.logical_and(sound, apart)
    return Units(*cond(usual, by_squares, lambda: cond(sound, centered, closer)))


def _together(layers: Sequence[Reduced], rise: Any, variance: Any) -> Units:
    low, high = _columns(layers, "low", "high")
    sizes = as_floats([one.size for one in layers])
    # Of a constant, mean and squares are rounded.
    differ = ops.cast(ops.not_equal(low, high), "float32")
    return Units(
        low=low,
        high=high,
        rise=differ * rise / 2,
        stddev=differ * ops.sqrt(ops.maximum(variance, 0.0)),
        missing=ops.zeros_like(low),
        zeros=sizes - ops.stack([one.nonzero for one in layers]),
        nonfinite=ops.zeros_like(sizes),
        samples=sizes / as_floats([one.low.shape[0] for one in layers]),
    )


def _closer(layers: Sequence[Any]) -> Units:
    """Of entries of any size, and not finite ones among them; in few operations for many."""
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
    half = ops.where(ops.logical_and(some, half > 0), half, 1.0)
    scaled = ops.where(valid, (values - unit.each(center)) / unit.each(half), 0.0)
    least = ops.maximum(total, 1.0)
    mean = unit.add(scaled) / least
    off = ops.where(valid, scaled - unit.each(mean), 0.0)
    rise = ops.where(low < high, half * (mean + 1) / 2, 0.0)
    return low, high, rise, half * ops.sqrt(unit.add(ops.square(off)) / least), total
