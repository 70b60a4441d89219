"""What each unit of a layer does over the samples: reduced in the graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_winit.statistics.graph import INF, backend_is, cond, finite, number, once_for_all


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
        return Units(*_exact(values, counts))
    if backend_is("torch"):
        return _reduced_by_torch(values)
    width, nonzero = values.shape[1], _nonzero(values)
    # Several samples side by side: XLA is slow at reducing narrow rows.
    beside = _divisor(values.shape[0], 256 // width) if backend_is("jax") else 1
    wide = values if beside == 1 else ops.reshape(values, (-1, beside * width))

    def over(reduce: Any, wide: Any) -> Any:
        once = reduce(wide, axis=0)
        return once if beside == 1 else reduce(ops.reshape(once, (beside, width)), axis=0)

    return Reduced(
        low=over(ops.min, wide),
        high=over(ops.max, wide),
        mean=over(ops.mean, wide),
        square=over(ops.mean, ops.square(wide)),
        nonzero=nonzero,
        size=ops.size(values),
        values=values,
    )


def _nonzero(values: Any) -> Any:
    if backend_is("tensorflow"):
        import tensorflow as tf

        # Unlike a comparison, it does these many at a time.
        return 2 * tf.nn.l2_loss(tf.sign(values))
    return ops.sum(ops.cast(values != 0, "float32"))


def _divisor(count: int | None, most: int) -> int:
    """The largest up to `most`, 1 at least; 1 of what is not known."""
    return next((k for k in range(most, 1, -1) if count and count % k == 0), 1)


def _reduced_by_torch(values: Any) -> Reduced | Units:
    """In a few calls, each of which costs as much as what it computes."""
    import torch

    low, high = torch.aminmax(values, dim=0)
    variance, mean = torch.var_mean(values - low, dim=0, correction=0)
    # As in `_checked`. At once, as who comes after may change a tensor in place.
    if not 1e-20 < variance.sum().item() < 1e30:
        return _of_some(values, None)
    return Reduced(low, high, mean, variance, torch.count_nonzero(values), values.numel(), None)


def joined(layers: Sequence[Reduced | Units]) -> Units:
    """Of several layers in a row, those that are `Reduced` first."""
    plain = [one for one in layers if isinstance(one, Reduced)]
    parts = [one for one in layers if isinstance(one, Units)]
    if plain:
        parts.insert(0, _joined_by_torch(plain) if backend_is("torch") else _checked(plain))
    return parts[0] if len(parts) == 1 else _in_a_row(parts)


def _in_a_row(parts: Sequence[Units]) -> Units:
    return Units(*map(ops.concatenate, zip(*parts, strict=True)))


def _joined_by_torch(plain: Sequence[Reduced]) -> Units:
    import torch

    low, high, mean, variance = (torch.cat(parts) for parts in list(zip(*plain, strict=True))[:4])
    sizes = low.new_tensor([one.size for one in plain])
    widths = low.new_tensor([len(one.low) for one in plain])
    return Units(
        low=low,
        high=high,
        rise=mean / 2,
        stddev=variance.sqrt(),
        missing=torch.zeros_like(low),
        zeros=sizes - torch.stack([one.nonzero for one in plain]),
        nonfinite=torch.zeros_like(sizes),
        samples=sizes / widths,
    )


def _checked(plain: Sequence[Reduced]) -> Units:
    """Where all entries are finite and squares tell the spread; a closer look where not."""
    widths = [one.low.shape[0] for one in plain]
    owners = np.repeat(np.arange(len(plain)), widths)
    low, high, mean, square = map(ops.concatenate, list(zip(*plain, strict=True))[:4])
    sizes = ops.cast(ops.stack([one.size for one in plain]), "float32")
    variance, alike = square - ops.square(mean), ops.equal(low, high)
    # A variance of a hundredth of the square keeps five of float32's seven digits. Neither
    # NaN, nor so large or small that squares have over- or underflowed.
    spread = ops.logical_and(variance > 0.01 * square, square > 1e-30)
    sound = ops.logical_and(square < 1e30, ops.logical_or(alike, spread))
    fast = Units(
        low=low,
        high=high,
        rise=ops.where(alike, 0.0, (mean - low) / 2),
        stddev=ops.sqrt(ops.where(alike, 0.0, ops.maximum(variance, 0.0))),
        missing=ops.zeros_like(low),
        zeros=sizes - ops.stack([one.nonzero for one in plain]),
        nonfinite=ops.zeros_like(sizes),
        samples=sizes / np.array(widths, np.float32),
    )

    def closer() -> tuple[Any, ...]:
        ends = np.cumsum(widths).tolist()
        pieces = [sound[end - width : end] for end, width in zip(ends, widths, strict=True)]
        doubtful = [ops.logical_not(ops.all(piece)) for piece in pieces]
        found = _in_a_row(
            [_exact_if(doubt, one.values) for doubt, one in zip(doubtful, plain, strict=True)]
        )
        layers = ops.stack(doubtful)
        units = ops.take(layers, owners)
        return tuple(
            ops.where(units if place < 5 else layers, *both)
            for place, both in enumerate(zip(found, fast, strict=True))
        )

    return Units(*cond(ops.all(sound), lambda: tuple(fast), closer))


@once_for_all
def _exact_if(doubtful: Any, values: Any) -> Units:
    def nothing() -> tuple[Any, ...]:
        none, one = ops.zeros((values.shape[1],), "float32"), ops.zeros((1,), "float32")
        return (none,) * 5 + (one,) * 3

    return Units(*cond(doubtful, lambda: tuple(_of_some(values, None)), nothing))


@once_for_all
def _exact(values: Any, counts: Any) -> Units:
    return _of_some(values, counts)


def _of_some(values: Any, counts: Any) -> Units:
    """Of the entries that count and are finite, of whatever size."""
    valid = finite(values, counts)
    total = number(valid)
    low = ops.min(ops.where(valid, values, INF), axis=0)
    high = ops.max(ops.where(valid, values, -INF), axis=0)
    some = low <= high
    center, half = ops.where(some, low / 2 + high / 2, 0.0), high / 2 - low / 2
    half = ops.where(ops.logical_and(some, half > 0), half, 1.0)
    scaled = ops.where(valid, (values - center) / half, 0.0)
    least = ops.maximum(total, 1.0)
    mean = ops.sum(scaled, axis=0) / least
    off = ops.where(valid, scaled - mean, 0.0)
    samples = ops.cast(ops.shape(values)[0], "float32")
    counted = samples * values.shape[1] if counts is None else ops.sum(number(counts))
    return Units(
        low=low,
        high=high,
        rise=ops.where(low < high, half * (mean + 1) / 2, 0.0),
        stddev=half * ops.sqrt(ops.sum(ops.square(off), axis=0) / least),
        missing=samples - total,
        zeros=ops.reshape(ops.sum(number(ops.logical_and(valid, values == 0))), (1,)),
        nonfinite=ops.reshape(counted - ops.sum(total), (1,)),
        samples=ops.reshape(samples, (1,)),
    )
