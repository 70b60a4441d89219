"""Critical points: weights and biases with which gradients pass through any depth."""

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, find_activation
from keras_winit.theory.checks import require_number, require_stddevs
from keras_winit.theory.formulas import Array
from keras_winit.theory.maps import depth_scale, mean_squared_slope, second_moment_slope
from keras_winit.theory.mean_field import FixedPoint
from keras_winit.theory.quadrature import adaptive_quadrature
from keras_winit.theory.roots import root

# The values of q between which critical points are searched. At larger ones every activation
# that saturates is saturated.
SEARCHED = np.append(np.logspace(-6, 1.375, 60), 30.0)

# Stands for q = 0, where an activation with a kink has no slope.
_NEAR_ZERO = SEARCHED[0] ** 2

# Rounding may change a variance of biases by this share of q.
_ROUNDING = 1e-11


@dataclass(frozen=True)
class CriticalPoint(FixedPoint):
    """A fixed point with chi_1 = 1: gradients neither vanish nor explode."""


def critical_point(
    activation: Any, bias_stddev: float | None = None, q: float | None = None, **arguments: Any
) -> CriticalPoint:
    """Find weights and biases with chi_1 = 1, so that gradients keep their size through depth.

    Each q has one such point, with sigma_w**2 = 1 / E[f'(u)**2] and
    sigma_b**2 = q - sigma_w**2 E[f(u)**2], if the latter is not negative. Draw weights from
    N(0, sigma_w**2 / fan_in) and biases from N(0, sigma_b**2).

    Args:
        activation: A name or a function, as for `gain`. It must be continuous: where it
            jumps, chi_1 is infinite.
        bias_stddev: Standard deviation of the biases, sigma_b, at least 0. Several q from
            1e-6 to 30 may have critical points with these biases: the smallest stable q is
            taken, or the smallest q if none is stable. With 0, ReLU has sigma_w = sqrt(2),
            where every q stays (1 is reported), and tanh has sigma_w = 1, where q goes to 0.
        q: Variance of the pre-activations, above 0. Give it instead of `bias_stddev`.
        **arguments: Arguments of the activation, such as `negative_slope=0.3` for
            "leaky_relu".

    Returns:
        A `CriticalPoint`, which prints its quantities. A warning is issued unless
        chi_q < 1: then the variance does not return to q (or, with ReLU's chi_q = 1, to any
        value) after a deviation.

    Raises:
        TypeError: If a number has the wrong type, or `activation` is neither a name nor a
            function.
        ValueError: If neither or both of `bias_stddev` and `q` are given, a number is out of
            range, or there is no such point: sigmoid and softplus have none with q from 1e-6
            to 30, ReLU has none with biases.

    Example:
        >>> point = critical_point("tanh", bias_stddev=0.05**0.5)
        >>> round(point.sigma_w**2, 6), round(point.q, 4), round(point.chi_q, 3)
        (1.760955, 0.57, 0.518)

    Source: Schoenholz et al. 2017, arXiv:1611.01232, section 3; for chi_q, Poole et al.
        2016, arXiv:1606.05340.
    """
    if (bias_stddev is None) == (q is None):
        raise ValueError(
            "`critical_point` takes one of `bias_stddev` and `q`. "
            f"Received: bias_stddev={bias_stddev!r}, q={q!r}."
        )
    function = find_activation("critical_point", activation, arguments)
    if adaptive_quadrature(function).jumps:
        raise function.requirement_error("be continuous, as chi_1 is infinite at a jump")
    if q is not None:
        require_number("critical_point", "q", q, "a number > 0", lambda value: value > 0)
        bias_variance = _bias_variance(function, q)
        if not bias_variance >= -_ROUNDING * q:
            raise ValueError(
                "`critical_point(q=...)` must leave a variance of biases >= 0 for "
                f"{function.name}. Received: q={q!r}, for which it is {bias_variance:.4g}."
            )
        is_zero = bias_variance <= _ROUNDING * q
        point = _critical_point_at(function, q, 0.0 if is_zero else math.sqrt(bias_variance))
    else:
        assert bias_stddev is not None
        require_stddevs("critical_point", bias_stddev=bias_stddev)
        points = [
            _critical_point_at(function, critical_q, bias_stddev)
            for critical_q in _critical_qs(function, bias_stddev)
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
    """Return sigma_b**2 of the critical point at q, or NaN if no sigma_w makes it critical."""
    quadrature = adaptive_quadrature(function, q)
    slope = mean_squared_slope(quadrature)
    if not 0 < slope < math.inf:
        return math.nan
    return q - quadrature.second_moment / slope


def _critical_qs(function: Activation, bias_stddev: float) -> list[float]:
    """Return every q whose critical point has these biases, in increasing order."""

    def excess_at(q: float) -> float:
        return _bias_variance(function, q) - bias_stddev**2

    bias_variances = np.array([_bias_variance(function, q) for q in SEARCHED])
    excess = bias_variances - bias_stddev**2
    excess[np.abs(excess) <= _ROUNDING * SEARCHED] = 0
    known = np.isfinite(excess)
    if known.any() and not excess[known].any():
        # Every q is critical, as for ReLU.
        return [1.0]
    critical_qs = []
    if bias_stddev == 0 and abs(_bias_variance(function, _NEAR_ZERO)) <= 1e-6 * _NEAR_ZERO:
        critical_qs.append(0.0)
    for i, j in pairwise(np.flatnonzero(known & (excess != 0))):
        if excess[i] * excess[j] < 0:
            critical_qs.append(root(excess_at, SEARCHED[i], SEARCHED[j]))
    if not critical_qs:
        raise _no_critical_q(function, bias_stddev, bias_variances)
    return critical_qs


def _no_critical_q(function: Activation, bias_stddev: float, bias_variances: Array) -> ValueError:
    is_zero = np.abs(bias_variances) <= _ROUNDING * SEARCHED
    bias_variances = np.where(is_zero, 0, bias_variances)
    possible = np.sqrt(bias_variances[bias_variances >= 0])
    if not len(possible):
        return function.requirement_error(
            "have a critical point; its variance of biases would be negative "
            f"at every q from {SEARCHED[0]:g} to {SEARCHED[-1]:g}"
        )
    too_large = bias_stddev >= possible.max()
    bound = f"at most {possible.max():.4g}" if too_large else f"at least {possible.min():.4g}"
    return ValueError(
        f"`critical_point(bias_stddev=...)` must be {bound} for {function.name}, "
        f"with q up to {SEARCHED[-1]:g}. Received: bias_stddev={bias_stddev!r}."
    )


def _critical_point_at(function: Activation, q: float, sigma_b: float) -> CriticalPoint:
    near_q = max(q, _NEAR_ZERO)
    quadrature = adaptive_quadrature(function, near_q)
    sigma_w = 1 / math.sqrt(mean_squared_slope(quadrature))
    variance_growth = float(sigma_w**2 * second_moment_slope(quadrature, near_q))
    return CriticalPoint(
        activation=function.name,
        sigma_w=sigma_w,
        sigma_b=float(sigma_b),
        q=float(q),
        c=1.0,
        chi_1=1.0,
        chi_q=variance_growth,
        depth_scale_q=depth_scale(variance_growth),
        depth_scale_c=math.inf,
    )
