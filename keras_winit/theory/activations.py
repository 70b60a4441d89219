"""The activations of Keras as formulas in float64, and any other function of arrays."""

import difflib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

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
WHOLE_ROWS = ("glu", "log_softmax", "softmax", "sparsemax")
LAYERS = {
    "ReLU": ("relu", ("negative_slope", "max_value", "threshold")),
    "LeakyReLU": ("leaky_relu", ("negative_slope",)),
    "ELU": ("elu", ("alpha",)),
}

# Where an activation must do the same to each entry alone as to all of them together.
PROBE = np.array([0.5, -1.25, 2.0, 1.0, 3.0, -0.125])


@dataclass(frozen=True)
class Activation:
    """A function of float64 arrays.

    `resolution`: the relative step between the numbers that it computes with. `call`: the
    public function that asked, for messages; `given`: what it was asked for.
    """

    name: str
    function: Callable[[Array], Array]
    resolution: float
    call: str
    given: str

    def __call__(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.function(x)

    def refuse(self, requirement: str) -> ValueError:
        """The error that says what the activation must do."""
        return ValueError(
            f"`{self.call}(activation=...)` must {requirement}. Received: activation={self.given}."
        )


def activation_of(call: str, activation: Any, arguments: dict[str, Any]) -> Activation:
    """Find the function behind a name, a Keras function or layer, or any callable.

    Keras' own functions are replaced by their formulas in float64, whatever the backend
    computes with. They are known by where they come from: Keras is not imported.
    """
    if isinstance(activation, Activation):
        return activation
    given = repr(activation)
    name, arguments = unwrapped(activation, arguments)
    if isinstance(name, str):
        formula = _formula(call, name, given)
        _require_arguments(call, name, formula, arguments)
        label, function, resolution = name, formula, float(np.finfo(np.float64).eps)
    elif callable(name):
        label = getattr(name, "__name__", type(name).__name__)
        function, resolution = _foreign(call, name, given, arguments)
    else:
        raise TypeError(
            f"`{call}(activation=...)` must be a name or a function of arrays. "
            f"Received: activation={given}."
        )
    found = Activation(label, lambda x: function(x, **arguments), float(resolution), call, given)
    _require_elementwise(found)
    return found


def unwrapped(activation: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The name of what Keras has a formula for, else what it was; and the arguments."""
    while isinstance(activation, partial) and not activation.args:
        activation, arguments = activation.func, {**activation.keywords, **arguments}
    kind = type(activation)
    if _from_keras(kind, "layers") and kind.__name__ == "Activation":
        return unwrapped(activation.activation, arguments)
    if _from_keras(kind, "layers") and kind.__name__ in LAYERS:
        name, attributes = LAYERS[kind.__name__]
        return name, {**{key: getattr(activation, key) for key in attributes}, **arguments}
    home = getattr(activation, "__name__", None)
    if _from_keras(activation, "activations", "ops") and home in (*FORMULAS, *WHOLE_ROWS):
        # Defaults are the function's own: `keras.ops.gelu` has others than `activations.gelu`.
        known = inspect.signature(activation).parameters.values()
        defaults = {p.name: p.default for p in known if p.default is not inspect.Parameter.empty}
        return home, arguments if home in WHOLE_ROWS else {**defaults, **arguments}
    return activation, arguments


def _from_keras(thing: Any, *homes: str) -> bool:
    module = getattr(thing, "__module__", None) or ""
    return module.startswith(tuple(f"keras.src.{home}" for home in homes))


def _formula(call: str, name: str, given: str) -> Callable[..., Array]:
    if name in WHOLE_ROWS:
        raise ValueError(
            f"`{call}(activation=...)` must act on each entry by itself. "
            f"Received: activation={given}."
        )
    if name not in FORMULAS:
        close = difflib.get_close_matches(name.lower(), FORMULAS, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`{call}(activation=...)` must be the name of an activation of Keras, or a function. "
            f"Received: activation={given}.{meant}"
        )
    return FORMULAS[name]


def _require_arguments(
    call: str, name: str, formula: Callable[..., Array], arguments: dict[str, Any]
) -> None:
    # numpy's own functions have no signature to inspect, and no arguments to give.
    known = {} if isinstance(formula, np.ufunc) else dict(inspect.signature(formula).parameters)
    known.pop("x", None)
    needed = [key for key, value in known.items() if value.default is inspect.Parameter.empty]
    if not set(needed) <= arguments.keys() <= known.keys():
        takes = " and ".join(f"`{key}`" for key in known) or "no arguments"
        received = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "none"
        raise ValueError(f"`{call}` with {name!r} takes {takes}. Received: {received}.")
    for key, value in arguments.items():
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            raise ValueError(
                f"`{call}({key}=...)` must be a finite number. Received: {key}={value!r}."
            )


def _foreign(
    call: str, function: Callable[..., Any], given: str, arguments: dict[str, Any]
) -> tuple[Callable[..., Array], float]:
    """Somebody's function, on float64 arrays, and the resolution it computes with."""

    def evaluate(x: Array, **options: Any) -> Array:
        return np.asarray(_on_host(function(x, **options)), np.float64)

    try:
        with np.errstate(all="ignore"):
            dtype = np.asarray(_on_host(function(PROBE, **arguments))).dtype
            evaluate(PROBE, **arguments)
    except Exception as error:
        raise ValueError(
            f"`{call}(activation=...)` must take a float64 array and give an array. "
            f"Received: activation={given}, which raised {type(error).__name__}: {error}"
        ) from error
    floating = np.issubdtype(dtype, np.floating)
    return evaluate, float(np.finfo(dtype if floating else np.float64).eps)


def _on_host(result: Any) -> Any:
    """A tensor of PyTorch that hangs on a graph or a device, without them."""
    return result.detach().cpu() if hasattr(result, "detach") else result


def _require_elementwise(activation: Activation) -> None:
    try:
        at_once = activation(PROBE)
        in_rows = activation(PROBE.reshape(2, 3)).reshape(6)
        alone = np.concatenate([activation(PROBE[i : i + 1]) for i in range(6)])
        others = np.stack([in_rows, alone])
        same = at_once.shape == PROBE.shape and np.allclose(
            others, at_once, rtol=1e3 * activation.resolution, atol=0, equal_nan=True
        )
    except (ValueError, TypeError, IndexError):
        same = False
    if not same:
        raise activation.refuse("act on each entry by itself")
