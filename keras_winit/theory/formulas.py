"""Formulas of the activations of Keras, in float64."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0, -x)), np.float64)


def _relu(
    x: Array, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Array:
    above = x if max_value is None else np.minimum(x, max_value)
    return np.where(x > threshold, above, negative_slope * (x - threshold))


def _leaky_relu(x: Array, negative_slope: float = 0.2) -> Array:
    return np.where(x > 0, x, negative_slope * x)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(x: Array, alpha: float = 1.0) -> Array:
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


def _gelu(x: Array, approximate: bool = False) -> Array:
    if approximate:
        return x * _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
    return 0.5 * x * np.asarray(_erfc(-x / math.sqrt(2)), np.float64)


def _squareplus(x: Array, b: float = 4) -> Array:
    return (x + np.sqrt(x * x + b)) / 2


def _soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    return x - np.clip(x, -threshold, threshold)


def _hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    return np.where(np.abs(x) > threshold, x, 0)


def _threshold(x: Array, threshold: float, default_value: float) -> Array:
    return np.where(x > threshold, x, default_value)


def _sparse_plus(x: Array) -> Array:
    return np.where(np.abs(x) < 1, (x + 1) ** 2 / 4, np.maximum(x, 0))


FORMULAS: dict[str, Callable[..., Array]] = {
    "celu": _celu,
    "elu": _elu,
    "exponential": np.exp,
    "gelu": _gelu,
    "hard_shrink": _hard_shrink,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": _leaky_relu,
    "linear": lambda x: x,
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "relu": _relu,
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "soft_shrink": _soft_shrink,
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda x: np.clip(x / 2 + 0.5, 0, 1),
    "squareplus": _squareplus,
    "swish": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "tanh_shrink": lambda x: x - np.tanh(x),
    "threshold": _threshold,
}

# Activations that mix the entries of a row, so that no function of one number describes them.
ROW_WISE = ("glu", "log_softmax", "softmax", "sparsemax")

# Activation layers of Keras: the formula behind each, and the attributes that are its arguments.
LAYERS = {
    "ReLU": ("relu", ("negative_slope", "max_value", "threshold")),
    "LeakyReLU": ("leaky_relu", ("negative_slope",)),
    "ELU": ("elu", ("alpha",)),
}
