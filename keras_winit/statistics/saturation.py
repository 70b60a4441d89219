"""Saturation: counts the pre-activations at which an activation is nearly flat."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit.statistics.graph import INF, backend_is, count_on_torch, size

# An activation is flat where its slope is below this share of its largest slope.
FLAT = 0.05

# Intervals of z where an activation of `keras.activations` is flat, by its name; their ends are
# solved from the derivative. The slopes of other activations are measured by differences.
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
    """Return the share of pre-activations where an activation is flat.

    An activation is flat where its slope is below 5 % of its largest slope on [-8, 8]. A
    pre-activation with the output `activation(0)` is not saturated: a rectifier is off there,
    which `dead_share` measures.

    Args:
        pre_activations: Tensor of any shape.
        activation: Function of a tensor that acts on each entry by itself.

    Returns:
        A float32 scalar.
    """
    z = ops.cast(pre_activations, "float32")
    return ops.mean(ops.cast(_is_flat(z, activation), "float32"))


def _is_flat(z: Any, activation: Callable[[Any], Any]) -> Any:
    is_flat = _measured_slope(activation, z) < FLAT * _largest_slope(activation)
    output_of_zero = activation(ops.zeros((), "float32"))
    return ops.logical_and(is_flat, activation(z) != output_of_zero)


def elementwise(activation: Callable[[Any], Any]) -> bool:
    """Return whether an activation acts on each entry by itself, by running it on six numbers."""
    matrix = ops.convert_to_tensor([[0.5, -1.0, 2.0], [1.0, 3.0, -0.1]], "float32")
    column = ops.reshape(matrix, (6, 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of a softmax over a single number.
            of_matrix, of_column = activation(matrix), activation(column)
        return of_matrix.shape == matrix.shape and bool(
            ops.all(ops.isclose(ops.reshape(of_matrix, (6, 1)), of_column))
        )
    except Exception:
        return False


def _measured_slope(activation: Callable[[Any], Any], z: Any) -> Any:
    """Return the slope at `z` between two neighbors that float32 can tell apart."""
    step = 1e-3 * ops.maximum(ops.abs(z), 1.0)
    low, high = z - step, z + step
    return ops.abs(activation(high) - activation(low)) / (high - low)


def _largest_slope(activation: Callable[[Any], Any]) -> Any:
    return ops.max(_measured_slope(activation, ops.linspace(-8.0, 8.0, 1601, dtype="float32")))


def count_saturated(z: Any, counts: Any, activation: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return the number of saturated pre-activations, and the number of all that count.

    Saturated is as in `saturated_share`. The first number is NaN if a pre-activation that
    counts is NaN.

    Args:
        z: Pre-activations of shape (samples, units), as from `flatten`.
        counts: Boolean tensor of the same shape: which pre-activations count. None: all.
        activation: Function of a tensor that acts on each entry by itself.
    """
    if counts is not None:
        z = ops.where(counts, z, 0.0)  # No activation is saturated at zero.
    number = size(z) if counts is None else ops.sum(ops.cast(counts, "float32"))
    bands = _bands_of(activation)
    if not bands:
        return _saturated_by_slope(z, activation), number
    saturated: Any = 0.0
    for low, high in bands:
        below_low = np.nextafter(np.float32(low), np.float32(-INF))
        saturated += _count_above(z, below_low) - _count_above(z, high)
    return saturated, number


def _bands_of(activation: Callable[[Any], Any]) -> tuple[tuple[float, float], ...]:
    name = getattr(activation, "__name__", "")
    is_of_keras = getattr(keras.activations, name, None) is activation
    return BANDS.get(name, ()) if is_of_keras else ()


def _count_above(z: Any, bound: float) -> Any:
    """Return the number of entries above a bound; NaN if an entry is NaN."""
    if abs(bound) == INF:
        return ops.cast(size(z), "float32") if bound < 0 else 0.0
    if backend_is("tensorflow"):
        import tensorflow as tf

        # Unlike a comparison, these operations are vectorized.
        return 2 * tf.nn.l2_loss(tf.nn.relu(tf.sign(z - bound)))
    if backend_is("torch"):
        # The second summand is zero, or NaN if an entry is.
        return count_on_torch("gt", z, bound) + 0 * z.amax().clamp(0, 1)
    return ops.sum(ops.where(z > bound, 1.0, ops.where(z <= bound, 0.0, float("nan"))))


def _saturated_by_slope(z: Any, activation: Callable[[Any], Any]) -> Any:
    is_flat = ops.cast(_is_flat(z, activation), "float32")
    return ops.sum(ops.where(ops.equal(z, z), is_flat, float("nan")))
