"""Gains of activations: factors for the standard deviation of a layer's weights."""

import dataclasses
import math
from typing import Any

from keras_winit.theory.activations import (
    Activation,
    check_arguments,
    find_activation,
    unwrap,
)
from keras_winit.theory.formulas import FORMULAS
from keras_winit.theory.quadrature import adaptive_quadrature

MODES = ("second_moment", "centered", "backward", "odd", "torch")

# Below these shares of the second moment, a variance and a mean squared slope are mere rounding.
_ZERO_VARIANCE, _ZERO_SLOPE = 1e-24, 1e-20

# The table of PyTorch's `calculate_gain`, without `leaky_relu`, which has an argument.
TORCH_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def gain(activation: Any, mode: str = "second_moment", **arguments: Any) -> float:
    """Return the factor for the standard deviation of weights that suits an activation f.

    With Var[w] = gain**2 / fan_in and z ~ N(0, 1), to nearly full float64 precision:

    - "second_moment", 1 / sqrt(E[f(z)**2]): signals keep their mean square, as with He's
      sqrt(2) for ReLU. This mode looks forward only: the mean square of gradients grows by
      `theory.mean_field.chi_1` per layer.
    - "centered", 1 / sqrt(Var[f(z)]): gain * f(z) has variance 1.
    - "backward", 1 / sqrt(E[f'(z)**2]): gradients keep their mean square. f' leaves out
      jumps, as automatic differentiation does.
    - "odd", 1 / sqrt(E[odd(z)**2]) with odd(z) = (f(z) - f(-z)) / 2: the gain of a layer whose
      units come in pairs with opposite weights, see `LooksLinear`.
    - "torch": the table of PyTorch's `calculate_gain`, part of which is convention: 5/3 for
      tanh, 3/4 for selu, 1 for sigmoid. It has linear and convolution layers, sigmoid, tanh,
      relu, leaky_relu and selu only.

    Args:
        activation: The name of an activation of Keras, such as "gelu"; a function or an
            activation layer of Keras; or any function that takes a float64 array and acts
            on each entry by itself. Kinks and jumps are found and need not be known. If a
            function computes in float32 and has kinks, five digits are right.
        mode: "second_moment", "centered", "backward", "odd" or "torch". Defaults to
            "second_moment".
        **arguments: Arguments of the activation, such as `negative_slope=0.3` for
            "leaky_relu". The defaults are those of Keras, for "leaky_relu" a slope of 0.2.
            In mode "torch", the name "leaky_relu" has PyTorch's default slope of 0.01.

    Returns:
        A number > 0.

    Raises:
        TypeError: If `activation` is neither a name nor a function.
        ValueError: If Keras has no such activation, it does not act on each entry by
            itself, the mode has no gain for it, or it does not take an argument.

    Example:
        >>> round(gain("gelu"), 6)
        1.53353
        >>> round(gain("leaky_relu", "torch"), 6), round(gain("leaky_relu"), 6)
        (1.414143, 1.38675)

    Source: He et al. 2015, arXiv:1502.01852, section 2.2, for any activation.
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(
            f"`gain(mode=...)` must be one of {', '.join(map(repr, MODES))}. "
            f"Received: mode={mode!r}."
        )
    if mode == "torch":
        return _torch_gain(activation, arguments)
    function = find_activation("gain", activation, arguments)
    quadrature = adaptive_quadrature(function)
    second_moment = quadrature.second_moment
    if not 0 < second_moment < math.inf:
        raise function.requirement_error("have a finite second moment over N(0, 1), above zero")
    if mode == "second_moment":
        return 1 / math.sqrt(second_moment)
    if mode == "odd":
        odd_moment = _odd_moment(function)
        if odd_moment <= _ZERO_VARIANCE * second_moment:
            raise function.requirement_error("not be even for mode='odd'")
        return 1 / math.sqrt(odd_moment)
    if mode == "centered":
        mean = quadrature.mean(quadrature.values)
        variance = quadrature.mean((quadrature.values - mean) ** 2)
        if variance <= _ZERO_VARIANCE * second_moment:
            raise function.requirement_error("not be constant for mode='centered'")
        return 1 / math.sqrt(variance)
    squared_slope = quadrature.mean(quadrature.slopes**2)
    if squared_slope <= _ZERO_SLOPE * second_moment:
        raise function.requirement_error("have a slope for mode='backward'")
    return 1 / math.sqrt(squared_slope)


def odd_share(activation: Any, **arguments: Any) -> float:
    """Return E[odd(z)**2] / E[f(z)**2] for z ~ N(0, 1), odd(z) = (f(z) - f(-z)) / 2.

    The share is 1 for an odd activation, such as tanh, and 0 for an even one.

    Args:
        activation: As in `gain`.
        **arguments: As in `gain`.

    Raises:
        TypeError: As in `gain`.
        ValueError: As in `gain`.
    """
    function = find_activation("odd_share", activation, arguments)
    second_moment = adaptive_quadrature(function).second_moment
    if not 0 < second_moment < math.inf:
        raise function.requirement_error("have a finite second moment over N(0, 1), above zero")
    return min(_odd_moment(function) / second_moment, 1.0)


def mean(activation: Any, **arguments: Any) -> float:
    """Return E[f(z)] for z ~ N(0, 1): 0 for an odd activation, 1/2 for the sigmoid.

    Args:
        activation: As in `gain`.
        **arguments: As in `gain`.

    Raises:
        TypeError: As in `gain`.
        ValueError: If Keras has no such activation, or it does not act on each entry by itself.
    """
    quadrature = adaptive_quadrature(find_activation("mean", activation, arguments))
    return float(quadrature.mean(quadrature.values))


def _odd_moment(function: Activation) -> float:
    """Return E[odd(z)**2]."""
    odd = dataclasses.replace(function, function=lambda x: (function(x) - function(-x)) / 2)
    return adaptive_quadrature(odd).second_moment


def _torch_gain(activation: Any, arguments: dict[str, Any]) -> float:
    name, arguments = unwrap(activation, arguments)
    if name == "leaky_relu":
        check_arguments("gain", name, FORMULAS[name], arguments)
        slope = float(arguments.get("negative_slope", 0.01))
        # Beyond 1e100 the square may overflow, and the 1 does not count.
        return math.sqrt(2 / (1 + slope**2)) if abs(slope) < 1e100 else math.sqrt(2) / abs(slope)
    relu_defaults = {"negative_slope": 0, "max_value": None, "threshold": 0}
    if isinstance(name, str) and name in TORCH_GAINS and arguments in ({}, relu_defaults):
        return TORCH_GAINS[name]
    raise ValueError(
        f"`gain(mode='torch')` knows {', '.join(sorted((*TORCH_GAINS, 'leaky_relu')))}. "
        f"Received: activation={activation!r}. Use another mode for it."
    )
