"""Numbers of one tensor: what a layer's output or kernel looks like."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

# An entry is saturated where the activation is flatter than this share of its steepest.
FLAT = 0.05

INF = math.inf

# The smallest normal float32: to divide by.
TINY = 1.1754944e-38

# Where a common activation is that flat, by its name in `keras.activations`: ends of
# intervals of z, solved from the derivative. Others are measured by differences.
BANDS = {
    "tanh": ((-INF, -2.17827221), (2.17827221, INF)),
    "sigmoid": ((-INF, -4.356544421), (4.356544421, INF)),
    "softsign": ((-INF, -3.472135955), (3.472135955, INF)),
    "softplus": ((-INF, -2.944438979),),
    "gelu": ((-INF, -2.278560694), (-0.9032613191, -0.6334566281)),
    "silu": ((-INF, -3.929897316), (-1.595073491, -1.05912016)),
    "mish": ((-INF, -3.981251495), (-1.441073372, -1.013824357)),
    "elu": ((-INF, -2.995732274),),
    "selu": ((-INF, -2.995732274),),
    "relu6": ((6.0, INF),),
    "hard_sigmoid": ((-INF, -3.0), (3.0, INF)),
    "hard_tanh": ((-INF, -1.0), (1.0, INF)),
}

# Ends of the histogram's bins: even in log10 on both sides of a bin around zero.
EDGES = np.concatenate([-np.logspace(3, -4, 22), np.logspace(-4, 3, 22)])

# The cheap ones, in the order of `summary`.
SUMMARY = (
    "mean",
    "stddev",
    "unit_stddev",
    "min",
    "max",
    "zero_share",
    "dead_share",
    "dead_units",
    "nonfinite",
    "norm",
)


def mean_stddev(values: Any) -> tuple[Any, Any]:
    """Mean and population standard deviation over all entries, in float32 and two passes."""
    values, scale = _scaled(values)
    mean = ops.mean(values)
    return scale * mean, scale * ops.sqrt(ops.mean(ops.square(values - mean)))


def unit_stddev(values: Any) -> Any:
    """Standard deviation of each unit over the samples, averaged over the units.

    The part of the signal that tells one input from another. Units lie on the last axis.
    """
    values, scale = _scaled(ops.reshape(values, (-1, values.shape[-1])))
    centered = values - ops.mean(values, axis=0)
    return scale * ops.mean(ops.sqrt(ops.mean(ops.square(centered), axis=0)))


def _scaled(values: Any) -> tuple[Any, Any]:
    """Values with a largest entry of 1, whose squares neither over- nor underflow."""
    values = ops.cast(values, "float32")
    largest = ops.max(ops.abs(values))
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    return values / scale, scale


def dead_share(values: Any) -> Any:
    """Share of units, on the last axis, that are exactly zero for every sample."""
    values = ops.reshape(values, (-1, values.shape[-1]))
    return ops.mean(ops.cast(ops.all(values == 0, axis=0), "float32"))


def saturated_share(pre_activations: Any, activation: Callable[[Any], Any]) -> Any:
    """Share of entries where the activation is flat: below 5 % of its steepest on [-8, 8].

    Entries that come out as `activation(0)` do not count: there a rectifier is off, which
    `dead_share` tells, and not saturated. The activation must act on each entry by itself.
    """
    z = ops.cast(pre_activations, "float32")
    return ops.mean(ops.cast(_flat(z, activation), "float32"))


def _flat(z: Any, activation: Callable[[Any], Any]) -> Any:
    flat = _slope(activation, z) < FLAT * _steepest(activation)
    rest = activation(ops.zeros((), "float32"))
    return ops.logical_and(flat, activation(z) != rest)


def elementwise(activation: Callable[[Any], Any]) -> bool:
    """Whether an activation acts on each entry by itself; runs it on a few numbers."""
    probe = ops.convert_to_tensor([[0.5, -1.0, 2.0], [1.0, 3.0, -0.1]], "float32")
    try:
        at_once, one_by_one = activation(probe), activation(ops.reshape(probe, (6, 1)))
        return at_once.shape == probe.shape and bool(
            ops.all(ops.isclose(ops.reshape(at_once, (6, 1)), one_by_one))
        )
    except Exception:
        return False


def _slope(activation: Callable[[Any], Any], z: Any) -> Any:
    """Between two neighbours of z that float32 can still tell apart."""
    step = 1e-3 * ops.maximum(ops.abs(z), 1.0)
    low, high = z - step, z + step
    return ops.abs(activation(high) - activation(low)) / (high - low)


def _steepest(activation: Callable[[Any], Any]) -> Any:
    return ops.max(_slope(activation, ops.linspace(-8.0, 8.0, 1601, dtype="float32")))


def distinct_units(kernel: Any, tolerance: float = 1e-6) -> int:
    """How many columns of a kernel, its units, differ from each other.

    Args:
        kernel: Any shape with the units on the last axis.
        tolerance: Columns are equal if no entry differs by more than this share of the
            kernel's largest entry.
    """
    values = ops.convert_to_numpy(kernel).astype(np.float64)
    columns: npt.NDArray[np.float64] = values.reshape(-1, values.shape[-1]).T
    finite = np.abs(columns[np.isfinite(columns)])
    apart = tolerance * finite.max(initial=0.0)
    count = 0
    while len(columns):
        same = np.isclose(columns, columns[0], rtol=0, atol=apart, equal_nan=True).all(axis=1)
        columns = columns[~same]
        count += 1
    return count


@dataclass(frozen=True)
class Units:
    """What each of U units did over the samples; non-finite entries are only counted.

    Everything is of shape (U,) and float32, save `nonfinite`, a scalar. Moments are relative
    to the middle and the half of each unit's range: they neither cancel nor overflow.

    Args:
        count: Of finite entries.
        low: The smallest. Infinite if there is none.
        high: The largest.
        mean: Of entries scaled to [-1, 1].
        stddev: Likewise.
        zeros: Entries exactly zero.
        nonfinite: Count of NaN and infinite entries.
    """

    count: Any
    low: Any
    high: Any
    mean: Any
    stddev: Any
    zeros: Any
    nonfinite: Any


def flatten(values: Any, mask: Any = None, unit_axis: int = -1) -> tuple[Any, Any]:
    """Values as float32 of shape (samples, units), and which of them count.

    Args:
        values: Any shape of rank 1 or more; of rank 1 it is one unit.
        mask: Boolean, of the shape of the leading axes of `values`. None: all count.
        unit_axis: Where the units lie.
    """
    values = ops.cast(values, "float32")
    if mask is not None:
        mask = ops.reshape(mask, (*ops.shape(mask), *(1,) * (len(values.shape) - len(mask.shape))))
        mask = ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(values))
    if len(values.shape) == 1:
        values = values[:, None]
        mask = None if mask is None else mask[:, None]

    def rows(tensor: Any) -> Any:
        tensor = ops.moveaxis(tensor, unit_axis, -1)
        return ops.reshape(tensor, (-1, tensor.shape[-1]))

    values = rows(values)
    return values, ops.ones_like(values, "bool") if mask is None else rows(mask)


def units(values: Any, counts: Any) -> Units:
    """Reduce what `flatten` gave over the samples."""
    finite = ops.isfinite(values)
    valid = ops.logical_and(finite, counts)
    number = _number(valid)
    low = ops.min(ops.where(valid, values, INF), axis=0)
    high = ops.max(ops.where(valid, values, -INF), axis=0)
    center, scale = _range(low, high)
    scaled = ops.where(valid, (values - center) / scale, 0.0)
    least = ops.maximum(number, 1.0)
    mean = ops.sum(scaled, axis=0) / least
    off = ops.where(valid, scaled - mean, 0.0)
    return Units(
        count=number,
        low=low,
        high=high,
        mean=mean,
        stddev=ops.sqrt(ops.sum(ops.square(off), axis=0) / least),
        zeros=_number(ops.logical_and(valid, values == 0)),
        nonfinite=ops.sum(_number(ops.logical_and(counts, ops.logical_not(finite)))),
    )


def _number(flags: Any) -> Any:
    return ops.sum(ops.cast(flags, "float32"), axis=0)


def _range(low: Any, high: Any) -> tuple[Any, Any]:
    """Middle and half of a range; of an empty or a zero one, something to divide by."""
    center = ops.where(low <= high, low / 2 + high / 2, 0.0)
    half = high / 2 - low / 2
    return center, ops.where(half > 0, half, 1.0)


def merged(parts: Sequence[Units]) -> Units:
    """The units over the samples of all parts together."""
    count, low, high, mean, stddev, zeros, nonfinite = (
        ops.stack([ops.convert_to_tensor(getattr(part, name), "float32") for part in parts])
        for name in Units.__dataclass_fields__
    )
    center, scale = _range(low, high)
    lowest, highest = ops.min(low, axis=0), ops.max(high, axis=0)
    middle, half = _range(lowest, highest)
    number = ops.sum(count, axis=0)
    least = ops.maximum(number, 1.0)
    offset = ((center - middle) + scale * mean) / half
    common = ops.sum(count * offset, axis=0) / least
    square = ops.square(scale * stddev / half) + ops.square(offset - common)
    return Units(
        count=number,
        low=lowest,
        high=highest,
        mean=common,
        stddev=ops.sqrt(ops.sum(count * square, axis=0) / least),
        zeros=ops.sum(zeros, axis=0),
        nonfinite=ops.sum(nonfinite),
    )


def summary(units: Units) -> dict[str, Any]:
    """The statistics of `SUMMARY` over all units, as scalars; NaN where no entry is finite."""
    any_finite = ops.cast(units.count > 0, "float32")
    number, live = ops.sum(units.count), ops.sum(any_finite)
    low, high = ops.min(units.low), ops.max(units.high)
    center, scale = _range(units.low, units.high)
    middle, half = _range(low, high)
    stddev = scale * units.stddev
    offset = any_finite * ((center - middle) + scale * units.mean) / half
    shift = ops.sum(units.count * offset) / number
    square = ops.square(stddev / half) + ops.square(offset - shift)
    mean = middle + half * shift
    spread = half * ops.sqrt(ops.sum(units.count * square) / number)
    largest = ops.maximum(ops.maximum(ops.abs(mean), spread), TINY)
    length = largest * ops.sqrt(ops.square(mean / largest) + ops.square(spread / largest))
    dead = ops.sum(any_finite * ops.cast(units.high <= 0, "float32"))
    nothing = 0.0 * number / number
    return {
        "mean": mean,
        "stddev": spread,
        "unit_stddev": ops.sum(any_finite * stddev) / live,
        "min": low + nothing,
        "max": high + nothing,
        "zero_share": ops.sum(units.zeros) / number,
        "dead_share": dead / live,
        "dead_units": dead,
        "nonfinite": units.nonfinite,
        "norm": ops.sqrt(number) * length,
    }


def flat_counts(z: Any, counts: Any, activation: Callable[[Any], Any]) -> tuple[Any, Any]:
    """How many finite pre-activations lie where the activation is flat, and how many in all.

    Flat is as in `saturated_share`. Of shape (samples, units), as `flatten` gives them.
    """
    valid = ops.logical_and(ops.isfinite(z), counts)
    name = getattr(activation, "__name__", "")
    if getattr(keras.activations, name, None) is activation and name in BANDS:
        flat = ops.zeros_like(valid)
        for low, high in BANDS[name]:
            # Open where the activation bends, closed where it is clipped.
            inside = z <= high if low == -INF else z >= low
            if low > -INF and high < INF:
                inside = ops.logical_and(z > low, z < high)
            flat = ops.logical_or(flat, inside)
    else:
        flat = _flat(ops.where(valid, z, 0.0), activation)
    return ops.sum(_number(ops.logical_and(valid, flat))), ops.sum(_number(valid))


def histogram(values: Any, counts: Any) -> Any:
    """How many finite entries lie in each bin of `EDGES`; the outer two hold what is beyond.

    A bin holds its lower end.
    """
    valid = ops.logical_and(ops.isfinite(values), counts)
    inner = ops.convert_to_tensor(EDGES[1:-1], "float32")
    values = ops.reshape(ops.where(valid, values, 0.0), (-1,))
    bins = ops.searchsorted(inner, values, side="right")
    ones = ops.reshape(ops.cast(valid, "float32"), (-1,))
    return ops.segment_sum(ones, bins, num_segments=len(EDGES) - 1)


def quantiles(values: Any, counts: Any, shares: Sequence[float]) -> Any:
    """Quantiles of the finite entries among at least 512, or among all if there are fewer.

    They lie a fixed number of entries apart that has no divisor in common with the number
    of units, so that every unit has its turn.
    """
    valid = ops.reshape(ops.logical_and(ops.isfinite(values), counts), (-1,))
    width = values.shape[-1]
    apart = ops.shape(valid)[0] // 512
    # For each remainder the largest number up to it without a common divisor.
    prime = [
        max([k for k in range(r + 1) if math.gcd(k, width) == 1] or [-1]) for r in range(width)
    ]
    if isinstance(apart, int):
        stride = max(apart // width * width + prime[apart % width], 1)
    else:
        stride = ops.maximum(apart // width * width + ops.take(prime, apart % width), 1)
    chosen, valid = ops.reshape(values, (-1,))[::stride], valid[::stride]
    chosen = ops.sort(ops.where(valid, chosen, INF))
    last = ops.sum(ops.cast(valid, "int32")) - 1
    places = ops.convert_to_tensor(shares, "float32") * ops.cast(last, "float32")
    lower = ops.maximum(ops.cast(ops.floor(places), "int32"), 0)
    upper = ops.minimum(lower + 1, ops.maximum(last, 0))
    low, high = ops.take(chosen, lower), ops.take(chosen, upper)
    found = low + (high - low) * (places - ops.cast(lower, "float32"))
    return ops.where(last < 0, float("nan"), found)


def repeated_share(kernel: Any, unit_axes: Sequence[int]) -> Any:
    """Share of units that are like another one: 1 - (distinct - 1) / (units - 1).

    1 if all are alike, as in a kernel of zeros; NaN if there is just one, or an entry is
    not finite. Units are told
    apart by one weighted sum over each: two that differ by less than a millionth of the
    kernel's largest entry count as alike, as would, rarely, two whose sums agree by chance.

    Args:
        kernel: A tensor.
        unit_axes: That tell its units apart.
    """
    rest = [axis for axis in range(len(kernel.shape)) if axis not in unit_axes]
    count = math.prod(kernel.shape[axis] for axis in unit_axes)
    if count < 2:
        return ops.full((), float("nan"), "float32")
    columns = ops.reshape(ops.transpose(kernel, (*rest, *unit_axes)), (-1, count))
    columns, _ = _scaled(columns)
    entries = columns.shape[0]
    weights = np.random.Generator(np.random.Philox(0)).normal(size=(entries, 1))
    # Not a matrix product, which GPUs round more coarsely.
    sums = ops.sort(ops.sum(columns * ops.convert_to_tensor(weights, "float32"), axis=0))
    apart = sums[1:] - sums[:-1] > 1e-6 * math.sqrt(entries)
    share = 1.0 - ops.mean(ops.cast(apart, "float32"))
    return ops.where(ops.isfinite(ops.sum(sums)), share, float("nan"))


def length(values: Any) -> Any:
    """Root of the sum of squares, of whatever size they are."""
    scaled, scale = _scaled(values)
    return scale * ops.sqrt(ops.sum(ops.square(scaled)))
