"""Schemes for biases, set by the layer's number of inputs or by the frequencies of classes."""

import copy
import math
import numbers
from collections.abc import Sequence
from typing import Self

import numpy as np

from keras_winit.initializers.base import RandomScheme, Scheme, scheme
from keras_winit.initializers.placement import Array, DrawPart, Part, Shape, empty, part_shape
from keras_winit.theory.fans import Use, fans


@scheme
class FanInBias(RandomScheme):
    """U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): the biases of PyTorch's layers.

    The shape of a bias does not show the fan_in of the layer's kernel, so `fan_in` must be
    given. If it is 0, the bias is zero.

    Args:
        fan_in: Number of weights that a unit of the layer sums over, at least 0. Defaults to
            None: `for_layer` sets it.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `fan_in` is negative. At call, if it is None.

    Example:
        >>> bias = keras_winit.FanInBias(fan_in=128)
        >>> layer = keras.layers.Dense(64, bias_initializer=bias)
    """

    formula = "U(±1 / √fan_in)"
    use = "biases that match PyTorch's default layers"
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

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
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
    """Biases with which a classifier starts by predicting the known frequencies of the classes.

    Otherwise training begins by unlearning equal probabilities. For sigmoid outputs, give
    `probability`: the bias is log(p / (1 - p)), and the layer starts with the output p. For a
    softmax, give `frequencies`: the bias is log(f), f being the share of each class, and the
    layer starts with the shares as its output.

    Args:
        probability: Probability of a positive, in (0, 1): one number for all outputs, or one
            for each output along the last axis. Defaults to 0.01, unless `frequencies` is
            given.
        frequencies: Given instead of `probability`: the frequency of each class along the last
            axis, as counts or shares above 0.

    Raises:
        TypeError: At construction, if a value is not a number.
        ValueError: At construction, if a number is out of range, or both arguments are given.
            At call, if the size of the last axis is not the number of classes that was given.

    Example:
        >>> bias = keras_winit.PriorBias(frequencies=[900, 90, 10])
        >>> layer = keras.layers.Dense(3, "softmax", bias_initializer=bias)

    Departs: The paper uses one probability, 0.01, for all classes.
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
            self._require_positive("frequencies", "numbers > 0, one for each class", math.inf)
        elif isinstance(self.probability, Sequence | np.ndarray):
            self._require_positive("probability", "a number in (0, 1), or one for each class", 1)
        else:
            self.probability = 0.01 if self.probability is None else self.probability
            requirement = "a number in (0, 1), or one for each class"
            self._require_real("probability", requirement, lambda value: 0 < value < 1)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        if self.frequencies is not None:
            counts = np.array(self.frequencies)
            # The sum of the counts themselves may overflow.
            bias = np.log(counts) - np.log(counts.max()) - np.log((counts / counts.max()).sum())
        else:
            probability = np.array(self.probability)
            bias = np.log(probability) - np.log1p(-probability)
        if bias.ndim and shape[-1:] != bias.shape:
            raise ValueError(
                f"`PriorBias` for {bias.size} classes needs a bias whose last axis has that size. "
                f"Received: shape={shape}."
            )

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            out[...] = bias[part[-1]] if bias.ndim else bias
            return out

        return draw

    def _require_positive(self, name: str, requirement: str, bound: float) -> None:
        """Check numbers above 0 and below a bound, and store them as a tuple of floats."""
        values = getattr(self, name)
        listed = isinstance(values, Sequence | np.ndarray) and getattr(values, "ndim", 1) == 1
        real = listed and all(
            isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values
        )
        self._require(name, requirement, real, TypeError)
        try:
            floats = tuple(float(value) for value in values)
        except OverflowError:
            floats = ()
        inside = bool(floats) and all(0 < value < bound for value in floats)
        self._require(name, requirement, inside, ValueError)
        setattr(self, name, floats)
