"""The gain of an activation: what its layer's weights are multiplied by."""

import math
from numbers import Real
from typing import Any

from keras_winit.theory.activations import activation_of, unwrapped
from keras_winit.theory.quadrature import sample

MODES = ("second_moment", "centered", "backward", "torch")

# Below these shares of the second moment nothing but rounding is left.
_NO_VARIANCE, _NO_SLOPE = 1e-24, 1e-20

TORCH = {
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
    """What to multiply the standard deviation of weights by, for an activation f.

    With Var[w] = gain**2 / fan_in and z ~ N(0, 1), to nearly all digits of float64:

    - "second_moment", 1 / sqrt(E[f(z)**2]): signals keep their size, as He's sqrt(2) for
      ReLU. It looks forward only: gradients grow by `theory.mean_field.chi_1` a layer.
    - "centered", 1 / sqrt(Var[f(z)]): the same about the mean of f.
    - "backward", 1 / sqrt(E[f'(z)**2]): gradients keep theirs. f' leaves out jumps, as
      automatic differentiation does.
    - "torch": the table of PyTorch's `calculate_gain`, part of which is convention: 5/3
      for tanh, 3/4 for selu, 1 for sigmoid. It knows linear and convolution layers,
      sigmoid, tanh, relu, leaky_relu and selu only.

    Args:
        activation: The name of an activation of Keras, such as "gelu"; a function or an
            activation layer of Keras; or any function that takes a float64 array and acts
            on each entry by itself. Kinks and jumps are found and need not be known. Of a
            function that computes in float32, five digits are right where it has kinks.
        mode: One of the four.
        **arguments: Of the activation, such as `negative_slope=0.3` for "leaky_relu".
            Defaults are those of Keras, for "leaky_relu" a slope of 0.2; in mode "torch"
            those of PyTorch, a slope of 0.01, if it is given by name and without a slope.

    Returns:
        A number > 0.

    Raises:
        TypeError: If `activation` is neither name nor function.
        ValueError: If Keras has no such activation, it does not act on each entry by
            itself, the mode has no gain for it, or an argument is none of its.

    Example:
        >>> round(gain("gelu"), 6)
        1.53353
        >>> round(gain("leaky_relu", "torch"), 6), round(gain("leaky_relu"), 6)
        (1.414143, 1.38675)

    Source: He et al. 2015, arXiv:1502.01852, section 2.2, for any activation.
    """
    if mode not in MODES:
        raise ValueError(
            f"`gain(mode=...)` must be one of {', '.join(map(repr, MODES))}. "
            f"Received: mode={mode!r}."
        )
    if mode == "torch":
        return _torch_gain(activation, arguments)
    function = activation_of("gain", activation, arguments)
    samples = sample(function)
    second = samples.mean(samples.value**2)
    if not 0 < second < math.inf:
        raise function.refuse("have a finite second moment over N(0, 1) that is not zero")
    if mode == "second_moment":
        return 1 / math.sqrt(second)
    if mode == "centered":
        variance = samples.mean((samples.value - samples.mean(samples.value)) ** 2)
        if variance <= _NO_VARIANCE * second:
            raise function.refuse("not be constant for mode='centered'")
        return 1 / math.sqrt(variance)
    slope = samples.mean(samples.slope**2)
    if slope <= _NO_SLOPE * second:
        raise function.refuse("have a slope for mode='backward'")
    return 1 / math.sqrt(slope)


def _torch_gain(activation: Any, arguments: dict[str, Any]) -> float:
    name, found = unwrapped(activation, arguments)
    slope = found.get("negative_slope", 0.01) if name == "leaky_relu" else None
    if isinstance(slope, Real) and math.isfinite(slope):
        return math.sqrt(2 / (1 + float(slope) ** 2))
    plain = not found or found == {"negative_slope": 0, "max_value": None, "threshold": 0}
    if isinstance(name, str) and name in TORCH and plain:
        return TORCH[name]
    raise ValueError(
        f"`gain(mode='torch')` knows {', '.join(sorted((*TORCH, 'leaky_relu')))}. "
        f"Received: activation={activation!r}. Another mode has a gain for it."
    )
