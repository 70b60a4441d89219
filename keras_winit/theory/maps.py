"""Steps of the mean-field maps, for activations that are already looked up."""

import math
from dataclasses import replace

import numpy as np

from keras_winit.theory.activations import Activation
from keras_winit.theory.formulas import Array
from keras_winit.theory.quadrature import Quadrature, adaptive_quadrature, smoothed

# Rounding may change a quantity of order 1 by this much.
ROUNDING = 1e-9


def mean_squared_slope(quadrature: Quadrature) -> float:
    """Return E[f'(u)**2]: infinite where f jumps, as a jump separates inputs however close."""
    return math.inf if quadrature.jumps else quadrature.mean(quadrature.slopes**2)


def second_moment_slope(quadrature: Quadrature, q: float) -> float:
    """Return the derivative of E[f(u)**2] by q.

    It comes from the derivative of the density, so kinks and jumps of f need no care.
    """
    return quadrature.mean(quadrature.values**2 * (quadrature.x**2 / q - 1)) / (2 * q)


def depth_scale(growth: float) -> float:
    """Return the number of layers over which a quantity of this growth per layer shrinks by e."""
    if growth <= 0:
        return 0.0
    return -1 / math.log(growth) if growth < 1 - ROUNDING else math.inf


def next_correlation(
    function: Activation, c: float, q: float, sigma_w: float, sigma_b: float
) -> float:
    """Return the correlation c' of the next layer, for two inputs of variance q."""
    quadrature = adaptive_quadrature(function, q)
    next_q = sigma_w**2 * quadrature.second_moment + sigma_b**2
    if next_q == 0 or c == 1:
        return float(c)
    mean = pair_mean(function, quadrature, c, q)
    return float(np.clip((sigma_w**2 * mean + sigma_b**2) / next_q, -1, 1))


def pair_mean(
    function: Activation, quadrature: Quadrature, c: float, q: float, slopes: bool = False
) -> float:
    """Return E[f(u) f(v)] for u, v of variance q and correlation c.

    u and v are split into a shared normal and independent normals. For each value of the
    shared one, f is averaged over the independent one. The two averages are smooth, and
    their product is easy to integrate.

    Args:
        function: The function f.
        quadrature: Its quadrature for variance q.
        c: Correlation of u and v.
        q: Variance of u and of v.
        slopes: Whether to return E[f'(u) f'(v)] instead.
    """
    stddev = math.sqrt(q * (1 - abs(c)))
    if c == 1 or q == 0:
        return mean_squared_slope(quadrature) if slopes else quadrature.second_moment

    def average(center: Array) -> Array:
        if stddev == 0:
            return function(center)
        return smoothed(function, quadrature, center, stddev)[slopes]

    def product(center: Array) -> Array:
        average_u = average(center)
        return average_u * (average_u if c >= 0 else average(-center))

    shared = replace(function, function=product, resolution=max(function.resolution, 1e-12))
    outer = adaptive_quadrature(shared, q * abs(c), size=quadrature.second_moment)
    return outer.mean(outer.values)


def pair_mean_by_series(quadrature: Quadrature, c: float, q: float, terms: int = 64) -> float:
    """Return E[f(u) f(v)] as `pair_mean` does, a hundred times as fast, to about 0.2 %.

    In orthonormal Hermite polynomials f has coefficients a_n, and the mean is the sum of
    a_n**2 c**n. What the squares of the missing coefficients add up to is taken for one more
    term. It is less than 1e-3 of the whole unless f is nearly a step.

    Args:
        quadrature: Quadrature of the function f for variance q.
        c: Correlation of u and v.
        q: Variance of u and of v.
        terms: Number of terms, at least 2.
    """
    if q == 0:
        return quadrature.second_moment
    z = quadrature.x / math.sqrt(q)
    before, current = np.zeros_like(z), np.ones_like(z)
    total, rest = 0.0, quadrature.second_moment
    for n in range(terms):
        square = quadrature.mean(quadrature.values * current) ** 2
        total, rest = total + square * c**n, rest - square
        following = (z * current - math.sqrt(n) * before) / math.sqrt(n + 1)
        before, current = current, following
    return total + max(rest, 0.0) * c**terms
