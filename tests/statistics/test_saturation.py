"""Saturation against slopes computed in float64."""

import math

import keras
import numpy as np
import pytest

from keras_winit import statistics

# The inputs where the slope is below 5 % of the largest slope, solved by hand from derivatives.
SATURATED = {
    "tanh": lambda z: np.abs(np.tanh(z)) > 0.97468,
    "sigmoid": lambda z: (z < -4.3511) | (z > 4.3511),
    "softsign": lambda z: np.abs(z / (1 + np.abs(z))) > 0.77639,
    "softplus": lambda z: z < np.log(0.05 / 0.95),
    "relu": lambda z: np.zeros_like(z, bool),
    "relu6": lambda z: z >= 6,
    "leaky_relu": lambda z: np.zeros_like(z, bool),
    "elu": lambda z: z < np.log(0.05),
    "hard_sigmoid": lambda z: np.abs(z) >= 3,
    "hard_tanh": lambda z: np.abs(z) >= 1,
    "linear": lambda z: np.zeros_like(z, bool),
}

# Largest slopes other than 1.
LARGEST_SLOPES = {"gelu": 1.128904145, "silu": 1.09983932, "mish": 1.088498161, "sigmoid": 0.25}
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
LARGEST_SLOPES |= {"selu": SELU_SCALE * SELU_ALPHA, "hard_sigmoid": 1 / 6}

FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softsign": lambda z: z / (1 + np.abs(z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "gelu": lambda z: z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
    "elu": lambda z: np.where(z > 0, z, np.expm1(z)),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(z)),
    "relu6": lambda z: np.clip(z, 0, 6),
    "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
}


@pytest.mark.parametrize("name", SATURATED)
def test_saturated_share(name):
    z = np.linspace(-9, 9, 18_001).astype("float32")
    share = statistics.saturated_share(keras.ops.convert_to_tensor(z), keras.activations.get(name))
    # Two or three points of the grid lie around each of at most two ends.
    assert abs(float(share) - SATURATED[name](z.astype(np.float64)).mean()) < 25 / len(z)


def test_saturated_share_of_large_inputs():
    z = keras.ops.convert_to_tensor(np.array([1e4, -1e4, 0.0, 1e30], "float32"))
    assert float(statistics.saturated_share(z, keras.activations.tanh)) == 0.75
    assert float(statistics.saturated_share(z, keras.activations.relu)) == 0


def count_flat(z, activation, counts=None):
    return [float(number) for number in statistics.count_saturated(z, counts, activation)]


@pytest.mark.parametrize("name", statistics.BANDS)
def test_bands_are_where_the_slope_is_small(name):
    z = np.linspace(-9, 9, 18_000).astype("float32")
    exact, step, function = z.astype(np.float64), 1e-6, FUNCTIONS[name]
    slope = (function(exact + step) - function(exact - step)) / (2 * step)
    is_flat = np.abs(slope) < 0.05 * LARGEST_SLOPES.get(name, 1)
    if name == "relu6":
        is_flat &= exact > 0  # Below zero, relu6 is off and not saturated.
    tensor = keras.ops.convert_to_tensor(z[:, None])
    count, number = count_flat(tensor, getattr(keras.activations, name))
    assert number == len(z)
    # Each of at most three ends lies between two points.
    assert abs(count - is_flat.sum()) <= 3


def test_a_band_includes_its_ends():
    z = keras.ops.convert_to_tensor(np.array([[3, -3, 2.9999998, -2.9999998]], "float32"))
    assert count_flat(z, keras.activations.hard_sigmoid) == [2, 4]


@pytest.mark.parametrize("activation", [keras.activations.tanh, lambda x: keras.ops.tanh(x) + 1])
def test_flat_leaves_out_entries_that_do_not_count(activation):
    z = keras.ops.convert_to_tensor(np.array([[-9.0, -1, 0, 1, 9, np.nan]], "float32"))
    assert count_flat(z[:, :5], activation) == [2, 5]
    assert count_flat(z, activation, z > -5) == [1, 4]
    assert np.isnan(count_flat(z, activation)[0])


@pytest.mark.parametrize(
    ("activation", "is_elementwise"), [("tanh", True), ("softmax", False), ("log_softmax", False)]
)
def test_elementwise(activation, is_elementwise):
    assert statistics.elementwise(keras.activations.get(activation)) is is_elementwise
