"""Schemes whose variance depends on the fans of the kernel: Var[w] = gain**2 * scale / fan."""

import math

from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import GainScheme
from keras_winit.initializers.placement import DrawPart, Shape
from keras_winit.initializers.unit_distributions import truncated_stddev

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")


class _Scaled(GainScheme):
    """A scheme with Var[w] = gain**2 * scale / fan, gain being that of the nonlinearity."""

    mode: str
    distribution: str

    def stddev(self, shape: Shape) -> float:
        """Return the standard deviation of the weights of a kernel."""
        fan_in, fan_out = self.fans(shape)
        fan = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[self.mode]
        gain = self.nonlinearity_gain("backward" if self.mode == "fan_out" else "second_moment")
        return gain * self._unit_stddev(fan or 1)

    def _unit_stddev(self, fan: float) -> float:
        """Return sqrt(scale / fan)."""
        raise NotImplementedError

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        stream = self.stream()
        stddev = self.stddev(shape)
        if self.distribution == "uniform":
            return lambda part: stream.uniform(shape, dtype, part, math.sqrt(3) * stddev)
        if self.distribution == "truncated_normal":
            uncut_stddev = stddev / truncated_stddev(-2, 2)
            return lambda part: stream.truncated_normal(shape, dtype, part, uncut_stddev, -2, 2)
        return lambda part: stream.normal(shape, dtype, part, stddev)


class _Gained(_Scaled):
    """A scheme with scale = gain**2 / divisor, gain being its argument."""

    gain: float
    divisor = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain", "a number >= 0", lambda value: value >= 0)

    def _unit_stddev(self, fan: float) -> float:
        # The square of a large or small gain has no place in float64; that of its mantissa does.
        mantissa, exponent = math.frexp(self.gain)
        return math.ldexp(math.sqrt(mantissa * mantissa / self.divisor / fan), exponent)


@scheme
class FanInUniform(_Gained):
    """U(-gain / sqrt(fan_in), gain / sqrt(fan_in)): the heuristic that Xavier's schemes replaced.

    Its variance is only gain**2 / (3 * fan_in), so signals shrink with depth unless `gain` is
    sqrt(3) times the gain of the activation. It is the default of PyTorch's linear and
    convolution layers.

    Args:
        gain: Factor of the limit, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>fan_in_uniform")
    """

    formula = "U(±gain / √fan_in)"
    use = "kernels that match PyTorch's default layers"
    source = "Glorot and Bengio 2010 (AISTATS), section 2.3, eq. 1"
    mode, distribution, divisor = "fan_in", "uniform", 3

    gain: float = 1.0


@scheme
class LecunNormal(_Gained):
    """Normal with Var[w] = gain**2 / fan_in: the `randn / sqrt(fan_in)` of the CS231n notes.

    Inputs of variance 1 give pre-activations of variance gain**2, at any width.

    Args:
        gain: Factor of the standard deviation, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, "selu", kernel_initializer="winit>lecun_normal")

    Departs: It is not truncated. Keras' `lecun_normal` is cut at two standard deviations.
    """

    formula = "N(0, gain² / fan_in)"
    use = "SELU, tanh, linear layers"
    source = "LeCun et al. 1998, Efficient BackProp, section 4.6, eq. 16"
    mode, distribution = "fan_in", "normal"

    gain: float = 1.0


@scheme
class LecunUniform(_Gained):
    """Uniform with Var[w] = gain**2 / fan_in: the limit is gain * sqrt(3 / fan_in).

    Args:
        gain: Factor of the standard deviation, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, "selu", kernel_initializer="winit>lecun_uniform")
    """

    formula = "U(±gain √(3 / fan_in))"
    use = "SELU, tanh, linear layers"
    source = "LeCun et al. 1998, Efficient BackProp, section 4.6, eq. 16"
    mode, distribution = "fan_in", "uniform"

    gain: float = 1.0


@scheme
class XavierNormal(_Gained):
    """Normal with Var[w] = gain**2 * 2 / (fan_in + fan_out).

    This is the compromise between keeping the variance of signals, gain**2 / fan_in, and that of
    gradients, gain**2 / fan_out.

    Args:
        gain: Factor of the standard deviation, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer="winit>xavier_normal")

    Departs: It is not truncated. Keras' `glorot_normal` is cut at two standard deviations.
    """

    formula = "N(0, gain² 2 / (fan_in + fan_out))"
    use = "tanh, sigmoid, attention"
    source = "Glorot and Bengio 2010 (AISTATS), section 4.2.1, eq. 12"
    mode, distribution = "fan_avg", "normal"

    gain: float = 1.0


@scheme
class XavierUniform(_Gained):
    """Uniform with Var[w] = gain**2 * 2 / (fan_in + fan_out), as Keras' default.

    The limit is gain * sqrt(6 / (fan_in + fan_out)).

    Args:
        gain: Factor of the limit, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite.

    Example:
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer="winit>xavier_uniform")
    """

    formula = "U(±gain √(6 / (fan_in + fan_out)))"
    use = "tanh, sigmoid, attention"
    source = "Glorot and Bengio 2010 (AISTATS), section 4.2.1, eq. 16"
    mode, distribution = "fan_avg", "uniform"

    gain: float = 1.0


class _He(_Scaled):
    negative_slope: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("negative_slope")
        self._require_choice("mode", ("fan_in", "fan_out"))
        if self.negative_slope and self.nonlinearity is not None:
            raise ValueError(
                f"`{type(self).__name__}` takes `negative_slope` or `nonlinearity`, not both. "
                f"Received: negative_slope={self.negative_slope!r}, "
                f"nonlinearity={self.nonlinearity!r}."
            )

    def _unit_stddev(self, fan: float) -> float:
        if self.nonlinearity is not None:
            return math.sqrt(1 / fan)
        slope = abs(self.negative_slope)
        # Beyond 1e100 the square may overflow, and the 1 does not count.
        return math.sqrt(2 / (1 + slope**2) / fan) if slope < 1e100 else math.sqrt(2 / fan) / slope


@scheme
class HeNormal(_He):
    """Normal with Var[w] = gain**2 / fan, gain = sqrt(2 / (1 + negative_slope**2)).

    A ReLU passes half of the second moment of a signal; a variance of 2 / fan_in keeps it.

    Args:
        negative_slope: Slope of a leaky ReLU below zero. Defaults to 0, a ReLU.
        mode: "fan_in" keeps the size of signals, "fan_out" that of gradients. Defaults to
            "fan_in".
        nonlinearity: Any activation, instead of the leaky ReLU. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `negative_slope` is not finite, `mode` is not one of
            the two, or both `negative_slope` and `nonlinearity` are given.

    Example:
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer="winit>he_normal")

    Departs: It is not truncated. Keras' `he_normal` is cut at two standard deviations.
    """

    formula = "N(0, gain² / fan_in), gain √2 for ReLU"
    use = "ReLU, leaky ReLU and similar activations"
    source = "He et al. 2015, arXiv:1502.01852, section 2.2, eq. 10, 14, 15"
    distribution = "normal"

    negative_slope: float = 0.0
    mode: str = "fan_in"


@scheme
class HeUniform(_He):
    """Uniform with Var[w] = gain**2 / fan, gain = sqrt(2 / (1 + negative_slope**2)).

    The limit is gain * sqrt(3 / fan).

    Args:
        negative_slope: Slope of a leaky ReLU below zero. Defaults to 0, a ReLU.
        mode: "fan_in" keeps the size of signals, "fan_out" that of gradients. Defaults to
            "fan_in".
        nonlinearity: Any activation, instead of the leaky ReLU. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `negative_slope` is not finite, `mode` is not one of
            the two, or both `negative_slope` and `nonlinearity` are given.

    Example:
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer="winit>he_uniform")
    """

    formula = "U(±gain √(3 / fan_in)), gain √2 for ReLU"
    use = "ReLU, leaky ReLU and similar activations"
    source = "He et al. 2015, arXiv:1502.01852, section 2.2, eq. 10, 14, 15"
    distribution = "uniform"

    negative_slope: float = 0.0
    mode: str = "fan_in"


@scheme
class VarianceScaling(_Scaled):
    """The general form, Var[w] = scale / fan, with any fan and distribution.

    Args:
        scale: Var[w] times the fan, above 0. Defaults to 1.
        mode: The fan: "fan_in", "fan_out", "fan_avg" (their mean) or "fan_geo_avg"
            (their geometric mean). Defaults to "fan_in".
        distribution: "normal" (not truncated), "truncated_normal" (cut at two standard
            deviations and scaled back to Var[w]) or "uniform". Defaults to "normal".
        nonlinearity: An activation, by name or as a function of arrays, whose gain
            multiplies the standard deviation. The gain keeps the second moment of signals or,
            if `mode` is "fan_out", of gradients. Defaults to None: a gain of 1.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `scale` is not a finite number above 0, or `mode` or
            `distribution` is not one of the above.

    Example:
        >>> scheme = keras_winit.VarianceScaling(2.0, "fan_geo_avg", "uniform")
        >>> layer = keras.layers.Dense(64, kernel_initializer=scheme)

    Departs: Here "normal" is not truncated. In Keras, "normal" means the truncated normal
        distribution, and "untruncated_normal" this one.
    """

    formula = "Var[w] = scale / fan"
    use = "any fan, scale and distribution"
    source = "Glorot and Bengio 2010 (AISTATS), section 4.2.1, eq. 10 to 12"

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("scale", "a number > 0", lambda value: value > 0)
        self._require_choice("mode", MODES)
        self._require_choice("distribution", DISTRIBUTIONS)

    def _unit_stddev(self, fan: float) -> float:
        return math.sqrt(self.scale / fan)
