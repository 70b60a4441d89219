"""Mean-field theory agrees with closed forms, scipy's root finders, and the lecture notes."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize

from keras_winit import critical_point
from keras_winit.theory.mean_field import (
    PredictedLayer,
    chi_1,
    chi_q,
    correlation_map,
    fixed_point,
    predict,
    variance_map,
)


def mean(function, q):
    """Return E[function(x)] for x ~ N(0, q), by QUADPACK."""
    stddev = math.sqrt(q)
    return sum(
        integrate.quad(
            lambda z: function(stddev * z) * math.exp(-z * z / 2), a, b, epsabs=0, epsrel=1e-12
        )[0]
        for a, b in ((-12, -3), (-3, 0), (0, 3), (3, 12))
    ) / math.sqrt(2 * math.pi)


def tanh_slope(x):
    return 1 / math.cosh(x) ** 2


@pytest.mark.parametrize("bias_variance", [2e-5, 0.0025, 0.0484, 0.2])
def test_critical_points_of_tanh_against_a_direct_root_finder(bias_variance):
    def bias_variance_at(q):
        return q - mean(lambda x: math.tanh(x) ** 2, q) / mean(lambda x: tanh_slope(x) ** 2, q)

    q = optimize.brentq(
        lambda q: bias_variance_at(q) - bias_variance, 1e-3, 10, xtol=1e-15, rtol=1e-14
    )
    point = critical_point("tanh", bias_stddev=math.sqrt(bias_variance))
    np.testing.assert_allclose(point.q, q, rtol=1e-7)
    np.testing.assert_allclose(
        point.sigma_w**2, 1 / mean(lambda x: tanh_slope(x) ** 2, q), rtol=1e-8
    )
    # Expects chi_q by the chain rule, with the second derivative of tanh, unlike the code.
    curvature = mean(lambda x: -2 * math.tanh(x) ** 2 * tanh_slope(x), q)
    np.testing.assert_allclose(point.chi_q, 1 + point.sigma_w**2 * curvature, rtol=1e-7)
    np.testing.assert_allclose(point.depth_scale_q, -1 / math.log(point.chi_q), rtol=1e-12)
    assert point.stable
    assert point.sigma_b == math.sqrt(bias_variance)
    assert (point.chi_1, point.c, point.depth_scale_c) == (1, 1, math.inf)
    # The point is critical, and it is a fixed point.
    np.testing.assert_allclose(chi_1("tanh", point.q, point.sigma_w), 1, rtol=1e-12)
    next_q = variance_map("tanh", point.q, point.sigma_w, point.sigma_b)
    np.testing.assert_allclose(next_q, point.q, rtol=1e-10)


# Known critical points of tanh: sigma_b**2 to (sigma_w**2, q).
TANH_POINTS = {
    2e-5: (1.049912, 0.0259),
    0.04: (1.700796, 0.5121),
    0.05: (1.760955, 0.5700),
    0.09: (1.947655, 0.7635),
}


@pytest.mark.parametrize("bias_variance", TANH_POINTS)
def test_known_points_of_tanh(bias_variance):
    point = critical_point("tanh", math.sqrt(bias_variance))
    assert (round(point.sigma_w**2, 6), round(point.q, 4)) == TANH_POINTS[bias_variance]


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


# f, and E[f**2] and E[f'**2] as functions of the variance q, in closed form.
CLOSED_FORMS = {
    "sin": (np.sin, lambda q: (1 - math.exp(-2 * q)) / 2, lambda q: (1 + math.exp(-2 * q)) / 2),
    "erf": (
        erf,
        lambda q: 2 / math.pi * math.asin(2 * q / (1 + 2 * q)),
        lambda q: 4 / math.pi / math.sqrt(1 + 4 * q),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("q", [0.1, 1.0, 5.0])
def test_critical_points_in_closed_form(name, q):
    function, second, slope = CLOSED_FORMS[name]
    point = critical_point(function, q=q)
    np.testing.assert_allclose(point.sigma_w**2, 1 / slope(q), rtol=1e-10)
    np.testing.assert_allclose(point.sigma_b**2, q - second(q) / slope(q), rtol=1e-9)
    step = 1e-5 * q
    growth = (second(q + step) - second(q - step)) / (2 * step)
    np.testing.assert_allclose(point.chi_q, growth / slope(q), rtol=1e-8)


def test_the_critical_point_of_exponential_is_unstable():
    with pytest.warns(UserWarning, match="is not stable"):
        point = critical_point("exponential", bias_stddev=0.5)
    np.testing.assert_allclose(
        (point.q, point.sigma_w**2, point.chi_q), (1.25, math.exp(-2.5), 2), rtol=1e-9
    )
    assert not point.stable
    assert point.depth_scale_q == math.inf


@pytest.mark.parametrize(
    ("activation", "variance", "q"),
    [("relu", 2, 1), ("leaky_relu", 2 / 1.04, 1), ("linear", 1, 1), ("tanh", 1, 0), ("gelu", 4, 0)],
)
def test_critical_points_without_biases(activation, variance, q):
    with pytest.warns(UserWarning, match="not stable") as caught:
        point = critical_point(activation, bias_stddev=0)
    np.testing.assert_allclose(point.sigma_w**2, variance, rtol=1e-5)
    assert (point.sigma_b, point.q) == (0, q)
    np.testing.assert_allclose(point.chi_q, 1, rtol=1e-5)
    assert str(caught[0].message) == (
        f"The critical point of {activation} at q={q} is not stable: "
        f"with chi_q=1 the variance does not return to q."
    )


def test_arguments_are_passed_to_the_activation():
    with pytest.warns(UserWarning, match="not stable"):
        point = critical_point("leaky_relu", q=3.0, negative_slope=0.3)
    np.testing.assert_allclose(point.sigma_w**2, 2 / 1.09, rtol=1e-12)
    assert point.sigma_b == 0


@pytest.mark.parametrize("name", ["silu", "gelu", "mish"])
def test_unstable_points_cause_a_warning(name):
    with pytest.warns(UserWarning, match=r"not stable: with chi_q=1\.\d+ the variance"):
        point = critical_point(name, bias_stddev=0.2)
    assert 1 < point.chi_q < 1.11


def test_chi_q_of_known_points():
    rounded = [round(critical_point("tanh", q=q).chi_q, 3) for q in (0.05, 0.5, 1, 3)]
    assert rounded == [0.912, 0.548, 0.391, 0.188]


# sigma_w**2 to (q, chi_1, c, depth_scale_q, depth_scale_c), for tanh with sigma_b**2 = 0.05.
FIXED_POINTS = {
    1.0: (0.194, 0.759, 1, 1.75, 3.63),
    1.7: (0.533, 0.987, 1, 1.56, 74.9),
    1.9: (0.657, 1.028, 0.838, 1.44, 39.4),
    4.0: (2.195, 1.342, 0.165, 0.87, 6.98),
}


@pytest.mark.parametrize("variance", FIXED_POINTS)
def test_fixed_points(variance):
    point = fixed_point("tanh", math.sqrt(variance), math.sqrt(0.05))
    values = (point.q, point.chi_1, point.c, point.depth_scale_q, point.depth_scale_c)
    # The table has three digits.
    np.testing.assert_allclose(values, FIXED_POINTS[variance], rtol=5e-3)


def test_fixed_points_at_the_boundaries():
    relu = fixed_point("relu", math.sqrt(2))
    np.testing.assert_allclose((relu.q, relu.c, relu.chi_1, relu.chi_q), (2, 1, 1, 1), rtol=1e-9)
    shrinking = fixed_point("tanh", 0.9)
    np.testing.assert_allclose((shrinking.q, shrinking.chi_1), (0, 0.81), atol=1e-9)
    # An odd function without biases keeps uncorrelated inputs uncorrelated.
    assert fixed_point("tanh", 2.0).c == 0


@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.3, 0.9, 0.9999])
def test_correlation_map_of_relu(c):
    # Cho and Saul 2009: the arc-cosine kernel of order 1.
    angle = math.acos(c)
    expected = (math.sin(angle) + (math.pi - angle) * c) / math.pi
    np.testing.assert_allclose(correlation_map("relu", c, 2.0, math.sqrt(2)), expected, atol=1e-12)


@pytest.mark.parametrize("c", [-0.7, 0.2, 0.99])
def test_correlation_map_of_erf(c):
    # Williams 1998.
    q = 3.0
    kernel = 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))
    next_q = 2.25 * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + 0.09
    result = correlation_map(erf, c, q, 1.5, 0.3)
    np.testing.assert_allclose(result, (2.25 * kernel + 0.09) / next_q, atol=1e-12)


def test_jumps_make_chi_1_infinite_and_count_in_chi_q():
    assert chi_1("hard_shrink", 1.0, 1.0) == math.inf
    q, step = 1.0, 1e-5
    # Compares chi_q with a difference quotient of the variance map.
    low, high = (variance_map("hard_shrink", q + d, 1.0) for d in (-step, step))
    np.testing.assert_allclose(chi_q("hard_shrink", q, 1.0), (high - low) / (2 * step), rtol=1e-8)


# Standard deviations of layers 1 to 10 in the lecture notes, by the stddev of the weights. The
# relative tolerance of the test, 0.5 %, covers half of the last digit, and the random variation
# of 500 units and 1000 samples.
NOTES = {
    0.01: "0.2134 0.0476 0.0106 0.00238 0.000532 0.000119",
    1.0: "0.9820 0.9817 0.9816 0.9816",
    500**-0.5: "0.627 0.486 0.408 0.357 0.321 0.294 0.272 0.255 0.241 0.228",
}


@pytest.mark.parametrize("stddev", NOTES)
def test_predictions_match_the_lecture_notes(stddev):
    printed = [float(number) for number in NOTES[stddev].split()]
    layers = predict("tanh", sigma_w=stddev * math.sqrt(500), depth=len(printed))
    np.testing.assert_allclose([layer.stddev for layer in layers], printed, rtol=5e-3)
    assert all(abs(layer.mean) < 1e-12 for layer in layers)
    assert all(abs(layer.c) < 1e-12 for layer in layers)


def test_prediction_for_relu():
    # q stays 2, so the mean is sqrt(q / (2 pi)), and c follows the arc-cosine kernel.
    c = 0.0
    for layer in predict("relu", math.sqrt(2), depth=4):
        np.testing.assert_allclose(layer.q, 2, rtol=1e-12)
        np.testing.assert_allclose(layer.c, c, atol=1e-12)
        np.testing.assert_allclose(layer.mean, math.sqrt(1 / math.pi), rtol=1e-12)
        np.testing.assert_allclose(layer.stddev, math.sqrt(1 - 1 / math.pi), rtol=1e-12)
        c = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi


def test_prediction_with_zero_weights():
    assert predict("tanh", 0.0, depth=2)[1] == PredictedLayer(0.0, 0.0, 0.0, 0.0)


def test_a_critical_point_prints_its_quantities():
    text = str(critical_point("tanh", 0.22))
    assert text.startswith("CriticalPoint of tanh\nsigma_w        1.3235755  stddev of weights")
    assert text.endswith("\nstable         yes")
