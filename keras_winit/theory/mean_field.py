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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, activation_of
from keras_winit.theory.maps import (
    ROUNDING,
    depth_scale,
    first_root,
    next_correlation,
    pair_mean,
    require,
    require_all,
    root,
    squared_slope,
    variance_growth,
)
from keras_winit.theory.quadrature import sample


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
class Layer:
    """What a layer is expected to do: `q`, `c` of pre-activations, moments of the output."""

    q: float
    c: float
    mean: float
    stddev: float


def variance_map(activation: Any, q: float, sigma_w: float, sigma_b: float = 0.0) -> float:
    """The variance of the next layer's pre-activations, q', from this one's."""
    require_all("variance_map", q=q, sigma_w=sigma_w, sigma_b=sigma_b)
    samples = sample(activation_of("variance_map", activation, {}), q)
    return sigma_w**2 * samples.mean(samples.value**2) + sigma_b**2


def correlation_map(
    activation: Any, c: float, q: float, sigma_w: float, sigma_b: float = 0.0
) -> float:
    """The correlation of the next layer's pre-activations of two inputs, c', from this one's.

    Both inputs have the variance q. Where q' is zero, c is returned.
    """
    function = activation_of("correlation_map", activation, {})
    require_all("correlation_map", q=q, sigma_w=sigma_w, sigma_b=sigma_b)
    require("correlation_map", "c", c, "a number in [-1, 1]", lambda value: abs(value) <= 1)
    return next_correlation(function, c, q, sigma_w, sigma_b)


def chi_1(activation: Any, q: float, sigma_w: float) -> float:
    """sigma_w**2 E[f'(u)**2]: the growth of squared gradients; infinite where f jumps."""
    require_all("chi_1", q=q, sigma_w=sigma_w)
    return sigma_w**2 * squared_slope(sample(activation_of("chi_1", activation, {}), q))


def chi_q(activation: Any, q: float, sigma_w: float) -> float:
    """The derivative of q' by q, for q > 0: the growth of small deviations of the variance."""
    require_all("chi_q", sigma_w=sigma_w)
    require("chi_q", "q", q, "a number > 0", lambda value: value > 0)
    return sigma_w**2 * variance_growth(sample(activation_of("chi_q", activation, {}), q), q)


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
    require_all("predict", sigma_w=sigma_w, sigma_b=sigma_b)
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
        c = next_correlation(function, c, q, sigma_w, sigma_b)
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
        (2.195, 0.165, True)
    """
    function = activation_of("fixed_point", activation, {})
    require_all("fixed_point", sigma_w=sigma_w, sigma_b=sigma_b)

    def growth(q: float) -> float:
        samples = sample(function, q)
        return sigma_w**2 * samples.mean(samples.value**2) + sigma_b**2 - q

    start = sigma_w**2 + sigma_b**2
    direction = growth(start) if start else 0.0
    if abs(direction) <= ROUNDING * start:
        q = start
    else:
        path = start * np.logspace(0, 4 if direction > 0 else -18, 90)
        q = first_root(growth, path)
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
    one = sigma_w**2 * squared_slope(samples)
    variance = sigma_w**2 * variance_growth(samples, near)
    c, slope = 1.0, one
    if one > 1 + ROUNDING:

        def growth(c: float) -> float:
            return next_correlation(function, c, near, sigma_w, sigma_b) - c

        c = _correlation(growth)
        slope = sigma_w**2 * pair_mean(function, samples, c, near, slopes=True)
    return FixedPoint(
        activation=function.name,
        sigma_w=float(sigma_w),
        sigma_b=float(sigma_b),
        q=float(q),
        c=c,
        chi_1=one,
        chi_q=variance,
        depth_scale_q=depth_scale(variance),
        depth_scale_c=depth_scale(slope),
    )


def _correlation(growth: Callable[[float], float]) -> float:
    """The fixed point of the correlation map below 1, if it can be told from 1."""
    if abs(growth(0.0)) <= ROUNDING:
        return 0.0
    return root(growth, 0.0, 1 - 1e-6) if growth(1 - 1e-6) < 0 else 1.0
