"""Critical points: where random networks pass gradients on through any depth."""

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from keras_winit.theory.activations import Activation, activation_of
from keras_winit.theory.maps import (
    depth_scale,
    require,
    require_all,
    root,
    squared_slope,
    variance_growth,
)
from keras_winit.theory.mean_field import FixedPoint
from keras_winit.theory.quadrature import sample

# Where critical points are looked for: beyond, activations that saturate all do.
VARIANCES = np.append(np.logspace(-6, 1.375, 60), 30.0)

# Of a variance of biases, as a share of q: what rounding may do to it.
_DEAD = 1e-11


@dataclass(frozen=True)
class CriticalPoint(FixedPoint):
    """A fixed point with chi_1 = 1: gradients neither vanish nor explode."""


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
            such point: sigmoid and softplus have none in reach, ReLU has none with biases.

    Example:
        >>> point = critical_point("tanh", bias_stddev=0.05**0.5)
        >>> round(point.sigma_w**2, 6), round(point.q, 4), round(point.chi_q, 3)
        (1.760955, 0.57, 0.518)

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
        require("critical_point", "q", q, "a number > 0", lambda value: value > 0)
        needed = _bias_variance(function, q)
        if not needed >= -_DEAD * q:
            raise ValueError(
                f"`critical_point(q=...)` must leave a variance of biases >= 0 for "
                f"{function.name}. Received: q={q!r}, with which it is {needed:.4g}."
            )
        point = _critical(function, q, math.sqrt(needed if needed > _DEAD * q else 0))
    else:
        assert bias_stddev is not None
        require_all("critical_point", bias_stddev=bias_stddev)
        points = [
            _critical(function, place, bias_stddev) for place in _critical_qs(function, bias_stddev)
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
    slope = squared_slope(samples)
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
    for here, there in pairwise(places):
        if over[here] * over[there] < 0:
            roots.append(
                root(
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
    sigma_w = 1 / math.sqrt(squared_slope(samples))
    variance = sigma_w**2 * variance_growth(samples, near)
    return CriticalPoint(
        activation=function.name,
        sigma_w=sigma_w,
        sigma_b=float(sigma_b),
        q=float(q),
        c=1.0,
        chi_1=1.0,
        chi_q=variance,
        depth_scale_q=depth_scale(variance),
        depth_scale_c=math.inf,
    )
