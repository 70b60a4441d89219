"""Schemes with a fixed scale, whatever the size of the layer."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from keras_winit.initializers.base import NOTES, RandomScheme, scheme
from keras_winit.initializers.placement import Array, DrawPart, Part, Shape
from keras_winit.initializers.unit_distributions import truncated_stddev

EXPERIMENT = "CS231n lecture on training neural networks, activation statistics of ten layers"


class _Normal(RandomScheme):
    stddev: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("stddev", "a number >= 0", lambda value: value >= 0)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        stream = self.stream()
        return lambda part: stream.normal(shape, dtype, part, self.stddev)


@scheme
class SmallNormal(_Normal):
    """N(0, 0.01**2): breaks the symmetry, but the signal vanishes in a deep network.

    Ten tanh layers of 500 units shrink a signal of standard deviation 1 to 3e-7, unless batch
    normalization restores it in each layer.

    Args:
        stddev: Standard deviation of the weights, at least 0. Defaults to 0.01.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>small_normal")

    Departs: Not from the source. Keras' `random_normal` is not truncated either, but its
        stddev is 0.05.
    """

    formula = "N(0, stddev²), stddev 0.01"
    use = "shallow networks, or with batch normalization"
    source = NOTES

    stddev: float = 0.01


@scheme
class LargeNormal(_Normal):
    """N(0, 1): saturates tanh and sigmoid, so that almost no gradient passes.

    Args:
        stddev: Standard deviation of the weights, at least 0. Defaults to 1.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>large_normal")
    """

    formula = "N(0, stddev²), stddev 1"
    use = "demonstrations of saturation"
    source = EXPERIMENT

    stddev: float = 1.0


@scheme
class NegativeNormal(_Normal):
    """-abs(N(0, 0.05**2)): all weights are negative, which kills ReLUs that follow other ReLUs.

    If no input is negative, as with pixels or the output of a ReLU, then no pre-activation is
    positive: output and gradient are zero for good.

    Args:
        stddev: Standard deviation of the normal distribution before the sign is set, at least
            0. Defaults to 0.05.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>negative_normal")
    """

    formula = "-|N(0, stddev²)|, stddev 0.05"
    use = "demonstrations of dead ReLUs"
    source = 'CS231n notes, Neural Networks Part 1, "dying" ReLUs'

    stddev: float = 0.05

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        draw_normal = super().plan(shape, dtype)

        def draw(part: Part) -> Array:
            values = draw_normal(part)
            return np.negative(np.abs(values, out=values), out=values)

        return draw


@scheme
class SmallUniform(RandomScheme):
    """U(-0.01, 0.01): breaks the symmetry like `SmallNormal`, with no outliers.

    Args:
        limit: Largest absolute value of the weights, at least 0. Defaults to 0.01.
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

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        stream = self.stream()
        return lambda part: stream.uniform(shape, dtype, part, self.limit)


@scheme
class TruncatedNormal(_Normal):
    """A normal distribution without its tails, with exactly the standard deviation asked for.

    The weights are w = s * z, with z from N(0, 1) on [low, high]. If `corrected`,
    s = stddev / std(z). Otherwise s = stddev, and the weights have a smaller standard
    deviation: 0.88 * stddev if the cut is at two standard deviations. No weight lies beyond
    low * s or high * s, apart from the rounding of a bound to float16 or bfloat16.

    Args:
        stddev: Standard deviation, at least 0: of the weights if `corrected`, otherwise of the
            normal distribution before it is cut. Defaults to 0.05.
        bounds: `(low, high)`, in standard deviations of the normal distribution before it is
            cut. One number means plus and minus that number. May be infinite. Defaults to 2.
        corrected: Whether s makes up for the standard deviation that the cut removes. Defaults
            to True.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        ValueError: At construction, if `stddev` is negative or not finite, or `bounds` is
            neither one number > 0 nor two numbers of which the first is smaller.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>truncated_normal")

    Departs: Keras' `truncated_normal` is cut at two standard deviations and not corrected.
    """

    formula = "N(0, s²) cut at ±2 s, s = stddev / 0.8796, stddev 0.05"
    use = "a fixed standard deviation without outliers"
    source = "Robert 1995, Simulation of truncated normal variables"

    stddev: float = 0.05
    bounds: float | Sequence[float] = (-2.0, 2.0)
    corrected: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        requirement = "a number > 0, or two numbers of which the first is smaller"
        low, high = _pair(self.bounds)
        self._require("bounds", requirement, low < high, ValueError)
        requirement = (
            "so far apart that the standard deviation between them exceeds 1e-6, and 1e-6 times "
            "the bound closer to zero"
        )
        self._require("bounds", requirement, _leaves_spread(low, high), ValueError)
        self.bounds = (low, high)
        self._require("corrected", "True or False", isinstance(self.corrected, bool), TypeError)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        stream = self.stream()
        low, high = cast("tuple[float, float]", self.bounds)
        stddev = self.stddev / (truncated_stddev(low, high) if self.corrected else 1.0)
        return lambda part: stream.truncated_normal(shape, dtype, part, stddev, low, high)


def _pair(bounds: Any) -> tuple[float, float]:
    """Return the bounds as two floats, and as two NaNs if they are neither one number nor two."""
    if isinstance(bounds, numbers.Real):
        bounds = (-bounds, bounds)
    listed = isinstance(bounds, Sequence | np.ndarray) and getattr(bounds, "ndim", 1) == 1
    real = listed and all(
        isinstance(bound, numbers.Real) and not isinstance(bound, bool) for bound in bounds
    )
    try:
        low, high = (float(bound) for bound in bounds) if real else (math.nan, math.nan)
    except (ValueError, OverflowError):
        return math.nan, math.nan
    return low, high


def _leaves_spread(low: float, high: float) -> bool:
    """Return whether float32 can tell apart enough values between the bounds."""
    try:
        return truncated_stddev(low, high) > 1e-6 * max(1.0, min(abs(low), abs(high)))
    except OverflowError:
        return False
