"""Schemes with a width of their own, whatever the layer."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from keras_winit.initializers.base import NOTES, RandomScheme, scheme
from keras_winit.initializers.placement import Array, Part, Shape
from keras_winit.initializers.streams import truncated_stddev

EXPERIMENT = "CS231n lecture on training neural networks, activation statistics of ten layers"


class _Normal(RandomScheme):
    stddev: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("stddev", "a number >= 0", lambda value: value >= 0)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        stream = self.stream()
        return lambda part: stream.normal(shape, dtype, part, self.stddev)


@scheme
class SmallNormal(_Normal):
    """N(0, 0.01**2): breaks the symmetry, and fades to nothing in a deep network.

    Ten tanh layers of 500 units shrink a signal of 1 to 3e-7, unless batch
    normalization lifts it again in each.

    Args:
        stddev: In weight units, at least 0. Defaults to 0.01.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>small_normal")

    Departs: Nowhere. It is not cut, and neither is Keras' `random_normal`, whose stddev
        is 0.05.
    """

    formula = "N(0, stddev²), stddev 0.01"
    use = "shallow networks, or with batch normalization"
    source = NOTES

    stddev: float = 0.01


@scheme
class LargeNormal(_Normal):
    """N(0, 1): saturates tanh and sigmoid, so that almost no gradient passes.

    Args:
        stddev: In weight units, at least 0. Defaults to 1.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>large_normal")
    """

    formula = "N(0, stddev²), stddev 1"
    use = "to see saturation"
    source = EXPERIMENT

    stddev: float = 1.0


@scheme
class NegativeNormal(_Normal):
    """-abs(N(0, 0.05**2)): all weights negative, which kills ReLUs behind ReLUs.

    Inputs that are never negative, such as pixels or the output of a ReLU, then give
    pre-activations that are never positive: output and gradient are zero for good.

    Args:
        stddev: Of the normal before its sign is taken, in weight units, at least 0.
            Defaults to 0.05.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>negative_normal")
    """

    formula = "-|N(0, stddev²)|, stddev 0.05"
    use = "to see dead ReLUs"
    source = 'CS231n notes, Neural Networks Part 1, "dying" ReLUs'

    stddev: float = 0.05

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        normal = super().plan(shape, dtype)

        def draw(part: Part) -> Array:
            values = normal(part)
            return np.negative(np.abs(values, out=values), out=values)

        return draw


@scheme
class SmallUniform(RandomScheme):
    """U(-0.01, 0.01): breaks the symmetry like `SmallNormal`, with no outliers.

    Args:
        limit: Both bounds, in weight units, at least 0. Defaults to 0.01.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `limit` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>small_uniform")
    """

    formula = "U(-limit, limit), limit 0.01"
    use = "shallow networks, or with batch normalization"
    source = NOTES

    limit: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("limit", "a number >= 0", lambda value: value >= 0)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        stream = self.stream()
        return lambda part: stream.uniform(shape, dtype, part, self.limit)


@scheme
class TruncatedNormal(_Normal):
    """A normal without its tails, which has the standard deviation that was asked for.

    With w = s * z, z from N(0, 1) on [low, high]: s = stddev / std(z) if `corrected`,
    else s = stddev, and the weights spread less than stddev (0.88 of it at two standard
    deviations). No weight lies beyond low * s or high * s, but for the rounding of a
    bound to float16 or bfloat16.

    Args:
        stddev: Of the weights if `corrected`, else of the normal before it is cut. In
            weight units, at least 0. Defaults to 0.05.
        bounds: `(low, high)`, in standard deviations of the normal before it is cut; one
            number means plus and minus. May be infinite. Defaults to 2.
        corrected: Whether the cut is made up for. Defaults to True.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite, or `bounds`
            are not two numbers of which the first is smaller.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>truncated_normal")

    Departs: Keras' `truncated_normal` is cut at two standard deviations and not corrected.
    """

    formula = "N(0, s²) cut at ±2 s, s = stddev / 0.8796, stddev 0.05"
    use = "a fixed width without outliers"
    source = "Robert 1995, Simulation of truncated normal variables"

    stddev: float = 0.05
    bounds: float | Sequence[float] = (-2.0, 2.0)
    corrected: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        requirement = "a number > 0, or two numbers of which the first is smaller"
        low, high = _pair(self.bounds)
        self._require("bounds", requirement, low < high, ValueError)
        enough = "wide enough to leave a standard deviation of 1e-6, also relative to the bounds"
        self._require("bounds", enough, _leaves_spread(low, high), ValueError)
        self.bounds = (low, high)
        self._require("corrected", "True or False", isinstance(self.corrected, bool), TypeError)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        stream = self.stream()
        low, high = cast("tuple[float, float]", self.bounds)
        stddev = self.stddev / (truncated_stddev(low, high) if self.corrected else 1.0)
        return lambda part: stream.truncated_normal(shape, dtype, part, stddev, low, high)


def _pair(bounds: Any) -> tuple[float, float]:
    """Two floats; not-a-numbers if that is not what bounds mean."""
    if isinstance(bounds, numbers.Real):
        bounds = (-bounds, bounds)
    real = isinstance(bounds, Sequence | np.ndarray) and all(
        isinstance(bound, numbers.Real) and not isinstance(bound, bool) for bound in bounds
    )
    try:
        low, high = (float(bound) for bound in bounds) if real else (math.nan, math.nan)
    except (ValueError, OverflowError):
        return math.nan, math.nan
    return low, high


def _leaves_spread(low: float, high: float) -> bool:
    """Whether float32 can hold what lies between the bounds."""
    try:
        return truncated_stddev(low, high) > 1e-6 * max(1.0, min(abs(low), abs(high)))
    except OverflowError:
        return False
