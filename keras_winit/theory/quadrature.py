"""Expectations over a normal input, to nearly all digits that the function has."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, Array, activation_of

# Gauss-Legendre on each panel; a normal density is a polynomial to them on a unit panel.
NODES = 20
_X, _W = np.polynomial.legendre.leggauss(NODES)
# The inverse, as the nodes' own rounding spoils the sums that equal it on paper.
_COEFFICIENTS = np.linalg.inv(np.polynomial.legendre.legvander(_X, NODES - 1))
# From values at the nodes to those of the polynomial at the left and right end.
_ENDS = np.stack([(-1.0) ** np.arange(NODES), np.ones(NODES)], axis=1)
_ENDS = _COEFFICIENTS.T @ _ENDS
_SLOPES = (
    np.polynomial.legendre.legval(_X, np.polynomial.legendre.legder(np.eye(NODES))).T
    @ _COEFFICIENTS
)

# Standard deviations to either side; farther out only for functions that grow like exp.
REACHES = (10, 14, 20, 28, 38)

# Panels in all, after which only a few are still halved, the roughest.
MOST, FEW = 1000, 32


@dataclass(frozen=True)
class Samples:
    """A function of x ~ N(0, variance), known all over by its values at some points.

    `x`, `value`: the points, a row for each panel, and the function there. `slope`: its
    derivative, without the jumps, as automatic differentiation has it. `weight`: what
    makes a sum an expectation. `edges`: between the panels. `jumps`: of the function.
    """

    x: Array
    value: Array
    slope: Array
    weight: Array
    edges: Array
    jumps: tuple[float, ...]

    def mean(self, values: Array) -> float:
        """The expectation of a function of x, given its values at `x`."""
        with np.errstate(all="ignore"):
            return float((self.weight * values).sum())


def density(z: Array) -> Array:
    """Of N(0, 1)."""
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi), np.float64)


def nodes(left: Array, right: Array) -> tuple[Array, Array]:
    """Points and Gauss-Legendre weights on panels, on a new last axis."""
    half = (right - left)[..., None] / 2
    return (left + right)[..., None] / 2 + half * _X, half * _W


def sample(function: Activation, variance: float = 1.0, size: float = 0.0) -> Samples:
    """Halve panels until the function is a polynomial on each, and so find its kinks.

    What is left unresolved around a kink or a jump is too narrow to matter. If the second
    moment is not finite, neither are the values. Errors are small beside the function's own
    size, the root of its second moment, and `size`.
    """
    scale = math.sqrt(variance)
    for reach in REACHES:
        left, right, narrow = _panels(function, scale, reach, size)
        z, weight = nodes(left, right)
        weight = weight * density(z)
        value = function(scale * z)
        with np.errstate(all="ignore"):
            shares = (weight * value * value).sum(axis=1)
            total = shares.sum()
        # Neither far out nor in what is too narrow to be resolved may there be much.
        ends, pole = shares[[0, -1]].max(), shares[narrow].sum()
        if ends <= 1e-16 * total < math.inf and pole <= 1e-3 * total:
            break
    else:
        value, total = np.full_like(value, math.inf), math.inf
    # Of a narrower normal only the value at zero matters, and its slope would be rounding.
    step = max(scale, 1e-6)
    risen = value if step == scale else function(step * z)
    with np.errstate(all="ignore"):
        # Less a value of the panel, so that what is constant has no slope at all.
        slope = (risen - risen[:, :1]) @ _SLOPES.T * (2 / (step * (right - left)))[:, None]
    slope[narrow] = 0
    edges = np.append(left, right[-1:])
    jumping = _jumping(value, narrow, left, math.sqrt(total) * np.cbrt(function.resolution))
    return Samples(
        x=scale * z,
        value=value,
        slope=slope,
        weight=weight,
        edges=scale * edges,
        jumps=tuple((scale * left)[jumping].tolist()),
    )


def _jumping(value: Array, narrow: Any, left: Array, least: float) -> Any:
    """Panels that jump, or do so at their left end, where it matters."""
    with np.errstate(all="ignore"):
        first, last = (value @ _ENDS).T
        step = np.abs(first - np.append(first[:1], last[:-1]))
        return np.fmax(step, narrow * np.ptp(value, axis=1)) * _share(left) > least


def _share(z: Array) -> Array:
    """How much of an error at z counts: the root of the density, up to a factor."""
    return np.asarray(np.exp(-z * z / 4), np.float64)


def expectation(function: Any, variance: float = 1.0) -> float:
    """E[f(x)] for x ~ N(0, variance), f being anything that `gain` takes."""
    samples = sample(activation_of("expectation", function, {}), variance)
    return samples.mean(samples.value)


def smoothed(
    function: Activation, samples: Samples, center: Array, spread: float
) -> tuple[Array, Array]:
    """E[f(x)] for x ~ N(center, spread**2), and its derivative by the center.

    `samples` tell where the function has to be cut. `center` may have any shape.
    """
    reach = REACHES[0]
    cuts = np.clip((samples.edges - center[..., None]) / spread, -reach, reach)
    even = np.broadcast_to(np.arange(-reach, reach + 1.0), (*center.shape, 2 * reach + 1))
    edges = np.sort(np.concatenate([cuts, even], axis=-1), axis=-1)
    z, weight = nodes(edges[..., :-1], edges[..., 1:])
    weighted = weight * density(z) * function(center[..., None, None] + spread * z)
    return weighted.sum(axis=(-2, -1)), (weighted * z).sum(axis=(-2, -1)) / spread


def _panels(
    function: Activation, scale: float, reach: int, size: float
) -> tuple[Array, Array, Any]:
    """Left and right ends in order, and which panels are too narrow to be halved again."""
    edges = np.arange(-reach, reach + 1.0)
    left, right = edges[:-1], edges[1:]
    tolerance = max(16 * function.resolution, 3e-14)
    done: list[tuple[Any, Any, Any]] = []
    count = len(left)
    while len(left):
        z, weight = nodes(left, right)
        value = function(scale * z)
        if not done:
            size = max(size, _norm(value, weight * density(z)))
        unresolved = _unresolved(function, scale, left, right, value)
        unresolved *= _share(np.clip(0, left, right))
        rough = unresolved > tolerance * size
        split = rough & (right - left > 16 * function.resolution * np.maximum(1, np.abs(left)))
        narrow = rough & ~split
        # Noise is rough everywhere, and must not hide the few panels with a jump.
        allowed = max(MOST - count, FEW)
        if split.sum() > allowed:
            split &= unresolved >= np.sort(unresolved[split])[-allowed]
        done.append((left[~split], right[~split], narrow[~split]))
        left, right = left[split], right[split]
        middle = (left + right) / 2
        left, right = np.append(left, middle), np.append(middle, right)
        count += len(middle)
    left, right, narrow = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = np.argsort(left)
    return left[order], right[order], narrow[order]


def _unresolved(
    function: Activation, scale: float, left: Array, right: Array, value: Array
) -> Array:
    """By how much a function differs from the polynomials through its values."""
    # Just within the ends: a kink between the end and the last node shows nowhere else.
    step = 4 * function.resolution
    ends = np.stack([left, right], axis=1)
    ends = ends + np.maximum(np.abs(ends), 1) * np.array([step, -step])
    with np.errstate(all="ignore"):
        beyond = np.abs(function(scale * ends) - value @ _ENDS).max(axis=1)
        last = np.abs(value @ _COEFFICIENTS[-2:].T).max(axis=1)
    return np.asarray(np.fmax(beyond, last), np.float64)


def _norm(value: Array, weight: Array) -> float:
    with np.errstate(all="ignore"):
        return math.sqrt((weight * value * value).sum())
