"""Where an activation is flat."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit.statistics.graph import INF, backend_is, count_on_torch, size

# An entry is saturated where the activation is flatter than this share of its steepest.
FLAT = 0.05

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


def flat(z: Any, counts: Any, activation: Callable[[Any], Any]) -> tuple[Any, Any]:
    """How many pre-activations lie where the activation is flat, and how many count.

    Flat is as in `saturated_share`. The first number is NaN if a pre-activation is.

    Args:
        z: Of shape (samples, units), as `flatten` gives them.
        counts: Likewise.
        activation: That acts on each entry by itself.
    """
    if counts is not None:
        z = ops.where(counts, z, 0.0)  # Where no activation counts as flat.
    number = size(z) if counts is None else ops.sum(ops.cast(counts, "float32"))
    bands = _bands(activation)
    if not bands:
        return _by_differences(z, activation), number
    found: Any = 0.0
    for low, high in bands:
        # All above `low` but those above `high`.
        found += _above(z, np.nextafter(np.float32(low), np.float32(-INF))) - _above(z, high)
    return found, number


def _bands(activation: Callable[[Any], Any]) -> tuple[tuple[float, float], ...]:
    name = getattr(activation, "__name__", "")
    known = getattr(keras.activations, name, None) is activation
    return BANDS.get(name, ()) if known else ()


def _above(z: Any, end: float) -> Any:
    """How many entries are; NaN if one of them is."""
    if abs(end) == INF:
        return ops.cast(size(z), "float32") if end < 0 else 0.0
    if backend_is("tensorflow"):
        import tensorflow as tf

        # Unlike a comparison, it does these many at a time.
        return 2 * tf.nn.l2_loss(tf.nn.relu(tf.sign(z - end)))
    if backend_is("torch"):
        return count_on_torch("gt", z, end) + 0 * z.amax().clamp(0, 1)
    return ops.sum(ops.where(z > end, 1.0, ops.where(z <= end, 0.0, float("nan"))))


def _by_differences(z: Any, activation: Callable[[Any], Any]) -> Any:
    there = ops.cast(_flat(z, activation), "float32")
    return ops.sum(ops.where(ops.equal(z, z), there, float("nan")))
