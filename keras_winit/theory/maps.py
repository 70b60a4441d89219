"""Parts of the mean field maps, on activations that are looked up already."""

import math
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, Array
from keras_winit.theory.quadrature import Samples, sample, smoothed

# Of a quantity of order 1: what rounding may do to it.
ROUNDING = 1e-9


def squared_slope(samples: Samples) -> float:
    """E[f'(u)**2] as two inputs see it: infinite where f jumps."""
    return math.inf if samples.jumps else samples.mean(samples.slope**2)


def variance_growth(samples: Samples, q: float) -> float:
    """The derivative of E[f(u)**2] by q, from that of the density: right at kinks too."""
    return samples.mean(samples.value**2 * (samples.x**2 / q - 1)) / (2 * q)


def depth_scale(growth: float) -> float:
    """Layers over which something that grows so by layer shrinks by e."""
    if growth <= 0:
        return 0.0
    return -1 / math.log(growth) if growth < 1 - ROUNDING else math.inf


def next_correlation(
    function: Activation, c: float, q: float, sigma_w: float, sigma_b: float
) -> float:
    """C' from c, both inputs having variance q."""
    samples = sample(function, q)
    after = sigma_w**2 * samples.mean(samples.value**2) + sigma_b**2
    if after == 0 or c == 1:
        return float(c)
    mean = pair_mean(function, samples, c, q)
    return float(np.clip((sigma_w**2 * mean + sigma_b**2) / after, -1, 1))


def pair_mean(
    function: Activation, samples: Samples, c: float, q: float, slopes: bool = False
) -> float:
    """E[f(u) f(v)], or E[f'(u) f'(v)], for u, v of variance q and correlation c.

    What u and v share is an outer normal, and what they do not is averaged for each of its
    values first: functions that are smooth then, whose product is easily integrated.
    """
    spread = math.sqrt(q * (1 - abs(c)))
    if c == 1 or q == 0:
        return squared_slope(samples) if slopes else samples.mean(samples.value**2)

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


def first_root(function: Callable[[float], float], path: Array) -> float:
    """The first zero along a path, or not a number."""
    before = math.nan
    for here, there in zip(path[:1].tolist() + path.tolist(), path.tolist(), strict=False):
        value = function(there)
        if before * value <= 0:
            return root(function, here, there)
        before = value
    return math.nan


def root(function: Callable[[float], float], one: float, other: float) -> float:
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


def require_all(call: str, **numbers: Any) -> None:
    """Refuse what is no number >= 0."""
    for name, number in numbers.items():
        require(call, name, number, "a number >= 0", lambda value: value >= 0)


def require(
    call: str, name: str, number: Any, requirement: str, holds: Callable[[float], bool]
) -> None:
    """Refuse what is no number, or not such a one."""
    real = isinstance(number, Real) and not isinstance(number, bool | np.bool_)
    if not real or not math.isfinite(number) or not holds(number):
        raise (ValueError if real else TypeError)(
            f"`{call}({name}=...)` must be {requirement}. Received: {name}={number!r}."
        )
