"""Looks up activations: names, Keras functions and layers, and any function of arrays."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from keras_winit.theory.checks import is_finite
from keras_winit.theory.formulas import FORMULAS, LAYERS, ROW_WISE, Array

# An elementwise activation gives these six numbers the same outputs in one array, in two rows
# and one at a time.
PROBE = np.array([0.5, -1.25, 2.0, 1.0, 3.0, -0.125])


@dataclass(frozen=True)
class Activation:
    """An elementwise function of float64 arrays.

    Args:
        name: The name of the activation, for messages.
        function: The function itself.
        resolution: Relative spacing of the numbers that the function computes with.
        caller: The public function that looked the activation up, for messages.
        received: The activation as the user gave it, for messages.
    """

    name: str
    function: Callable[[Array], Array]
    resolution: float
    caller: str
    received: str

    def __call__(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.function(x)

    def requirement_error(self, requirement: str) -> ValueError:
        """Return the error that says what the activation must do."""
        return ValueError(
            f"`{self.caller}(activation=...)` must {requirement}. "
            f"Received: activation={self.received}."
        )


def find_activation(caller: str, activation: Any, arguments: dict[str, Any]) -> Activation:
    """Find the function behind a name, a Keras function or layer, or any callable.

    Functions of Keras are replaced by their formulas in float64, whatever precision the
    backend has. They are recognized by the module that defines them: Keras is not imported.
    """
    if isinstance(activation, Activation):
        return activation
    received = repr(activation)
    activation, arguments = unwrap(activation, arguments)
    if isinstance(activation, str):
        formula = _formula(caller, activation, received)
        check_arguments(caller, activation, formula, arguments)
        name, function, resolution = activation, formula, float(np.finfo(np.float64).eps)
    elif callable(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        function, resolution = _user_function(caller, activation, received, arguments)
    else:
        raise TypeError(
            f"`{caller}(activation=...)` must be a name or a function of arrays. "
            f"Received: activation={received}."
        )
    result = Activation(name, lambda x: function(x, **arguments), resolution, caller, received)
    _check_elementwise(result)
    return result


def unwrap(activation: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Replace a Keras function or layer by the name of its formula; collect the arguments.

    Partial functions and `Activation` layers are opened first. Anything else is returned as
    it is.
    """
    while isinstance(activation, partial) and not activation.args:
        activation, arguments = activation.func, {**activation.keywords, **arguments}
    kind = type(activation)
    if _is_from_keras(kind, "layers") and kind.__name__ == "Activation":
        return unwrap(activation.activation, arguments)
    if _is_from_keras(kind, "layers") and kind.__name__ in LAYERS:
        name, attributes = LAYERS[kind.__name__]
        return name, {**{key: getattr(activation, key) for key in attributes}, **arguments}
    function_name = getattr(activation, "__name__", None)
    is_from_keras = _is_from_keras(activation, "activations", "ops")
    if is_from_keras and function_name in (*FORMULAS, *ROW_WISE):
        if function_name in ROW_WISE:
            return function_name, arguments
        # The defaults of this very function: `keras.ops.gelu` and `activations.gelu` differ.
        parameters = inspect.signature(activation).parameters.values()
        defaults = {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not inspect.Parameter.empty
        }
        return function_name, {**defaults, **arguments}
    return activation, arguments


def _is_from_keras(thing: Any, *packages: str) -> bool:
    module = getattr(thing, "__module__", None) or ""
    return module.startswith(tuple(f"keras.src.{package}" for package in packages))


def _formula(caller: str, name: str, received: str) -> Callable[..., Array]:
    if name in ROW_WISE:
        raise ValueError(
            f"`{caller}(activation=...)` must act on each entry by itself. "
            f"Received: activation={received}."
        )
    if name not in FORMULAS:
        close = difflib.get_close_matches(name.lower(), FORMULAS, n=1)
        suggestion = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`{caller}(activation=...)` must be the name of a Keras activation, or a function. "
            f"Received: activation={received}.{suggestion}"
        )
    return FORMULAS[name]


def check_arguments(
    caller: str, name: str, formula: Callable[..., Array], arguments: dict[str, Any]
) -> None:
    """Raise an error unless a formula takes these arguments, and their values are numbers."""
    # Functions of numpy itself have no signature to inspect, and take no arguments here.
    is_ufunc = isinstance(formula, np.ufunc)
    parameters = {} if is_ufunc else dict(inspect.signature(formula).parameters)
    parameters.pop("x", None)
    required = {
        key for key, value in parameters.items() if value.default is inspect.Parameter.empty
    }
    if not required <= arguments.keys() <= parameters.keys():
        accepted = " and ".join(f"`{key}`" for key in parameters) or "no arguments"
        received = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "none"
        raise ValueError(f"`{caller}` with {name!r} takes {accepted}. Received: {received}.")
    for key, value in arguments.items():
        default = parameters[key].default
        if value is None and default is None:
            continue
        is_number = isinstance(value, Real) and isinstance(value, bool) <= isinstance(default, bool)
        if not (is_number and is_finite(value)):
            raise ValueError(
                f"`{caller}({key}=...)` must be a finite number. Received: {key}={value!r}."
            )


def _user_function(
    caller: str, function: Callable[..., Any], received: str, arguments: dict[str, Any]
) -> tuple[Callable[..., Array], float]:
    """Wrap a function to take and return float64 arrays; measure the resolution it has."""

    def evaluate(x: Array, **options: Any) -> Array:
        return np.asarray(_detached(function(x, **options)), np.float64)

    try:
        with np.errstate(all="ignore"):
            dtype = np.asarray(_detached(function(PROBE, **arguments))).dtype
            evaluate(PROBE, **arguments)
    except Exception as error:
        raise ValueError(
            f"`{caller}(activation=...)` must take a float64 array and return an array. "
            f"Received: activation={received}, which raised {type(error).__name__}: {error}"
        ) from error
    is_floating = np.issubdtype(dtype, np.floating)
    return evaluate, float(np.finfo(dtype if is_floating else np.float64).eps)


def _detached(result: Any) -> Any:
    """Detach a PyTorch tensor from its graph and device; return anything else as it is."""
    return result.detach().cpu() if hasattr(result, "detach") else result


def _check_elementwise(activation: Activation) -> None:
    try:
        together = activation(PROBE)
        in_rows = activation(PROBE.reshape(2, 3)).reshape(6)
        one_by_one = np.concatenate([activation(PROBE[i : i + 1]) for i in range(6)])
        elementwise = together.shape == PROBE.shape and np.allclose(
            np.stack([in_rows, one_by_one]),
            together,
            rtol=1e3 * activation.resolution,
            atol=0,
            equal_nan=True,
        )
    except (ValueError, TypeError, IndexError):
        elementwise = False
    if not elementwise:
        raise activation.requirement_error("act on each entry by itself")
