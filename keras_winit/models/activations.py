"""Reads the activations of layers and operations.

- `activation_name` recognizes the activation of any layer or operation by its name.
- `certain_activation_name` gives only what Keras itself guarantees, which includes "linear".
- `nonlinearity` gives an activation with its arguments, as a function that has a gain.
- `sole_activation` gives the function of what is an activation and nothing else.
"""

import functools
import inspect
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_winit.initializers.looks_linear import EVEN_SHARE
from keras_winit.models.graph import Call, is_from_keras
from keras_winit.models.kernels import kernel_uses
from keras_winit.theory.activations import find_activation, unwrap
from keras_winit.theory.formulas import FORMULAS, ROW_WISE
from keras_winit.theory.gains import gain, mean, odd_share

layers = keras.layers

# The activations that are recognized, by the names of Keras' functions.
ACTIVATION_NAMES = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "tanh"),
    *("sigmoid", "softplus", "softsign", "hard_sigmoid", "hard_tanh", "hard_silu"),
    *("softmax", "log_softmax", "exponential"),
)
# The keys are names of functions, operations and layers, in lower case and without "_".
ACTIVATIONS = {name.replace("_", ""): name for name in ACTIVATION_NAMES} | {
    "prelu": "leaky_relu",
    "swish": "silu",
    "hardswish": "hard_silu",
}

# Layers that are nothing but an activation, mostly one that acts on each entry by itself.
ACTIVATION_LAYERS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)

# Operations of Keras that apply an activation, beside those named like a formula.
OPERATIONS = {"sin": np.sin, "cos": np.cos, "erf": np.vectorize(math.erf, otypes=[float])}
# The formulas and the activations of whole rows, by names of classes in lower case.
BY_CLASS = {name.replace("_", ""): name for name in (*FORMULAS, *ROW_WISE) if name != "linear"}

# An activation counts as saturating if its size at these points is below this share of theirs.
# ReLU6, which starts like a ReLU, does not count.
FAR, SATURATED_SHARE = np.array([-10.0, 10.0]), 0.2

# Values between 0 and a few standard deviations of a normal pre-activation.
POSITIVE = np.array([0.0, 0.25, 1.0, 2.0, 4.0])


@dataclass(frozen=True)
class Nonlinearity:
    """An activation.

    Args:
        name: Its name, such as "relu" or "leaky_relu".
        function: A name or a function, as `keras_winit.gain` takes it.
        arguments: The arguments of the function, as pairs of name and value.
    """

    name: str
    function: Any
    arguments: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """Return its name, with the arguments that differ from the usual ones."""
        formula = FORMULAS.get(self.name)
        usual = {} if formula is None or isinstance(formula, np.ufunc) else _defaults(formula)
        shown = ", ".join(f"{key}={v}" for key, v in self.arguments if v != usual.get(key))
        return f"{self.name}({shown})" if shown else self.name

    def of_arrays(self) -> Any:
        """Return it as a function of float64 arrays.

        Raises:
            ValueError: If it does not act on each entry by itself.
        """
        return find_activation("gain", self.function, dict(self.arguments))

    @property
    def is_row_wise(self) -> bool:
        """Whether it mixes the entries of a row, as softmax does."""
        return self.name in ROW_WISE

    @property
    def gain(self) -> float | None:
        """The exact gain, which keeps the mean square of N(0, 1). None if there is none."""
        return _gain_or_none(self.function, self.arguments)

    @property
    def odd_share(self) -> float | None:
        """The share of its odd part in its second moment over N(0, 1). None if there is none."""
        return _odd_share_or_none(self.function, self.arguments)

    @property
    def constant(self) -> float | None:
        """The number c for which f(z) - c is odd: 1/2 for the sigmoid. None if there is none."""
        share = self.odd_share
        if share is None or self.gain is None:
            return None
        constant = mean(self.function, **dict(self.arguments))
        of_constant = (constant * self.gain) ** 2
        if share <= (1 - EVEN_SHARE) * (1 - of_constant):
            return None
        return constant if of_constant > EVEN_SHARE else 0.0

    @property
    def saturates(self) -> bool:
        """Whether it flattens out on both sides, as tanh and sigmoid do."""
        values = _values(self, FAR)
        return values is not None and bool((np.abs(values / FAR) < SATURATED_SHARE).all())

    @property
    def copies_positive(self) -> bool:
        """Whether it returns values from zero on unchanged, as ReLU, leaky ReLU and ELU do."""
        values = _values(self, POSITIVE)
        return values is not None and np.allclose(values, POSITIVE, rtol=0, atol=1e-6)

    @property
    def sine_frequency(self) -> float | None:
        """The factor omega if this is sin(omega * x), and None if it is not."""
        step = 1e-3
        points = np.array([step, -step, 0.3, 0.7])
        values = _values(self, points)
        if values is None or not 0 < values[0] < 1:
            return None
        omega = float(math.asin(values[0]) / step)
        is_sine = omega > 0 and np.allclose(values, np.sin(omega * points), atol=1e-2)
        return round(omega, 3) if is_sine else None


def activation_name(operation: Any) -> str | None:
    """Return the name of the activation that a layer or an operation applies, if any."""
    if isinstance(operation, layers.TimeDistributed):
        return activation_name(operation.layer)
    if isinstance(operation, layers.ReLU) and operation.max_value == 6:
        return "relu6"
    activation = getattr(operation, "activation", None)
    if isinstance(activation, layers.Layer | keras.Operation):
        return activation_name(activation)
    if activation is not None and not isinstance(operation, layers.RNN):
        function_name = str(getattr(inspect.unwrap(activation), "__name__", ""))
        return ACTIVATIONS.get(function_name.replace("_", ""))
    return ACTIVATIONS.get(type(operation).__name__.lower())


def certain_activation_name(call: Call) -> str | None:
    """Return the activation a call applies last, "linear" after a kernel, or None if unknown."""
    operation = call.operation
    if isinstance(operation, layers.TimeDistributed):
        operation = operation.layer
    if not is_from_keras(operation) or isinstance(operation, layers.RNN | layers.Bidirectional):
        return None
    activation = getattr(operation, "activation", None)
    if hasattr(operation, "activation") and activation in (None, keras.activations.linear):
        return "linear" if kernel_uses(operation) else None
    name = activation_name(operation)
    # A softmax over another axis makes no distribution over the units.
    axis = getattr(operation, "axis", -1)
    return None if name == "softmax" and axis not in (-1, len(call.shape) - 1) else name


def sole_activation(operation: Any) -> Any:
    """Return the function of a layer or an operation that is nothing but an activation, or None.

    The result is a function or a layer, as `find_activation` takes them. An operation with
    arguments, such as `ops.leaky_relu`, gives None.
    """
    if isinstance(operation, layers.Activation):
        return operation.activation
    if isinstance(operation, ACTIVATION_LAYERS):
        return operation
    arguments = getattr(getattr(operation, "_auto_config", None), "config", None) or {}
    if isinstance(operation, layers.Layer) or arguments.keys() - {"name"}:
        return None
    return getattr(keras.activations, type(operation).__name__.lower(), None)


def nonlinearity(call: Call) -> Nonlinearity | None:
    """Return the activation that a call applies last, if any."""
    # The maximum of two tensors is not a ReLU.
    is_maximum = type(call.operation).__name__ == "Maximum"
    return None if is_maximum and call.takes_several else _of_operation(call.operation)


def _of_operation(operation: Any) -> Nonlinearity | None:
    if isinstance(operation, layers.RNN | layers.Bidirectional):
        return None
    if isinstance(operation, layers.Wrapper):
        return _of_operation(operation.layer)
    if isinstance(operation, layers.PReLU):
        slope = float(np.mean(keras.ops.convert_to_numpy(operation.alpha)))
        return Nonlinearity("leaky_relu", "leaky_relu", (("negative_slope", slope),))
    if getattr(operation, "activation", None) is not None:
        return _of_function(operation.activation)
    named = _of_class(operation)
    return named or (_of_foreign_layer(operation) if isinstance(operation, layers.Layer) else None)


def _of_function(function: Any) -> Nonlinearity | None:
    """Describe the value of an `activation` argument; None if it is linear."""
    if isinstance(function, layers.Layer | keras.Operation):
        return _of_operation(function)
    name, arguments = unwrap(function, {})
    if name == "linear":
        return None
    shown = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
    return Nonlinearity(shown, name, tuple(arguments.items()))


def _of_class(operation: Any) -> Nonlinearity | None:
    """Describe a layer or an operation whose class has the name of an activation."""
    kind = type(operation).__name__
    if not type(operation).__module__.startswith("keras."):
        return None
    if kind.lower() in OPERATIONS:
        return Nonlinearity(kind.lower(), OPERATIONS[kind.lower()])
    if kind == "Maximum":
        # This is a maximum of one tensor and a number, as in `ops.maximum(x, 0)`.
        return Nonlinearity("relu", "relu")
    name = BY_CLASS.get(kind.lower())
    formula = FORMULAS.get(name or "")
    if name is None or formula is None or isinstance(formula, np.ufunc):
        return None if name is None else Nonlinearity(name, name)
    keys = [key for key in inspect.signature(formula).parameters if hasattr(operation, key)]
    return Nonlinearity(name, name, tuple((key, getattr(operation, key)) for key in keys))


def _of_foreign_layer(layer: Any) -> Nonlinearity | None:
    """Describe a layer without weights that a user defined, if it acts on each entry by itself."""
    from_keras = type(layer).__module__.startswith("keras.")
    has_state = layer.variables or any(layer._flatten_layers(include_self=False))
    if has_state or (from_keras and not isinstance(layer, layers.Lambda)):
        return None
    result = Nonlinearity(type(layer).__name__, layer)
    with keras.StatelessScope():
        values = _values(result, np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    # Equal steps mean a straight line.
    return None if values is None or np.ptp(np.diff(values)) < 1e-6 else result


def _values(activation: Nonlinearity, points: Any) -> Any:
    """Return the activation of some points, or None if it does not act on each by itself."""
    try:
        return activation.of_arrays()(points)
    except (ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=256)
def _gain_or_none(function: Any, arguments: tuple[tuple[str, Any], ...]) -> float | None:
    try:
        return gain(function, **dict(arguments))
    except (ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=256)
def _odd_share_or_none(function: Any, arguments: tuple[tuple[str, Any], ...]) -> float | None:
    try:
        return odd_share(function, **dict(arguments))
    except (ValueError, TypeError):
        return None


def _defaults(function: Any) -> dict[str, Any]:
    return {key: p.default for key, p in inspect.signature(function).parameters.items()}
