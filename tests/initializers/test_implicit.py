"""SIREN: the law of the pre-activations, through layers that exist."""

import math

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy

import keras_winit


@pytest.mark.parametrize("omega", [30.0, 5.0])
def test_pre_activations_keep_their_law(omega):
    generator = np.random.default_rng(0)
    width, samples = 600, 300
    signal = np.sin(generator.uniform(-math.pi, math.pi, (samples, width)))
    variance, error = 1.0, 0.0
    for layer in range(4):
        scheme = keras_winit.Siren(omega=omega, seed=layer)
        dense = keras.layers.Dense(width, kernel_initializer=scheme)
        phases = omega * numpy(dense(signal.astype(np.float32))).astype(np.float64)
        # Of a mean square over units and samples; what came in was off by as much.
        error += math.sqrt(2 / (width * width) + 2 / (samples * width))
        assert abs((phases**2).mean() / variance - 1) < 5 * error
        signal = np.sin(phases)
        # E[sin(z)**2] = (1 - exp(-2 v)) / 2, times fan_in * limit**2 * omega**2 / 3 = 2.
        variance = 1 - math.exp(-2 * variance)
    assert abs(variance - 0.80) < 0.03


def test_pre_activations_are_normal():
    generator = np.random.default_rng(0)
    signal = np.sin(generator.uniform(-math.pi, math.pi, 4000)).astype(np.float32)
    signal /= np.sqrt((signal**2).mean() * 2)
    kernel = numpy(keras_winit.Siren(seed=1)((4000, 3000))).astype(np.float64)
    assert deviations(30 * signal @ kernel, normal(1.0)) == []


def test_the_first_layer_spans_periods():
    # A coordinate of 1 in a layer of two inputs: phases up to 30 * (1/2 + 1/2).
    scheme = keras_winit.Siren(first=True, seed=1)
    dense = keras.layers.Dense(20_000, kernel_initializer=scheme)
    phases = 30 * numpy(dense(np.ones((1, 2), "float32")))
    assert 29 < np.abs(phases).max() < 30
    # In the hidden layers of a wide network weights are much smaller, by 30.
    hidden = numpy(keras_winit.Siren(seed=1)((2, 20_000)))
    assert np.abs(hidden).max() < math.sqrt(6 / 2) / 30
