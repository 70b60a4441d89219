"""Signals in wide random networks: variance and correlation from layer to layer.

A layer of width N with Var[w] = sigma_w**2 / N and Var[b] = sigma_b**2 makes, in the limit
of wide layers, pre-activations that are normal with a variance q. For f the activation and
u, v normal of variance q and correlation c,

    q' = sigma_w**2 E[f(u)**2] + sigma_b**2,
    c' = (sigma_w**2 E[f(u) f(v)] + sigma_b**2) / q'.

Source: Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Hayou
    et al. 2019, arXiv:1902.06853.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, Array, activation_of
from keras_winit.theory.quadrature import Samples, sample, smoothed

# Where critical points and fixed points are looked for.
VARIANCES = np.append(np.logspace(-6, 1.375, 60), 30.0)

# Of a quantity of order 1: what rounding may do to it; of a variance of biases, less.
ROUNDING = 1e-9
_DEAD = 1e-11


@dataclass(frozen=True)
class FixedPoint:
    """Where the variance of pre-activations settles, and how fast.

    `sigma_w`, `sigma_b`: sqrt(fan_in) times the standard deviation of weights, and the
    standard deviation of biases. `q`: the variance of pre-activations that stays. `c`: the
    correlation between two inputs that stays. `chi_1`: what a layer multiplies the mean
    square of gradients, and a small angle between inputs, by. `chi_q`: what it multiplies
    a small deviation of the variance by. `depth_scale_q`, `depth_scale_c`: the layers over
    which deviations of q and c shrink by e; infinite where they do not.
    """

    activation: str
    sigma_w: float
    sigma_b: float
    q: float
    c: float
    chi_1: float
    chi_q: float
    depth_scale_q: float
    depth_scale_c: float

    @property
    def stable(self) -> bool:
        """Whether the variance returns to q: chi_q < 1."""
        return math.isfinite(self.depth_scale_q)

    def __str__(self) -> str:
        """One quantity a line."""
        stable = "yes" if self.stable else "no, the variance does not return to q"
        return "\n".join(
            [
                f"{type(self).__name__} of {self.activation}",
                f"sigma_w        {self.sigma_w:.8g}  stddev of weights, times sqrt(fan_in)",
                f"sigma_b        {self.sigma_b:.8g}  stddev of biases",
                f"q              {self.q:.8g}  variance of pre-activations",
                f"c              {self.c:.8g}  correlation between two inputs",
                f"chi_1          {self.chi_1:.8g}  growth of squared gradients, by layer",
                f"chi_q          {self.chi_q:.8g}  growth of deviations from q, by layer",
                f"depth_scale_q  {self.depth_scale_q:.8g}  layers over which q settles",
                f"depth_scale_c  {self.depth_scale_c:.8g}  layers over which c settles",
                f"stable         {stable}",
            ]
        )


@dataclass(frozen=True)
class CriticalPoint(FixedPoint):
    """A fixed point with chi_1 = 1: gradients neither vanish nor explode."""


@dataclass(frozen=True)
class Layer:
    """What a layer is expected to do: `q`, `c` of pre-activations, moments of the output."""

    q: float
    c: float
    mean: float
    stddev: float


def variance_map(activation: Any, q: float, sigma_w: float, sigma_b: float = 0.0) -> float:
    """The variance of the next layer's pre-activations, q', from this one's."""
    _require_all("variance_map", q=q, sigma_w=sigma_w, sigma_b=sigma_b)
    samples = sample(activation_of("variance_map", activation, {}), q)
    return sigma_w**2 * samples.mean(samples.value**2) + sigma_b**2


def correlation_map(
    activation: Any, c: float, q: float, sigma_w: float, sigma_b: float = 0.0
) -> float:
    """The correlation of the next layer's pre-activations of two inputs, c', from this one's.

    Both inputs have the variance q. Where q' is zero, c is returned.
    """
    function = activation_of("correlation_map", activation, {})
    _require_all("correlation_map", q=q, sigma_w=sigma_w, sigma_b=sigma_b)
    _require("correlation_map", "c", c, "a number in [-1, 1]", lambda value: abs(value) <= 1)
    return _correlation_map(function, c, q, sigma_w, sigma_b)


def chi_1(activation: Any, q: float, sigma_w: float) -> float:
    """sigma_w**2 E[f'(u)**2]: the growth of squared gradients; infinite where f jumps."""
    _require_all("chi_1", q=q, sigma_w=sigma_w)
    return sigma_w**2 * _squared_slope(sample(activation_of("chi_1", activation, {}), q))


def chi_q(activation: Any, q: float, sigma_w: float) -> float:
    """The derivative of q' by q, for q > 0: the growth of small deviations of the variance."""
    _require_all("chi_q", sigma_w=sigma_w)
    _require("chi_q", "q", q, "a number > 0", lambda value: value > 0)
    return sigma_w**2 * _growth(sample(activation_of("chi_q", activation, {}), q), q)


def predict(
    activation: Any, sigma_w: float, sigma_b: float = 0.0, depth: int = 10
) -> tuple[Layer, ...]:
    """What `propagate` measures, without data: a stack of wide layers fed with N(0, 1).

    Args:
        activation: A name or a function, as for `gain`.
        sigma_w: sqrt(fan_in) times the standard deviation of the weights.
        sigma_b: The standard deviation of the biases.
        depth: Number of layers, at least 1.

    Returns:
        A `Layer` for each: variance and correlation, between two inputs, of its
        pre-activations; mean and standard deviation of its output.

    Raises:
        TypeError: If a number is none, or `activation` is neither name nor function.
        ValueError: If a number is out of its range, or there is no such activation.

    Example:
        >>> [round(layer.stddev, 3) for layer in predict("tanh", sigma_w=1.0, depth=3)]
        [0.628, 0.486, 0.408]

    Source: the module's; for the experiment, CS231n, activation statistics.
    """
    function = activation_of("predict", activation, {})
    _require_all("predict", sigma_w=sigma_w, sigma_b=sigma_b)
    whole = isinstance(depth, int | np.integer) and not isinstance(depth, bool)
    if not whole or depth < 1:
        raise (ValueError if whole else TypeError)(
            f"`predict(depth=...)` must be an integer >= 1. Received: depth={depth!r}."
        )
    q = sigma_w**2 + sigma_b**2
    c = sigma_b**2 / q if q else 0.0
    layers = []
    for _ in range(depth):
        samples = sample(function, q)
        mean = samples.mean(samples.value)
        variance = samples.mean((samples.value - mean) ** 2)
        if not math.isfinite(variance):
            raise function.refuse(f"have a finite second moment over N(0, {q:g})")
        layers.append(Layer(q, c, mean, math.sqrt(variance)))
        c = _correlation_map(function, c, q, sigma_w, sigma_b)
        q = sigma_w**2 * (variance + mean**2) + sigma_b**2
    return tuple(layers)


def fixed_point(activation: Any, sigma_w: float, sigma_b: float = 0.0) -> FixedPoint:
    """Where variance and correlation settle when a stack is fed with N(0, 1).

    The variance goes from sigma_w**2 + sigma_b**2 up or down to the first that stays; it
    may be 0. Two inputs become equal, c = 1, where chi_1 is at most 1.

    Args:
        activation: A name or a function, as for `gain`.
        sigma_w: sqrt(fan_in) times the standard deviation of the weights.
        sigma_b: The standard deviation of the biases.

    Raises:
        ValueError: If the variance grows beyond 10,000 times its start, a number is out of
            its range, or there is no such activation.

    Example:
        >>> point = fixed_point("tanh", sigma_w=2.0, sigma_b=0.05**0.5)
        >>> round(point.q, 3), round(point.c, 3), point.stable
        (2.196, 0.165, True)
    """
    function = activation_of("fixed_point", activation, {})
    _require_all("fixed_point", sigma_w=sigma_w, sigma_b=sigma_b)

    def growth(q: float) -> float:
        samples = sample(function, q)
        return sigma_w**2 * samples.mean(samples.value**2) + sigma_b**2 - q

    start = sigma_w**2 + sigma_b**2
    direction = growth(start) if start else 0.0
    if abs(direction) <= ROUNDING * start:
        q = start
    else:
        powers = np.arange(0, 13, 0.125) if direction > 0 else -np.arange(0, 40, 0.125)
        path = start * np.exp(powers[abs(powers) <= (math.log(1e4) if direction > 0 else 40)])
        q = _first_root(growth, path)
        if math.isnan(q) and direction > 0:
            raise ValueError(
                f"`fixed_point(sigma_w=..., sigma_b=...)` must let the variance settle. Received: "
                f"sigma_w={sigma_w!r}, sigma_b={sigma_b!r}, with which it grows beyond "
                f"{path[-1]:g}."
            )
        q = 0.0 if math.isnan(q) else q
    return _settled(function, sigma_w, sigma_b, q)


def _settled(function: Activation, sigma_w: float, sigma_b: float, q: float) -> FixedPoint:
    # At zero the limit counts, which a kink there keeps from being a value.
    near = max(q, 1e-12)
    samples = sample(function, near)
    one = sigma_w**2 * _squared_slope(samples)
    variance = sigma_w**2 * _growth(samples, near)
    c, slope = 1.0, one
    if one > 1 + ROUNDING:

        def growth(c: float) -> float:
            return _correlation_map(function, c, near, sigma_w, sigma_b) - c

        c = _correlation(growth)
        slope = sigma_w**2 * _pair(function, samples, c, near, slopes=True)
    return FixedPoint(
        activation=function.name,
        sigma_w=float(sigma_w),
        sigma_b=float(sigma_b),
        q=float(q),
        c=c,
        chi_1=one,
        chi_q=variance,
        depth_scale_q=_depth_scale(variance),
        depth_scale_c=_depth_scale(slope),
    )


def _correlation(growth: Callable[[float], float]) -> float:
    """The fixed point of the correlation map below 1, if it can be told from 1."""
    if abs(growth(0.0)) <= ROUNDING:
        return 0.0
    return _root(growth, 0.0, 1 - 1e-6) if growth(1 - 1e-6) < 0 else 1.0


def critical_point(
    activation: Any, bias_stddev: float | None = None, q: float | None = None, **arguments: Any
) -> CriticalPoint:
    """Weights and biases with chi_1 = 1, so that gradients keep their size through depth.

    With sigma_w**2 = 1 / E[f'(u)**2] and sigma_b**2 = q - sigma_w**2 E[f(u)**2] each q has
    one such point, if that is not negative. Initialize with N(0, sigma_w**2 / fan_in) and
    biases with N(0, sigma_b**2).

    Args:
        activation: A name or a function, as for `gain`. Continuous: chi_1 is infinite
            where it jumps.
        bias_stddev: sigma_b, at least 0. Of several points, with q from 1e-6 to 30, the
            one of the smallest q that is stable is taken, or else of the smallest q. With
            0 it is ReLU's sqrt(2), where every q stays (1 is reported), or tanh's 1,
            whose variance goes to q = 0.
        q: Instead of `bias_stddev`: the variance of pre-activations, above 0.
        **arguments: Of the activation, such as `negative_slope=0.3` for "leaky_relu".

    Returns:
        A `CriticalPoint`, which prints its quantities. It warns unless chi_q < 1: the
        variance then does not return to q, or, for ReLU, where chi_q = 1, to any.

    Raises:
        TypeError: If `activation` is neither name nor function, or a number is none.
        ValueError: If neither or both of `bias_stddev` and `q` are given, or there is no
            such point: sigmoid and softplus have none, ReLU has none with biases.

    Example:
        >>> point = critical_point("tanh", bias_stddev=0.05**0.5)
        >>> round(point.sigma_w**2, 6), round(point.q, 4), round(point.chi_q, 3)
        (1.760955, 0.57, 0.51)

    Source: Schoenholz et al. 2017, arXiv:1611.01232, section 3; for chi_q, Poole et al.
        2016, arXiv:1606.05340.
    """
    if (bias_stddev is None) == (q is None):
        raise ValueError(
            f"`critical_point` takes one of `bias_stddev` and `q`. "
            f"Received: bias_stddev={bias_stddev!r}, q={q!r}."
        )
    function = activation_of("critical_point", activation, arguments)
    if sample(function).jumps:
        raise function.refuse("be continuous, as chi_1 is infinite at a jump")
    if q is not None:
        _require("critical_point", "q", q, "a number > 0", lambda value: value > 0)
        needed = _bias_variance(function, q)
        if not needed >= -_DEAD * q:
            raise ValueError(
                f"`critical_point(q=...)` must leave a variance of biases >= 0 for "
                f"{function.name}. Received: q={q!r}, with which it is {needed:.4g}."
            )
        point = _critical(function, q, math.sqrt(needed if needed > _DEAD * q else 0))
    else:
        assert bias_stddev is not None
        _require_all("critical_point", bias_stddev=bias_stddev)
        points = [
            _critical(function, root, bias_stddev) for root in _critical_qs(function, bias_stddev)
        ]
        point = next((point for point in points if point.stable), points[0])
    if not point.stable:
        warnings.warn(
            f"The critical point of {function.name} at q={point.q:.6g} is not stable: with "
            f"chi_q={point.chi_q:.6g} the variance does not return to q.",
            stacklevel=2,
        )
    return point


def _bias_variance(function: Activation, q: float) -> float:
    """sigma_b**2 of the critical point at q; not a number where there is no sigma_w."""
    samples = sample(function, q)
    slope = _squared_slope(samples)
    if not 0 < slope < math.inf:
        return math.nan
    return q - samples.mean(samples.value**2) / slope


def _critical_qs(function: Activation, bias_stddev: float) -> list[float]:
    """Every q at which the critical point has these biases, in order."""
    needed = np.array([_bias_variance(function, q) for q in VARIANCES])
    over = needed - bias_stddev**2
    over[np.abs(over) <= _DEAD * VARIANCES] = 0
    if not over[np.isfinite(over)].any() and np.isfinite(over).any():
        return [1.0]
    near = VARIANCES[0] ** 2
    roots = []
    if bias_stddev == 0 and abs(_bias_variance(function, near)) <= 1e-6 * near:
        roots.append(0.0)
    places = np.flatnonzero(np.isfinite(over) & (over != 0))
    for here, there in zip(places[:-1], places[1:], strict=True):
        if over[here] * over[there] < 0:
            roots.append(
                _root(
                    lambda q: _bias_variance(function, q) - bias_stddev**2,
                    VARIANCES[here],
                    VARIANCES[there],
                )
            )
    if roots:
        return roots
    possible = np.where(np.abs(needed) <= _DEAD * VARIANCES, 0, needed)
    possible = np.sqrt(possible[possible >= 0])
    if len(possible):
        above = bias_stddev >= possible.max()
        bound = f"at most {possible.max():.4g}" if above else f"at least {possible.min():.4g}"
        raise ValueError(
            f"`critical_point(bias_stddev=...)` must be {bound} for {function.name}, "
            f"with q up to {VARIANCES[-1]:g}. Received: bias_stddev={bias_stddev!r}."
        )
    raise function.refuse(
        f"have a critical point; this one needs a negative variance of biases "
        f"at every q from {VARIANCES[0]:g} to {VARIANCES[-1]:g}"
    )


def _critical(function: Activation, q: float, sigma_b: float) -> CriticalPoint:
    near = max(q, VARIANCES[0] ** 2)
    samples = sample(function, near)
    sigma_w = 1 / math.sqrt(_squared_slope(samples))
    variance = sigma_w**2 * _growth(samples, near)
    return CriticalPoint(
        activation=function.name,
        sigma_w=sigma_w,
        sigma_b=float(sigma_b),
        q=float(q),
        c=1.0,
        chi_1=1.0,
        chi_q=variance,
        depth_scale_q=_depth_scale(variance),
        depth_scale_c=math.inf,
    )


def _squared_slope(samples: Samples) -> float:
    return math.inf if samples.jumps else samples.mean(samples.slope**2)


def _growth(samples: Samples, q: float) -> float:
    """The derivative of E[f(u)**2] by q, from that of the density: right at kinks too."""
    return samples.mean(samples.value**2 * (samples.x**2 / q - 1)) / (2 * q)


def _depth_scale(growth: float) -> float:
    if growth <= 0:
        return 0.0
    return -1 / math.log(growth) if growth < 1 - ROUNDING else math.inf


def _correlation_map(
    function: Activation, c: float, q: float, sigma_w: float, sigma_b: float
) -> float:
    samples = sample(function, q)
    after = sigma_w**2 * samples.mean(samples.value**2) + sigma_b**2
    if after == 0 or c == 1:
        return float(c)
    mean = _pair(function, samples, c, q)
    return float(np.clip((sigma_w**2 * mean + sigma_b**2) / after, -1, 1))


def _pair(
    function: Activation, samples: Samples, c: float, q: float, slopes: bool = False
) -> float:
    """E[f(u) f(v)], or E[f'(u) f'(v)], for u, v of variance q and correlation c.

    What u and v share is an outer normal, and what they do not is averaged for each of its
    values first: functions that are smooth then, whose product is easily integrated.
    """
    spread = math.sqrt(q * (1 - abs(c)))
    if c == 1 or q == 0:
        return _squared_slope(samples) if slopes else samples.mean(samples.value**2)

    def averaged(center: Array) -> Array:
        if spread == 0:
            return function(center)
        return smoothed(function, samples, center, spread)[slopes]

    def product(center: Array) -> Array:
        here = averaged(center)
        return here * (here if c >= 0 else averaged(-center))

    outer = replace(function, function=product, resolution=max(function.resolution, 1e-12))
    both = sample(outer, q * abs(c), size=samples.mean(samples.value**2))
    return both.mean(both.value)


def _first_root(function: Callable[[float], float], path: Array) -> float:
    """The first zero along a path, or not a number."""
    before = math.nan
    for here, there in zip(path[:1].tolist() + path.tolist(), path.tolist(), strict=False):
        value = function(there)
        if before * value <= 0:
            return _root(function, here, there)
        before = value
    return math.nan


def _root(function: Callable[[float], float], one: float, other: float) -> float:
    """Between two places where the function differs in sign: false position, Illinois."""
    at_one, at_other = function(one), function(other)
    if at_one == 0:
        return float(one)
    for _ in range(100):
        place = other - at_other * (other - one) / (at_other - at_one)
        value = function(place)
        if value * at_other <= 0:
            one, at_one = other, at_other
        else:
            at_one /= 2
        moved, other, at_other = abs(place - other), place, value
        if value == 0 or min(moved, abs(other - one)) <= 1e-15 * abs(place):
            break
    return float(other)


def _require_all(call: str, **numbers: Any) -> None:
    for name, number in numbers.items():
        _require(call, name, number, "a number >= 0", lambda value: value >= 0)


def _require(
    call: str, name: str, number: Any, requirement: str, holds: Callable[[float], bool]
) -> None:
    real = isinstance(number, Real) and not isinstance(number, bool | np.bool_)
    if not real or not math.isfinite(number) or not holds(number):
        raise (ValueError if real else TypeError)(
            f"`{call}({name}=...)` must be {requirement}. Received: {name}={number!r}."
        )
