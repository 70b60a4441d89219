"""The SIREN scheme: the distribution of the pre-activations of real layers."""

import math

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy

import keras_winit


@pytest.mark.parametrize("omega", [30.0, 5.0])
def test_the_variance_of_pre_activations_settles(omega):
    generator = np.random.default_rng(0)
    width, samples = 600, 300
    signal = np.sin(generator.uniform(-math.pi, math.pi, (samples, width)))
    variance, error = 1.0, 0.0
    for layer in range(4):
        scheme = keras_winit.Siren(omega=omega, seed=layer)
        dense = keras.layers.Dense(width, kernel_initializer=scheme)
        phases = omega * numpy(dense(signal.astype(np.float32))).astype(np.float64)
        # The error of a mean square over units and samples; the errors of the layers add up.
        error += math.sqrt(2 / (width * width) + 2 / (samples * width))
        assert abs((phases**2).mean() / variance - 1) < 5 * error
        signal = np.sin(phases)
        # E[sin(z)**2] = (1 - exp(-2 v)) / 2, and fan_in * Var[w] * omega**2 = 2.
        variance = 1 - math.exp(-2 * variance)
    assert abs(variance - 0.80) < 0.03


def test_pre_activations_are_normal():
    generator = np.random.default_rng(0)
    signal = np.sin(generator.uniform(-math.pi, math.pi, 4000)).astype(np.float32)
    signal /= np.sqrt((signal**2).mean() * 2)
    kernel = numpy(keras_winit.Siren(seed=1)((4000, 3000))).astype(np.float64)
    assert deviations(30 * signal @ kernel, normal(1.0)) == []


def test_the_first_layer_spans_periods():
    # With two inputs of 1, the phases reach 30 * (1/2 + 1/2).
    scheme = keras_winit.Siren(first=True, seed=1)
    dense = keras.layers.Dense(20_000, kernel_initializer=scheme)
    phases = 30 * numpy(dense(np.ones((1, 2), "float32")))
    assert 29 < np.abs(phases).max() < 30
    # The weights of hidden layers are smaller by the factor omega = 30.
    hidden = numpy(keras_winit.Siren(seed=1)((2, 20_000)))
    assert np.abs(hidden).max() < math.sqrt(6 / 2) / 30
