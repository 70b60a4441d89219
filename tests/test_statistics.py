"""Statistics are what numpy says they are."""

import keras
import numpy as np
import pytest
from laws import numpy

from keras_winit import statistics

RNG = np.random.default_rng(0)
OUTPUTS = {
    "plain": RNG.normal(0.3, 2.0, (64, 20)),
    "large mean": RNG.normal(1e4, 1.0, (64, 20)),
    "image": RNG.normal(0, 1, (8, 5, 5, 12)),
    "tiny": RNG.normal(0.3e-30, 1e-30, (64, 20)),
    "huge": RNG.normal(0.3e30, 1e30, (64, 20)),
    "half": RNG.normal(0, 300.0, (64, 20)).astype("float16"),
}


@pytest.mark.parametrize("values", OUTPUTS.values(), ids=OUTPUTS)
def test_moments(values):
    tensor = keras.ops.convert_to_tensor(
        values, dtype="float16" if values.dtype == "float16" else "float32"
    )
    exact = numpy(tensor).astype(np.float64)
    mean, stddev = statistics.mean_stddev(tensor)
    # Relative to the spread: near a mean of zero there is no other scale.
    assert abs(float(mean) - exact.mean()) < 1e-5 * max(exact.std(), abs(exact.mean()))
    np.testing.assert_allclose(float(stddev), exact.std(), rtol=1e-5)
    units = exact.reshape(-1, exact.shape[-1])
    np.testing.assert_allclose(
        float(statistics.unit_stddev(tensor)), units.std(axis=0).mean(), rtol=1e-5
    )


def test_unit_stddev_is_blind_to_differences_between_units():
    values = np.broadcast_to(np.arange(20.0), (64, 20)).astype("float32")
    assert float(statistics.unit_stddev(keras.ops.convert_to_tensor(values))) < 1e-5
    assert float(statistics.mean_stddev(keras.ops.convert_to_tensor(values))[1]) > 5


def test_dead_share():
    values = RNG.normal(size=(64, 20)).astype("float32")
    values[:, :5] = 0
    values[:63, 5] = 0  # once alive is alive
    assert float(statistics.dead_share(keras.ops.convert_to_tensor(values))) == 0.25
    image = values.reshape(8, 8, 20)
    assert float(statistics.dead_share(keras.ops.convert_to_tensor(image))) == 0.25


# Where the slope is below 5 % of its largest, by hand from the derivatives.
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


@pytest.mark.parametrize("name", SATURATED)
def test_saturated_share(name):
    z = np.linspace(-9, 9, 18_001).astype("float32")
    share = statistics.saturated_share(keras.ops.convert_to_tensor(z), keras.activations.get(name))
    # Within the two or three grid points at each of at most two ends.
    assert abs(float(share) - SATURATED[name](z.astype(np.float64)).mean()) < 25 / len(z)


def test_saturated_share_of_large_inputs():
    z = keras.ops.convert_to_tensor(np.array([1e4, -1e4, 0.0, 1e30], "float32"))
    assert float(statistics.saturated_share(z, keras.activations.tanh)) == 0.75
    assert float(statistics.saturated_share(z, keras.activations.relu)) == 0


@pytest.mark.parametrize(
    ("kernel", "count"),
    [
        (np.zeros((5, 8)), 1),
        (np.full((5, 8), 0.1), 1),
        (np.eye(8), 8),
        (np.tile(np.arange(5.0)[:, None], (1, 8)), 1),
        (np.tile(RNG.normal(size=(5, 2)), (1, 4)), 2),
        (np.tile(RNG.normal(size=(3, 3, 4, 3)), (1, 1, 1, 2)), 3),
        (RNG.normal(size=(5, 1)) * np.ones(8) * (1 + 1e-8 * np.arange(8)), 1),
        (RNG.normal(size=(5, 1)) * np.ones(8) * (1 + 1e-3 * np.arange(8)), 8),
        (np.full((5, 8), np.nan), 1),
        (np.array([[np.nan, np.nan, np.inf, np.inf, 1.0]]), 3),
    ],
)
def test_distinct_units(kernel, count):
    assert statistics.distinct_units(keras.ops.convert_to_tensor(kernel)) == count


def test_repeated_share():
    kernel = np.random.default_rng(0).normal(size=(3, 8, 6)).astype("float32")
    kernel[..., 3] = kernel[..., 1]
    kernel[..., 4] = kernel[..., 1]

    def share(values, axes):
        return float(statistics.repeated_share(values, axes))

    assert share(keras.ops.convert_to_tensor(kernel), (2,)) == pytest.approx(1 - 3 / 5)
    # Its rows are all different, and so are they in pairs with a column.
    assert share(keras.ops.convert_to_tensor(kernel), (1,)) == 0
    assert share(keras.ops.zeros((4, 5)), (1,)) == share(keras.ops.ones((4, 5)), (0, 1)) == 1
    assert np.isnan(share(keras.ops.ones((4, 1)), (1,)))
    kernel[0, 0, 0] = np.inf
    assert np.isnan(share(keras.ops.convert_to_tensor(kernel), (2,)))
