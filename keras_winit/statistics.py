"""Numbers of one tensor: what a layer's output or kernel looks like."""

import functools
import math
import warnings
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of a softmax over one number.
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

    Everything is of shape (U,) and float32, save `nonfinite`, a scalar. The mean is given
    from the lowest entry, where it does not cancel, and by half, where it does not overflow.

    Args:
        count: Of finite entries.
        low: The smallest. Infinite if there is none.
        high: The largest.
        rise: Half of what the mean is above `low`.
        stddev: Of the finite entries.
        zeros: Entries exactly zero.
        nonfinite: Count of NaN and infinite entries.
    """

    count: Any
    low: Any
    high: Any
    rise: Any
    stddev: Any
    zeros: Any
    nonfinite: Any


def flatten(values: Any, mask: Any = None, unit_axis: int = -1) -> tuple[Any, Any]:
    """Values as float32 of shape (samples, units), and which of them count; None if all do.

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

    return rows(values), None if mask is None else rows(mask)


def units(values: Any, counts: Any = None) -> Units:
    """Reduce what `flatten` gave over the samples."""
    if counts is not None:
        return Units(*_units_of_some(values, counts))
    fast = _units_of_all(values)
    spread = ops.sum(ops.square(fast[4]))
    # Neither NaN, nor so large or small that squares have over- or underflowed.
    sound = ops.logical_and(spread > 1e-20, spread < 1e30)
    return Units(
        *_cond(
            sound,
            lambda: fast,
            lambda: _units_of_some(values, ops.ones_like(values, "bool")),
        )
    )


def _cond(is_true: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """`ops.cond`, which on torch takes longer than most of what it chooses from."""
    if keras.backend.backend() == "torch":
        return then() if is_true else otherwise()
    return ops.cond(is_true, then, otherwise)


def _units_of_all(values: Any) -> tuple[Any, ...]:
    """The fields of `Units`, where all entries are finite, in as few passes as possible."""
    if keras.backend.backend() == "torch":
        return _units_of_all_by_torch(values)
    number, width = ops.cast(ops.shape(values)[0], "float32"), values.shape[1]
    # Several samples side by side: XLA is slow at reducing narrow rows.
    beside = _divisor(values.shape[0], 256 // width)
    values = ops.reshape(values, (-1, beside * width))

    def over(reduce: Callable[..., Any], values: Any) -> Any:
        once = reduce(values, axis=0)
        return once if beside == 1 else reduce(ops.reshape(once, (beside, width)), axis=0)

    def each(row: Any) -> Any:
        return row if beside == 1 else ops.tile(row, (beside,))

    low, high = over(ops.min, values), over(ops.max, values)
    above = values - each(low)
    mean = over(ops.mean, above)
    return (
        ops.broadcast_to(number, ops.shape(low)),
        low,
        high,
        mean / 2,
        ops.sqrt(over(ops.mean, ops.square(above - each(mean)))),
        # Unlike a comparison, TensorFlow does these many at a time.
        number - over(ops.sum, ops.square(ops.sign(values))),
        ops.zeros((), "float32"),
    )


def _units_of_all_by_torch(values: Any) -> tuple[Any, ...]:
    """The same in a few calls, each of which costs as much as what it computes."""
    import torch

    low, high = torch.aminmax(values, dim=0)
    variance, mean = torch.var_mean(values - low, dim=0, correction=0)
    zeros = len(values) - torch.count_nonzero(values, dim=0)
    count = torch.full_like(low, len(values))
    return count, low, high, mean / 2, variance.sqrt(), zeros.float(), low.new_zeros(())


def _divisor(number: int | None, most: int) -> int:
    """The largest up to `most`, 1 at least; 1 of what is not known."""
    return next((k for k in range(most, 1, -1) if number and number % k == 0), 1)


def _units_of_some(values: Any, counts: Any) -> tuple[Any, ...]:
    """The fields of `Units`, of the entries that count and are finite."""
    finite = ops.isfinite(values)
    valid = ops.logical_and(finite, counts)
    number = _number(valid)
    low = ops.min(ops.where(valid, values, INF), axis=0)
    high = ops.max(ops.where(valid, values, -INF), axis=0)
    some = low <= high
    center, half = ops.where(some, low / 2 + high / 2, 0.0), high / 2 - low / 2
    half = ops.where(ops.logical_and(some, half > 0), half, 1.0)
    scaled = ops.where(valid, (values - center) / half, 0.0)
    least = ops.maximum(number, 1.0)
    mean = ops.sum(scaled, axis=0) / least
    off = ops.where(valid, scaled - mean, 0.0)
    return (
        number,
        low,
        high,
        ops.where(low < high, half * (mean + 1) / 2, 0.0),
        half * ops.sqrt(ops.sum(ops.square(off), axis=0) / least),
        _number(ops.logical_and(valid, values == 0)),
        ops.sum(_number(ops.logical_and(counts, ops.logical_not(finite)))),
    )


def _valid(values: Any, counts: Any) -> Any:
    finite = ops.isfinite(values)
    return finite if counts is None else ops.logical_and(finite, counts)


def _number(flags: Any) -> Any:
    return ops.sum(ops.cast(flags, "float32"), axis=0)


def summary(units: Units, starts: Sequence[int] = (0,)) -> dict[str, Any]:
    """The statistics of `SUMMARY` for each of L layers, given the units of all in a row.

    On the host and in float64, as it is little work and would be many operations in a
    graph. NaN where no entry of a layer is finite.

    Args:
        units: Float64 arrays of shape (P, U), a row for each of P lots of samples of the same U
            units; of `nonfinite` (P, L).
        starts: Where the units of each layer start; each has at least one.

    Returns:
        By name: an array of shape (L,).
    """

    def add(values: Any) -> Any:
        return np.add.reduceat(values, starts)

    low, high, total = units.low.min(axis=0), units.high.max(axis=0), units.count.sum(axis=0)
    mean, stddev = _joined(units)
    live = total > 0
    with np.errstate(invalid="ignore"):
        number, alive = add(total), add(live * 1.0)
        grand = add(total * mean) / number
        apart = mean - np.repeat(grand, np.diff([*starts, len(total)]))
        spread = add(total * (stddev**2 + apart**2)) / number
        dead = add((live & (high <= 0)) * 1.0)
        nothing = 0 * number / number
        return {
            "mean": grand,
            "stddev": np.sqrt(spread),
            "unit_stddev": add(stddev) / alive,
            "min": np.minimum.reduceat(low, starts) + nothing,
            "max": np.maximum.reduceat(high, starts) + nothing,
            "zero_share": add(units.zeros.sum(axis=0)) / number,
            "dead_share": dead / alive,
            "dead_units": dead,
            "nonfinite": units.nonfinite.sum(axis=0),
            "norm": np.sqrt(number * (grand**2 + spread)),
        }


def _joined(units: Units) -> tuple[Any, Any]:
    """Means and standard deviations of units over all lots of samples; 0 where there is none."""
    mean = np.where(units.count > 0, units.low, 0) + 2 * units.rise
    if len(mean) == 1:
        return mean[0], units.stddev[0]
    number = np.maximum(units.count.sum(axis=0), 1)
    shared = (units.count * mean).sum(axis=0) / number
    square = units.count * (units.stddev**2 + (mean - shared) ** 2)
    return shared, np.sqrt(square.sum(axis=0) / number)


def flat_counts(z: Any, counts: Any, activation: Callable[[Any], Any]) -> tuple[Any, Any]:
    """How many finite pre-activations lie where the activation is flat, and how many in all.

    Flat is as in `saturated_share`. Of shape (samples, units), as `flatten` gives them.
    """
    valid = _valid(z, counts)
    name = getattr(activation, "__name__", "")
    if getattr(keras.activations, name, None) is activation and name in BANDS:
        flat = ops.zeros_like(valid)
        for low, high in BANDS[name]:
            flat = ops.logical_or(flat, ops.logical_and(z >= low, z <= high))
    else:
        flat = _flat(ops.where(valid, z, 0.0), activation)
    return ops.sum(_number(ops.logical_and(valid, flat))), ops.sum(_number(valid))


def histogram(values: Any, counts: Any) -> Any:
    """How many finite entries lie in each bin of `EDGES`; the outer two hold what is beyond.

    A bin holds its lower end.
    """
    valid = _valid(values, counts)
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
    valid = ops.reshape(_valid(values, counts), (-1,))
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


def unit_sums(kernel: Any, unit_axes: Sequence[int]) -> Any:
    """One sum over each unit of a kernel, always with the same random weights.

    Units with equal weights have equal sums, and hardly any others.

    Args:
        kernel: A tensor.
        unit_axes: That tell its units apart.

    Returns:
        A tensor of a number for each of the U units.
    """
    rest = [axis for axis in range(len(kernel.shape)) if axis not in unit_axes]
    count = math.prod(kernel.shape[axis] for axis in unit_axes)
    columns = ops.cast(ops.transpose(kernel, (*rest, *unit_axes)), "float32")
    columns = ops.reshape(columns, (-1, count))
    weights = ops.convert_to_tensor(_weights(columns.shape[0]), "float32")
    return _product(weights, columns)[0]


@functools.lru_cache(maxsize=64)
def _weights(count: int) -> npt.NDArray[np.float32]:
    normal = np.random.Generator(np.random.Philox(0)).normal(size=(1, count))
    return normal.astype(np.float32)


def _product(left: Any, right: Any) -> Any:
    """Of matrices, in float32 also where a GPU would round it more coarsely."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.numpy.matmul(left, right, precision="highest")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_logical_devices("GPU"):
            return tf.reduce_sum(tf.transpose(left) * right, axis=0, keepdims=True)
    return ops.matmul(left, right)


def repeated_share(
    sums: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], norms: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Share of units that are like another one: 1 - (distinct - 1) / (units - 1).

    1 if all are alike, as in a kernel of zeros; NaN if there is just one, or an entry is
    not finite. Two that differ by less than a millionth of the root mean square of the
    kernel's entries count as alike, as would, rarely, two whose sums agree by chance.

    Args:
        sums: What `unit_sums` gave, of one of K kernels after the other. Sorted in place.
        starts: Where the sums of each kernel start; each has at least one.
        norms: Of each kernel.

    Returns:
        An array of shape (K,).
    """
    ends = [*starts[1:], len(sums)]
    for start, end in zip(starts, ends, strict=True):
        sums[start:end].sort()
    sizes = ends - starts
    with np.errstate(invalid="ignore", divide="ignore"):
        near = np.repeat(1e-6 * norms / np.sqrt(sizes), sizes)
        alike = np.append(False, sums[1:] - sums[:-1] <= near[1:])
        # The first of a kernel has none before it.
        alike[starts] = False
        share = np.add.reduceat(alike, starts, dtype=np.int64) / (sizes - 1)
        known = np.logical_and.reduceat(np.isfinite(sums), starts) & np.isfinite(norms)
    return np.where(known & (sizes > 1), share, np.nan)


def norms(tensors: Callable[[], Sequence[Any]]) -> tuple[Any, Any]:
    """Roots of the sums of squares, and how many entries are not finite, of each tensor.

    Args:
        tensors: Gives N of any shape and size of entries. Called again for those that need
            care, as keeping the results of an operation would cost more than repeating it.

    Returns:
        Two tensors of shape (N,), float32.
    """
    lengths = ops.stack([_plain_length(ops.cast(tensor, "float32")) for tensor in tensors()])

    def exact() -> tuple[Any, Any]:
        again = tensors()
        finite = [ops.cast(ops.isfinite(tensor), "float32") for tensor in again]
        return (
            ops.stack([length(tensor) for tensor in again]),
            ops.stack([ops.sum(1.0 - one) for one in finite]),
        )

    # As a rule no square has over- or underflowed.
    sound = ops.logical_and(ops.min(lengths) > 1e-12, ops.max(lengths) < 1e18)
    found, nonfinite = _cond(sound, lambda: (lengths, ops.zeros_like(lengths)), exact)
    return found, nonfinite


def _plain_length(values: Any) -> Any:
    """In one pass, wrong where squares over- or underflow."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.sqrt(2 * tf.nn.l2_loss(values))
    if keras.backend.backend() == "torch":
        import torch

        return torch.linalg.vector_norm(values)
    return ops.norm(ops.reshape(values, (-1,)))


def length(values: Any) -> Any:
    """Root of the sum of squares, of whatever size they are."""
    reduced, scale = _scaled(values)
    return scale * ops.sqrt(ops.sum(ops.square(reduced)))
