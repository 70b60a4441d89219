"""Gains agree with scipy's adaptive quadrature of formulas written independently of the code."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
from scipy import integrate, special
from support.laws import numpy

from keras_winit import gain
from keras_winit.theory.activations import find_activation
from keras_winit.theory.formulas import FORMULAS, ROW_WISE
from keras_winit.theory.quadrature import adaptive_quadrature, expectation

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772


def logistic(x):
    return special.expit(x)


def normal_cdf(x):
    return special.ndtr(x)


def normal_pdf(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def mish_slope(x):
    t = math.tanh(softplus(x))
    return t + x * (1 - t * t) * logistic(x)


def between(x, low, high, inside, below=0.0, above=0.0):
    return below if x < low else above if x > high else inside


# The function, its slope, and the places of its kinks and jumps, all written by hand.
ORACLE = {
    "celu": (lambda x: x if x > 0 else math.expm1(x), lambda x: 1 if x > 0 else math.exp(x), [0]),
    "elu": (lambda x: x if x > 0 else math.expm1(x), lambda x: 1 if x > 0 else math.exp(x), [0]),
    "exponential": (math.exp, math.exp, []),
    "gelu": (lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x), []),
    "hard_shrink": (
        lambda x: between(x, -0.5, 0.5, 0, x, x),
        lambda x: between(x, -0.5, 0.5, 0, 1, 1),
        [-0.5, 0.5],
    ),
    "hard_sigmoid": (
        lambda x: between(x, -3, 3, x / 6 + 0.5, 0, 1),
        lambda x: between(x, -3, 3, 1 / 6),
        [-3, 3],
    ),
    "hard_silu": (
        lambda x: between(x, -3, 3, x * (x + 3) / 6, 0, x),
        lambda x: between(x, -3, 3, x / 3 + 0.5, 0, 1),
        [-3, 3],
    ),
    "hard_tanh": (
        lambda x: between(x, -1, 1, x, -1, 1),
        lambda x: between(x, -1, 1, 1),
        [-1, 1],
    ),
    "leaky_relu": (lambda x: x if x > 0 else x / 5, lambda x: 1 if x > 0 else 0.2, [0]),
    "linear": (lambda x: x, lambda x: 1, []),
    "log_sigmoid": (lambda x: -softplus(-x), lambda x: logistic(-x), []),
    "mish": (lambda x: x * math.tanh(softplus(x)), mish_slope, []),
    "relu": (lambda x: max(x, 0), lambda x: float(x > 0), [0]),
    "relu6": (lambda x: min(max(x, 0), 6), lambda x: float(0 < x < 6), [0, 6]),
    "selu": (
        lambda x: SCALE * (x if x > 0 else ALPHA * math.expm1(x)),
        lambda x: SCALE * (1 if x > 0 else ALPHA * math.exp(x)),
        [0],
    ),
    "sigmoid": (logistic, lambda x: logistic(x) * logistic(-x), []),
    "silu": (lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * logistic(-x)), []),
    "soft_shrink": (
        lambda x: between(x, -0.5, 0.5, 0, x + 0.5, x - 0.5),
        lambda x: between(x, -0.5, 0.5, 0, 1, 1),
        [-0.5, 0.5],
    ),
    "softplus": (softplus, logistic, []),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2, [0]),
    "sparse_plus": (
        lambda x: between(x, -1, 1, (x + 1) ** 2 / 4, 0, x),
        lambda x: between(x, -1, 1, (x + 1) / 2, 0, 1),
        [-1, 1],
    ),
    "sparse_sigmoid": (
        lambda x: between(x, -1, 1, (x + 1) / 2, 0, 1),
        lambda x: between(x, -1, 1, 0.5),
        [-1, 1],
    ),
    "squareplus": (
        lambda x: (x + math.sqrt(x * x + 4)) / 2,
        lambda x: (1 + x / math.sqrt(x * x + 4)) / 2,
        [],
    ),
    "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2, []),
    "tanh_shrink": (lambda x: x - math.tanh(x), lambda x: math.tanh(x) ** 2, []),
    "threshold": (
        lambda x: x if x > 0.3 else -0.2,
        lambda x: float(x > 0.3),
        [0.3],
    ),
}
ORACLE["swish"], ORACLE["hard_swish"] = ORACLE["silu"], ORACLE["hard_silu"]
ARGUMENTS = {"threshold": {"threshold": 0.3, "default_value": -0.2}}
REACH = 14
each_activation = pytest.mark.parametrize("name", sorted(ORACLE))


def mean(function, points):
    """Return E[function(z)] by QUADPACK, piece by piece."""
    cuts = sorted({-REACH, -6, -3, 0, 3, 6, REACH, *points})
    return sum(
        integrate.quad(lambda z: function(z) * normal_pdf(z), a, b, epsabs=0, epsrel=1e-12)[0]
        for a, b in itertools.pairwise(cuts)
    )


def exact_gains(name):
    function, slope, points = ORACLE[name]
    first, second = mean(function, points), mean(lambda z: function(z) ** 2, points)
    return {
        "second_moment": second**-0.5,
        # The function is centered first, because `second - first**2` would cancel.
        "centered": mean(lambda z: (function(z) - first) ** 2, points) ** -0.5,
        "backward": mean(lambda z: slope(z) ** 2, points) ** -0.5,
    }


def keras_names():
    names = {n for n in dir(keras.activations) if not n.startswith("_")}
    return names - {"get", "serialize", "deserialize"}


def test_every_activation_of_keras_has_a_formula_and_an_oracle():
    assert keras_names() == {*FORMULAS, *ROW_WISE}
    assert set(ORACLE) == set(FORMULAS)


@each_activation
def test_gains_match_the_oracle(name):
    for mode, expected in exact_gains(name).items():
        result = gain(name, mode, **ARGUMENTS.get(name, {}))
        np.testing.assert_allclose(result, expected, rtol=1e-10, err_msg=mode)


def test_the_oracle_detects_wrong_formulas():
    # The other gelu, Keras' old hard sigmoid and PyTorch's leaky slope are off by over 1e-6.
    for wrong, name in (
        (gain("gelu", approximate=True), "gelu"),
        (gain(lambda x: np.clip(x / 5 + 0.5, 0, 1)), "hard_sigmoid"),
        (gain("leaky_relu", negative_slope=0.01), "leaky_relu"),
    ):
        assert abs(wrong / exact_gains(name)["second_moment"] - 1) > 1e-6


@each_activation
def test_formulas_match_keras(name):
    x = np.concatenate([np.linspace(-9, 9, 719), [-30.0, 30.0]]).astype("float32")
    function = getattr(keras.activations, name)
    expected = numpy(function(keras.ops.convert_to_tensor(x), **ARGUMENTS.get(name, {})))
    result = FORMULAS[name](x.astype("float64"), **ARGUMENTS.get(name, {}))
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"negative_slope": 0.1, "threshold": 1.0, "max_value": 3.0},
        {"negative_slope": 0.1, "threshold": -1.0},
        {"max_value": 0.5},
        {"threshold": 0.5},
    ],
    ids=str,
)
def test_arguments_of_relu_match_keras(arguments):
    x = np.linspace(-4, 4.01, 801).astype("float32")
    expected = numpy(keras.activations.relu(keras.ops.convert_to_tensor(x), **arguments))
    result = FORMULAS["relu"](x.astype("float64"), **arguments)
    np.testing.assert_allclose(result, expected, atol=1e-6)


LEAKY_GAIN = 1 / math.sqrt((1 + 0.3**2) / 2)


@pytest.mark.parametrize(
    ("activation", "arguments", "expected"),
    [
        (keras.activations.relu, {}, math.sqrt(2)),
        (keras.ops.relu, {}, math.sqrt(2)),
        (keras.ops.gelu, {}, gain("gelu", approximate=True)),
        (keras.activations.gelu, {}, gain("gelu")),
        ("leaky_relu", {"negative_slope": 0.3}, LEAKY_GAIN),
        (keras.activations.leaky_relu, {"negative_slope": 0.3}, LEAKY_GAIN),
        (functools.partial(keras.activations.leaky_relu, negative_slope=0.3), {}, LEAKY_GAIN),
        (keras.layers.LeakyReLU(0.3), {}, LEAKY_GAIN),
        (keras.layers.ReLU(), {}, math.sqrt(2)),
        (keras.layers.ReLU(max_value=6), {}, gain("relu6")),
        (keras.layers.ELU(0.5), {}, gain("elu", alpha=0.5)),
        (keras.layers.Activation("tanh"), {}, gain("tanh")),
        (np.tanh, {}, gain("tanh")),
    ],
    ids=str,
)
def test_an_activation_may_be_given_in_any_form(activation, arguments, expected):
    np.testing.assert_allclose(gain(activation, **arguments), expected, rtol=1e-12)


# Functions unknown to Keras, with kinks and jumps at no round number, against closed forms.
def clipped(x):
    return np.clip(x - 0.123, 0, 1)


@pytest.mark.parametrize(
    ("function", "mode", "expected"),
    [
        (clipped, "backward", (normal_cdf(1.123) - normal_cdf(0.123)) ** -0.5),
        (lambda x: np.where(x > 0.7, 1.0, 0.0), "second_moment", normal_cdf(-0.7) ** -0.5),
        (lambda x: x > 0.7, "second_moment", normal_cdf(-0.7) ** -0.5),
        (lambda x: np.sin(30 * x), "backward", (450 * (1 + math.exp(-1800))) ** -0.5),
        (lambda x: np.exp(x * x / 8), "second_moment", 2**-0.25),
        (lambda x: x**5, "second_moment", 945**-0.5),
        (lambda x: np.log(1 + np.exp(x)), "second_moment", gain("softplus")),
        (lambda x: np.abs(x - 1 / 3), "centered", None),
    ],
)
def test_unknown_functions(function, mode, expected):
    if expected is None:
        first = mean(lambda z: abs(z - 1 / 3), [1 / 3])
        expected = (1 + 1 / 9 - first**2) ** -0.5
    np.testing.assert_allclose(gain(function, mode), expected, rtol=1e-10)


def test_functions_of_the_backend():
    # On JAX, these functions compute in float32 for any input.
    expected = (normal_cdf(0.877) - normal_cdf(-0.123)) ** -0.5
    result = gain(
        lambda x: keras.ops.clip(keras.ops.convert_to_tensor(x) + 0.123, 0, 1), "backward"
    )
    np.testing.assert_allclose(result, expected, rtol=3e-5)
    result = gain(lambda x: keras.ops.tanh(keras.ops.convert_to_tensor(x)) ** 3)
    np.testing.assert_allclose(result, gain(lambda x: np.tanh(x) ** 3), rtol=1e-6)


def test_steep_functions():
    # The saturated tanh of the lecture notes. Gauss-Hermite quadrature with 201 nodes gives 0.9548.
    expected = integrate.quad(
        lambda z: 2 * math.tanh(math.sqrt(500) * z) ** 2 * normal_pdf(z),
        0, 12, points=[0.05, 0.2, 1], epsrel=1e-12, limit=200,
    )[0]  # fmt: skip
    np.testing.assert_allclose(expectation(lambda x: np.tanh(x) ** 2, 500.0), expected, rtol=1e-11)
    assert round(math.sqrt(expected), 4) == 0.9820


def jumps(activation, variance=1.0):
    return adaptive_quadrature(find_activation("gain", activation, {}), variance).jumps


def test_jumps_are_found_and_kinks_are_not_jumps():
    assert jumps("hard_shrink") == (-0.5, 0.5)
    np.testing.assert_allclose(jumps(lambda x: np.sign(x - 0.3)), 0.3, atol=1e-12)
    for variance in (0.01, 0.1, 4 / 3, 10):
        for name in ("hard_tanh", "hard_sigmoid", "relu6", "soft_shrink", "tanh"):
            assert jumps(name, variance) == ()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("linear", {}, 1),
        ("conv2d", {}, 1),
        ("conv_transpose3d", {}, 1),
        ("sigmoid", {}, 1),
        ("tanh", {}, 5 / 3),
        (keras.activations.tanh, {}, 5 / 3),
        ("relu", {}, math.sqrt(2)),
        (keras.layers.ReLU(), {}, math.sqrt(2)),
        ("leaky_relu", {}, math.sqrt(2 / 1.0001)),
        ("leaky_relu", {"negative_slope": 0.3}, LEAKY_GAIN),
        (keras.layers.LeakyReLU(0.3), {}, LEAKY_GAIN),
        (keras.activations.leaky_relu, {}, math.sqrt(2 / 1.04)),
        ("selu", {}, 0.75),
    ],
    ids=str,
)
def test_mode_torch_gives_the_table_of_pytorch(name, arguments, expected):
    assert gain(name, "torch", **arguments) == pytest.approx(expected, rel=1e-15)


def test_mode_torch_matches_installed_pytorch():
    init = pytest.importorskip("torch.nn.init")
    for name in ("linear", "conv1d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert gain(name, "torch") == init.calculate_gain(name)
