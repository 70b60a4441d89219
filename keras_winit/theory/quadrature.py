"""Expectations over a normal input by adaptive quadrature, to nearly full float64 precision."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, find_activation
from keras_winit.theory.formulas import Array

# Gauss-Legendre nodes of a panel. On a panel of unit width, a polynomial through 20 nodes
# represents the normal density to float64 precision.
NODES = 20
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(NODES)

# Matrices that map the values at the nodes of a panel to the Legendre coefficients, to the values
# at the two ends of the panel, and to the slopes at the nodes. The first is a numerical inverse:
# the sums that equal it on paper suffer from the rounding of the nodes.
_COEFFICIENTS = np.linalg.inv(np.polynomial.legendre.legvander(_NODES, NODES - 1))
_ENDS = _COEFFICIENTS.T @ np.stack([(-1.0) ** np.arange(NODES), np.ones(NODES)], axis=1)
_SLOPES = (
    np.polynomial.legendre.legval(_NODES, np.polynomial.legendre.legder(np.eye(NODES))).T
    @ _COEFFICIENTS
)

# Half widths of the integration interval, in standard deviations. The wider ones are for
# functions that grow like exp.
HALF_WIDTHS = (10, 14, 20, 28, 38)

# From this many panels on, a pass halves only the given number of panels, the roughest ones.
MAX_PANELS, FEWEST_SPLITS = 1000, 32


@dataclass(frozen=True)
class Quadrature:
    """A function of x ~ N(0, variance), sampled so densely that all its expectations are known.

    Args:
        x: Nodes, of shape (panels, nodes).
        values: The function at `x`.
        slopes: Its derivative at `x`, without the jumps, as automatic differentiation has it.
        weights: Weights that turn a sum over `x` into an expectation.
        edges: The panels + 1 ends of the panels, in order.
        jumps: Places where the function jumps.
    """

    x: Array
    values: Array
    slopes: Array
    weights: Array
    edges: Array
    jumps: tuple[float, ...]

    def mean(self, values: Array) -> float:
        """Return the expectation of any function of x, given its values at `x`."""
        with np.errstate(all="ignore"):
            return float((self.weights * values).sum())

    @property
    def second_moment(self) -> float:
        """The expectation of the squared function."""
        return self.mean(self.values**2)


def expectation(function: Any, variance: float = 1.0) -> float:
    """Return E[f(x)] for x ~ N(0, variance) and any function f that `gain` takes."""
    quadrature = adaptive_quadrature(find_activation("expectation", function, {}), variance)
    return quadrature.mean(quadrature.values)


def adaptive_quadrature(
    function: Activation, variance: float = 1.0, size: float = 0.0
) -> Quadrature:
    """Sample a function of x ~ N(0, variance) by halving panels until each holds a polynomial.

    Halving closes in on kinks and jumps, so they need not be known. What stays unresolved
    around them is too narrow to matter. If the second moment is not finite, the values are
    infinite.

    Args:
        function: The function to sample.
        variance: Variance of x.
        size: Scale below which errors do not matter. They are small relative to `size` and
            to the root mean square of the function.
    """
    scale = math.sqrt(variance)
    for half_width in HALF_WIDTHS:
        left, right, narrow = _panels(function, scale, half_width, size)
        z, weights = gauss_legendre(left, right)
        weights = weights * normal_density(z)
        values = function(scale * z)
        with np.errstate(all="ignore"):
            shares = (weights * values * values).sum(axis=1)
            total = shares.sum()
        # Neither the tails nor the unresolved panels may contribute much.
        tail, unresolved = shares[[0, -1]].max(), shares[narrow].sum()
        if tail <= 1e-16 * total < math.inf and unresolved <= 1e-3 * total:
            break
    else:
        values, total = np.full_like(values, math.inf), math.inf
    jumps = _has_jump(values, narrow, left, math.sqrt(total) * np.cbrt(function.resolution))
    return Quadrature(
        x=scale * z,
        values=values,
        slopes=_slopes(function, scale, z, values, left, right, narrow),
        weights=weights,
        edges=scale * np.append(left, right[-1:]),
        jumps=tuple((scale * left)[jumps].tolist()),
    )


def normal_density(z: Array) -> Array:
    """Return the density of N(0, 1) at z."""
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi), np.float64)


def gauss_legendre(left: Array, right: Array) -> tuple[Array, Array]:
    """Return the nodes and weights of panels, along a new last axis."""
    half = (right - left)[..., None] / 2
    return (left + right)[..., None] / 2 + half * _NODES, half * _WEIGHTS


def smoothed(
    function: Activation, quadrature: Quadrature, center: Array, stddev: float
) -> tuple[Array, Array]:
    """Return E[f(x)] for x ~ N(center, stddev**2), and its derivative by the center.

    Args:
        function: The function f.
        quadrature: A quadrature of f, whose panel edges mark the kinks and jumps.
        center: Means of x, of any shape.
        stddev: Standard deviation of x.
    """
    half_width = HALF_WIDTHS[0]
    cuts = np.clip((quadrature.edges - center[..., None]) / stddev, -half_width, half_width)
    grid = np.arange(-half_width, half_width + 1.0)
    grid = np.broadcast_to(grid, (*center.shape, 2 * half_width + 1))
    edges = np.sort(np.concatenate([cuts, grid], axis=-1), axis=-1)
    z, weights = gauss_legendre(edges[..., :-1], edges[..., 1:])
    weighted = weights * normal_density(z) * function(center[..., None, None] + stddev * z)
    return weighted.sum(axis=(-2, -1)), (weighted * z).sum(axis=(-2, -1)) / stddev


def _panels(
    function: Activation, scale: float, half_width: int, size: float
) -> tuple[Array, Array, Any]:
    """Return the left and right ends of all panels, and which are too narrow to be halved."""
    edges = np.arange(-half_width, half_width + 1.0)
    left, right = edges[:-1], edges[1:]
    tolerance = max(16 * function.resolution, 3e-14)
    finished: list[tuple[Any, Any, Any]] = []
    count = len(left)
    while len(left):
        z, weights = gauss_legendre(left, right)
        values = function(scale * z)
        if not finished:
            size = max(size, _root_mean_square(values, weights * normal_density(z)))
        error = _interpolation_error(function, scale, left, right, values)
        error *= _importance(np.clip(0, left, right))
        rough = error > tolerance * size
        split = rough & (right - left > 16 * function.resolution * np.maximum(1, np.abs(left)))
        narrow = rough & ~split
        # A noisy function is rough everywhere. The limit keeps the few panels with a jump.
        limit = max(MAX_PANELS - count, FEWEST_SPLITS)
        if split.sum() > limit:
            split &= error >= np.sort(error[split])[-limit]
        finished.append((left[~split], right[~split], narrow[~split]))
        left, right = left[split], right[split]
        middle = (left + right) / 2
        left, right = np.append(left, middle), np.append(middle, right)
        count += len(middle)
    left, right, narrow = (np.concatenate(parts) for parts in zip(*finished, strict=True))
    order = np.argsort(left)
    return left[order], right[order], narrow[order]


def _interpolation_error(
    function: Activation, scale: float, left: Array, right: Array, values: Array
) -> Array:
    """Return how far the function is from the polynomial through its values, panel by panel."""
    # The points lie just inside the ends: no other shows a kink between the last node and the end.
    margin = 4 * function.resolution
    ends = np.stack([left, right], axis=1)
    ends = ends + np.maximum(np.abs(ends), 1) * np.array([margin, -margin])
    with np.errstate(all="ignore"):
        at_ends = np.abs(function(scale * ends) - values @ _ENDS).max(axis=1)
        last_coefficients = np.abs(values @ _COEFFICIENTS[-2:].T).max(axis=1)
    return np.asarray(np.fmax(at_ends, last_coefficients), np.float64)


def _root_mean_square(values: Array, weights: Array) -> float:
    with np.errstate(all="ignore"):
        return math.sqrt((weights * values * values).sum())


def _importance(z: Array) -> Array:
    """Return how much an error at z counts: the root of the normal density, up to a factor."""
    return np.asarray(np.exp(-z * z / 4), np.float64)


def _slopes(
    function: Activation,
    scale: float,
    z: Array,
    values: Array,
    left: Array,
    right: Array,
    narrow: Any,
) -> Array:
    # With a smaller scale the values differ by rounding alone, so they are taken from a wider
    # stretch around zero.
    step = max(scale, 1e-6)
    stretched = values if step == scale else function(step * z)
    with np.errstate(all="ignore"):
        # Without the first value of its panel, a constant has a slope of exactly zero.
        rises = stretched - stretched[:, :1]
        slopes: Array = rises @ _SLOPES.T * (2 / (step * (right - left)))[:, None]
    slopes[narrow] = 0
    return slopes


def _has_jump(values: Array, narrow: Any, left: Array, threshold: float) -> Any:
    """Return the panels with a jump, within them or at their left end, that is large enough."""
    with np.errstate(all="ignore"):
        first, last = (values @ _ENDS).T
        step = np.abs(first - np.append(first[:1], last[:-1]))
        return np.fmax(step, narrow * np.ptp(values, axis=1)) * _importance(left) > threshold
