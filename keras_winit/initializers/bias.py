"""Biases that know their layer or their data."""

import copy
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from keras_winit.initializers.base import RandomScheme, Scheme, scheme
from keras_winit.initializers.placement import Array, Part, Shape, empty, part_shape
from keras_winit.theory.fans import Use, fans


@scheme
class FanInBias(RandomScheme):
    """U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): the biases of PyTorch's layers.

    The kernel's fan_in cannot be seen from the shape of a bias and must be told. Without
    inputs, `fan_in=0`, the bias is zero.

    Args:
        fan_in: Of the kernel beside the bias: how many weights a unit adds up. A count,
            at least 0. None, the default: to be told by `for_layer`.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `fan_in` is negative. At call, if it is None.

    Example:
        >>> bias = keras_winit.FanInBias(fan_in=128)
        >>> layer = keras.layers.Dense(64, bias_initializer=bias)
    """

    formula = "U(±1 / √fan_in)"
    use = "to match PyTorch's default layers"
    source = "PyTorch documentation, torch.nn.Linear, bias"

    fan_in: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fan_in is not None:
            self._require_whole("fan_in", 0)

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        if self.fan_in is not None or shape is None:
            return self
        twin = copy.copy(self)
        twin.fan_in = round(fans(shape, **vars(use))[0])
        return twin

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if self.fan_in is None:
            raise ValueError(
                f"`FanInBias(fan_in=...)` must be given: the shape of a bias does not show how "
                f"many inputs its layer has. Received: fan_in=None, shape={shape}. Give the "
                f"fan_in, or bind the scheme to its layer with `for_layer`."
            )
        limit = 1 / math.sqrt(self.fan_in) if self.fan_in else 0.0
        stream = self.stream()
        return lambda part: stream.uniform(shape, dtype, part, limit)


@scheme
class PriorBias(Scheme):
    """Outputs that start at what is known of the classes, instead of unlearning a half.

    With sigmoid outputs, `probability`: the bias is log(p / (1 - p)), and the layer
    starts by giving each class its probability p. With a softmax, `frequencies`: the bias
    is log(f), f being the share of each class, and the layer starts by giving the shares.

    Args:
        probability: Of a positive, in (0, 1): one number for all outputs, or one for
            each along the last axis. Defaults to 0.01, unless `frequencies` is given.
        frequencies: Instead of `probability`: how often each class occurs, as counts or
            shares above 0, one for each along the last axis.

    Raises:
        ValueError: At construction, if a number is out of its range, or both are given.
            At call, if the last axis does not have as many places as classes were given.

    Example:
        >>> bias = keras_winit.PriorBias(frequencies=[900, 90, 10])
        >>> layer = keras.layers.Dense(3, "softmax", bias_initializer=bias)

    Departs: The paper has one probability, 0.01, for all classes.
    """

    formula = "log(p / (1 - p)), p 0.01; or log(frequency)"
    use = "last layer of a classifier with rare classes"
    source = "Lin et al. 2017, arXiv:1708.02002, section 4.1"

    probability: float | Sequence[float] | None = None
    frequencies: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and self.frequencies is not None:
            raise ValueError(
                f"`PriorBias` takes `probability` or `frequencies`, not both. Received: "
                f"probability={self.probability!r}, frequencies={self.frequencies!r}."
            )
        if self.frequencies is not None:
            self._keep("frequencies", "numbers > 0, one for each class", math.inf)
        elif isinstance(self.probability, Sequence | np.ndarray):
            self._keep("probability", "a number in (0, 1), or one for each class", 1)
        else:
            self.probability = 0.01 if self.probability is None else self.probability
            requirement = "a number in (0, 1), or one for each class"
            self._require_real("probability", requirement, lambda value: 0 < value < 1)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if self.frequencies is not None:
            counts = np.array(self.frequencies)
            bias = np.log(counts) - np.log(counts.max()) - np.log((counts / counts.max()).sum())
        else:
            chances = np.array(self.probability)
            bias = np.log(chances) - np.log1p(-chances)
        if bias.ndim and shape[-1:] != bias.shape:
            raise ValueError(
                f"`PriorBias` for {bias.size} classes needs as many places along the last axis. "
                f"Received: shape={shape}."
            )

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            out[...] = bias[part[-1]] if bias.ndim else bias
            return out

        return draw

    def _keep(self, name: str, requirement: str, bound: float) -> None:
        """Check numbers above 0 and below a bound, and keep them as a tuple of floats."""
        values = getattr(self, name)
        real = isinstance(values, Sequence | np.ndarray) and all(
            isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values
        )
        self._require(name, requirement, real, TypeError)
        try:
            kept = tuple(float(value) for value in values)
        except OverflowError:
            kept = ()
        inside = bool(kept) and all(0 < value < bound for value in kept)
        self._require(name, requirement, inside, ValueError)
        setattr(self, name, kept)
