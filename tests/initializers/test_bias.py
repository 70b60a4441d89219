"""Schemes for biases: the outputs of layers before training."""

import math

import keras
import numpy as np
import pytest
from support.laws import deviations, numpy, uniform

import keras_winit

layers = keras.layers


def initial_outputs(activation, bias, units):
    layer = layers.Dense(units, activation, kernel_initializer="winit>zeros", bias_initializer=bias)
    return numpy(layer(np.ones((1, 5), "float32")))[0]


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.01, [0.01] * 3),
        (0.5, [0.5] * 3),
        ([0.1, 0.2, 0.9], [0.1, 0.2, 0.9]),
        (np.array([1e-6, 0.3, 1 - 1e-6]), [1e-6, 0.3, 1 - 1e-6]),
    ],
    ids=str,
)
def test_sigmoid_outputs_start_at_the_probability(probability, expected):
    bias = keras_winit.PriorBias(probability)
    np.testing.assert_allclose(initial_outputs("sigmoid", bias, 3), expected, rtol=1e-5)


def test_the_default_is_the_bias_of_the_paper():
    # The paper's bias is -log((1 - 0.01) / 0.01).
    bias = numpy(keras.initializers.get("winit>prior_bias")((4,), "float64"))
    np.testing.assert_allclose(bias, -4.59511985013459, rtol=1e-7)


@pytest.mark.parametrize(
    ("frequencies", "expected"),
    [
        ([900, 90, 10], [0.9, 0.09, 0.01]),
        ((0.25, 0.25, 0.5), [0.25, 0.25, 0.5]),
        (np.array([3.0, 3.0, 6.0]), [0.25, 0.25, 0.5]),
        ([1e308, 1e308, 1e308], [1 / 3] * 3),
        ([10**9, 10**9, 1], [0.5, 0.5, 5e-10]),
    ],
    ids=str,
)
def test_softmax_outputs_start_at_the_frequencies(frequencies, expected):
    bias = keras_winit.PriorBias(frequencies=frequencies)
    np.testing.assert_allclose(initial_outputs("softmax", bias, 3), expected, rtol=1e-5)
    shares = np.exp(numpy(bias((3,), "float32")))
    np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_classes_lie_along_the_last_axis():
    scheme = keras_winit.PriorBias([0.1, 0.2, 0.3])
    rows = numpy(scheme((4, 3)))
    np.testing.assert_array_equal(rows, np.broadcast_to(numpy(scheme((3,))), (4, 3)))
    part = scheme.plan((4, 3), "float32")((slice(1, 3), slice(1, 2)))
    np.testing.assert_array_equal(part, rows[1:3, 1:2])
    head = layers.Conv2D(3, 1, bias_initializer=scheme)
    head.build((1, 2, 2, 4))
    np.testing.assert_array_equal(numpy(head.bias), rows[0])


def test_config_of_numbers_of_any_type():
    scheme = keras_winit.PriorBias(np.array([0.25, 0.5], np.float32))
    assert scheme.get_config() == {"probability": [0.25, 0.5], "frequencies": None}
    assert repr(scheme) == "PriorBias(probability=(0.25, 0.5))"
    counts = keras_winit.PriorBias(frequencies=[1, 2])
    assert counts.get_config() == {"probability": None, "frequencies": [1.0, 2.0]}


@pytest.mark.parametrize("shape", [(384,), (3, 128), ()], ids=str)
def test_fan_in_bias_does_not_depend_on_its_shape(shape):
    drawn = [numpy(keras_winit.FanInBias(25, seed=seed)(shape)) for seed in range(100)]
    assert deviations(np.array(drawn), uniform(0.2)) == []


def test_fan_in_bias_without_inputs_is_zero():
    np.testing.assert_array_equal(numpy(keras_winit.FanInBias(0)((7,))), 0)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="needs torch")
def test_biases_of_torch_have_the_distribution_of_fan_in_bias():
    import torch

    torch.manual_seed(0)
    bias = torch.nn.Linear(25, 40_000).bias.detach().numpy()
    assert deviations(bias, uniform(1 / math.sqrt(25))) == []
