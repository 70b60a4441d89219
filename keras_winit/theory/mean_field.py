"""Signals in wide random networks: variance and correlation from layer to layer.

A layer of width N has weights of variance sigma_w**2 / N and biases of variance sigma_b**2. In
the limit of wide layers its pre-activations are normal, with a variance q. With f the
activation, and u, v normal with variance q and correlation c, the next layer has

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

from keras_winit.theory.activations import Activation, find_activation
from keras_winit.theory.checks import (
    require_integer,
    require_nonnegative,
    require_number,
    require_stddevs,
)
from keras_winit.theory.maps import (
    ROUNDING,
    depth_scale,
    mean_squared_slope,
    next_correlation,
    pair_mean,
    second_moment_slope,
)
from keras_winit.theory.quadrature import adaptive_quadrature
from keras_winit.theory.roots import first_root, root


@dataclass(frozen=True)
class FixedPoint:
    """A point at which variance and correlation stay the same from layer to layer.

    Args:
        activation: The name of the activation.
        sigma_w: sqrt(fan_in) times the standard deviation of the weights.
        sigma_b: Standard deviation of the biases.
        q: Variance of the pre-activations.
        c: Correlation between the pre-activations of two inputs.
        chi_1: Growth per layer of the mean square of gradients, and of 1 - c for two similar
            inputs.
        chi_q: Growth per layer of a small deviation from q.
        depth_scale_q: Number of layers over which a deviation from q shrinks by e. Infinite
            if it does not shrink.
        depth_scale_c: Number of layers over which a deviation from c shrinks by e. Infinite
            if it does not shrink.
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
        """Whether the variance returns to q after a small deviation: chi_q < 1."""
        return math.isfinite(self.depth_scale_q)

    def __str__(self) -> str:
        """Format the point with one quantity per line."""
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
class PredictedLayer:
    """Statistics that theory predicts for a layer.

    Args:
        q: Variance of the pre-activations.
        c: Correlation between the pre-activations of two independent inputs.
        mean: Mean of the output.
        stddev: Standard deviation of the output.
    """

    q: float
    c: float
    mean: float
    stddev: float


def variance_map(activation: Any, q: float, sigma_w: float, sigma_b: float = 0.0) -> float:
    """Return q', the variance of the next layer's pre-activations, for this layer's q."""
    require_nonnegative("variance_map", q=q)
    require_stddevs("variance_map", sigma_w=sigma_w, sigma_b=sigma_b)
    quadrature = adaptive_quadrature(find_activation("variance_map", activation, {}), q)
    return sigma_w**2 * quadrature.second_moment + sigma_b**2


def correlation_map(
    activation: Any, c: float, q: float, sigma_w: float, sigma_b: float = 0.0
) -> float:
    """Return c', the correlation of the next layer's pre-activations, for this layer's c.

    Both inputs have the variance q. If q' is zero, c is returned.
    """
    function = find_activation("correlation_map", activation, {})
    require_nonnegative("correlation_map", q=q)
    require_stddevs("correlation_map", sigma_w=sigma_w, sigma_b=sigma_b)
    require_number("correlation_map", "c", c, "a number in [-1, 1]", lambda value: abs(value) <= 1)
    return next_correlation(function, c, q, sigma_w, sigma_b)


def chi_1(activation: Any, q: float, sigma_w: float) -> float:
    """Return sigma_w**2 E[f'(u)**2], the growth of squared gradients; infinite if f jumps."""
    require_nonnegative("chi_1", q=q)
    require_stddevs("chi_1", sigma_w=sigma_w)
    quadrature = adaptive_quadrature(find_activation("chi_1", activation, {}), q)
    return sigma_w**2 * mean_squared_slope(quadrature)


def chi_q(activation: Any, q: float, sigma_w: float) -> float:
    """Return the derivative of q' by q, the growth of a small deviation from q, for q > 0."""
    require_stddevs("chi_q", sigma_w=sigma_w)
    require_number("chi_q", "q", q, "a number > 0", lambda value: value > 0)
    quadrature = adaptive_quadrature(find_activation("chi_q", activation, {}), q)
    return sigma_w**2 * second_moment_slope(quadrature, q)


def predict(
    activation: Any, sigma_w: float, sigma_b: float = 0.0, depth: int = 10
) -> tuple[PredictedLayer, ...]:
    """Predict the statistics of a stack of wide layers with N(0, 1) inputs.

    `propagate` measures the same statistics on random data.

    Args:
        activation: A name or a function, as for `gain`.
        sigma_w: sqrt(fan_in) times the standard deviation of the weights.
        sigma_b: Standard deviation of the biases. Defaults to 0.
        depth: Number of layers, at least 1. Defaults to 10.

    Returns:
        One `PredictedLayer` for each layer.

    Raises:
        TypeError: If a number has the wrong type, or `activation` is neither a name nor a
            function.
        ValueError: If a number is out of range, Keras has no activation of that name, or its
            output has no finite second moment.

    Example:
        >>> [round(layer.stddev, 3) for layer in predict("tanh", sigma_w=1.0, depth=3)]
        [0.628, 0.486, 0.408]

    Source: that of the module; for the experiment, CS231n lecture on training neural
        networks, activation statistics.
    """
    function = find_activation("predict", activation, {})
    require_stddevs("predict", sigma_w=sigma_w, sigma_b=sigma_b)
    require_integer("predict", "depth", depth, 1)
    q = sigma_w**2 + sigma_b**2
    c = sigma_b**2 / q if q else 0.0
    layers = []
    for _ in range(depth):
        quadrature = adaptive_quadrature(function, q)
        mean = quadrature.mean(quadrature.values)
        variance = quadrature.mean((quadrature.values - mean) ** 2)
        if not math.isfinite(variance):
            raise function.requirement_error(f"have a finite second moment over N(0, {q:g})")
        layers.append(PredictedLayer(q, c, mean, math.sqrt(variance)))
        c = next_correlation(function, c, q, sigma_w, sigma_b)
        q = sigma_w**2 * (variance + mean**2) + sigma_b**2
    return tuple(layers)


def fixed_point(activation: Any, sigma_w: float, sigma_b: float = 0.0) -> FixedPoint:
    """Find where variance and correlation settle in a deep stack with N(0, 1) inputs.

    The variance starts at sigma_w**2 + sigma_b**2 and moves up or down to the first value
    that stays, which may be 0. If chi_1 is at most 1, two inputs become equal: c = 1.

    Args:
        activation: A name or a function, as for `gain`.
        sigma_w: sqrt(fan_in) times the standard deviation of the weights.
        sigma_b: Standard deviation of the biases. Defaults to 0.

    Returns:
        A `FixedPoint`, which prints its quantities.

    Raises:
        TypeError: If a number has the wrong type, or `activation` is neither a name nor a
            function.
        ValueError: If a number is out of range, Keras has no activation of that name, or the
            variance grows beyond 10,000 times its start.

    Example:
        >>> point = fixed_point("tanh", sigma_w=2.0, sigma_b=0.05**0.5)
        >>> round(point.q, 3), round(point.c, 3), point.stable
        (2.195, 0.165, True)
    """
    function = find_activation("fixed_point", activation, {})
    require_stddevs("fixed_point", sigma_w=sigma_w, sigma_b=sigma_b)

    def change(q: float) -> float:
        return sigma_w**2 * adaptive_quadrature(function, q).second_moment + sigma_b**2 - q

    start = sigma_w**2 + sigma_b**2
    first_change = change(start) if start else 0.0
    if abs(first_change) <= ROUNDING * start:
        q = start
    else:
        path = start * np.logspace(0, 4 if first_change > 0 else -18, 90)
        q = first_root(change, path)
        if math.isnan(q) and first_change > 0:
            raise ValueError(
                "`fixed_point(sigma_w=..., sigma_b=...)` must let the variance settle. "
                f"Received: sigma_w={sigma_w!r}, sigma_b={sigma_b!r}, "
                f"for which the variance grows beyond {path[-1]:g}."
            )
        q = 0.0 if math.isnan(q) else q
    return _fixed_point_at(function, sigma_w, sigma_b, q)


def _fixed_point_at(function: Activation, sigma_w: float, sigma_b: float, q: float) -> FixedPoint:
    # At q = 0 the quantities are limits: with a kink at zero they have no value there.
    near_q = max(q, 1e-12)
    quadrature = adaptive_quadrature(function, near_q)
    gradient_growth = sigma_w**2 * mean_squared_slope(quadrature)
    variance_growth = sigma_w**2 * second_moment_slope(quadrature, near_q)
    c, correlation_growth = 1.0, gradient_growth
    if gradient_growth > 1 + ROUNDING:
        c = _settled_correlation(
            lambda c: next_correlation(function, c, near_q, sigma_w, sigma_b) - c
        )
        slopes = pair_mean(function, quadrature, c, near_q, slopes=True)
        correlation_growth = sigma_w**2 * slopes
    return FixedPoint(
        activation=function.name,
        sigma_w=float(sigma_w),
        sigma_b=float(sigma_b),
        q=float(q),
        c=c,
        chi_1=gradient_growth,
        chi_q=variance_growth,
        depth_scale_q=depth_scale(variance_growth),
        depth_scale_c=depth_scale(correlation_growth),
    )


def _settled_correlation(change: Callable[[float], float]) -> float:
    """Return the fixed point of the correlation map below 1, or 1 if the two are too close."""
    if abs(change(0.0)) <= ROUNDING:
        return 0.0
    return root(change, 0.0, 1 - 1e-6) if change(1 - 1e-6) < 0 else 1.0
