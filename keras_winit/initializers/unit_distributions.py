"""Draws in float32 from the unit distributions: normal, uniform and truncated normal."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]


def fill_normal(generator: np.random.Generator, out: Float32Array) -> None:
    """Fill an array with N(0, 1)."""
    generator.standard_normal(out=out, dtype=np.float32)


def fill_uniform(generator: np.random.Generator, out: Float32Array) -> None:
    """Fill an array with U(-1, 1), without zero and both ends."""
    # Maps the 2**24 values k / 2**24 to the odd multiples of 2**-24: as many lie below zero as
    # above it, and float32 holds each exactly.
    generator.random(out=out, dtype=np.float32)
    out *= np.float32(2)
    out -= np.float32(1 - 2**-24)


def truncated_stddev(low: float, high: float) -> float:
    """Return the standard deviation of N(0, 1) cut at `low` and `high`; 0.8796... at -2 and 2."""
    return _mass_and_stddev(*_effective_bounds(low, high))[1]


def fill_truncated_normal(
    generator: np.random.Generator, out: Float32Array, low: float, high: float
) -> None:
    """Fill an array with N(0, 1) cut at `low` and `high`.

    Rejection is exact; inverting the distribution function in low precision is not.
    """
    fill_candidates = _candidates(low, high)
    missing = np.flatnonzero(fill_candidates(generator, out))
    while missing.size:
        again = np.empty(missing.size, np.float32)
        rejected = fill_candidates(generator, again)
        out[missing] = again
        missing = missing[rejected]


def _candidates(low: float, high: float) -> Callable[..., npt.NDArray[np.bool_]]:
    """Return a function that fills an array with candidates and returns which to reject.

    Candidates are normal or uniform, whichever is rejected less often, after Robert 1995,
    "Simulation of truncated normal variables".
    """
    low, high = _effective_bounds(low, high)
    peak = _peak(low, high)
    mass = _mass_and_stddev(low, high)[0]

    def from_normal(generator: np.random.Generator, out: Float32Array) -> Any:
        fill_normal(generator, out)
        return (out < low) | (out > high)

    def from_uniform(generator: np.random.Generator, out: Float32Array) -> Any:
        values = low + (high - low) * generator.random(out.size)
        out[:] = values
        return generator.random(out.size) > np.exp((peak**2 - values**2) / 2)

    accepted_normal = mass / math.sqrt(2 * math.pi) * math.exp(-(peak**2) / 2)
    accepted_uniform = mass / (high - low) if high > low else 1.0
    return from_normal if accepted_normal >= accepted_uniform else from_uniform


def _peak(low: float, high: float) -> float:
    """Return where the density is largest between the bounds."""
    return min(max(0.0, low), high)


def _effective_bounds(low: float, high: float) -> tuple[float, float]:
    """Return finite bounds, beyond which less than 2**-64 of the distribution lies."""
    far = math.sqrt(_peak(low, high) ** 2 + 2 * 64 * math.log(2))
    return max(low, -far), min(high, far)


@functools.lru_cache(maxsize=64)
def _mass_and_stddev(low: float, high: float) -> tuple[float, float]:
    """Return the mass of N(0, 1) on [low, high] over its peak density there, and its stddev.

    The integrals are Gauss-Legendre sums, because the closed form cancels for bounds that are
    close together or far from zero.
    """
    peak = _peak(low, high)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    edges = np.linspace(low, high, 33)
    half = np.diff(edges)[:, None] / 2
    x = (edges[:-1, None] + half) + half * nodes
    density = half * weights * np.exp((peak**2 - x**2) / 2)
    mass = float(density.sum())
    if not mass:
        return 0.0, 0.0
    mean = float((density * x).sum()) / mass
    return mass, math.sqrt(float((density * (x - mean) ** 2).sum()) / mass)
