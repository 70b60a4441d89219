"""Convolution-aware kernels: spectra written out as cosines, sizes exact, noise normal."""

import itertools
import math

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy

import keras_winit
from keras_winit.initializers import convolution

WINDOWS = [(5,), (4,), (3, 3), (2, 4), (3, 2), (5, 1), (3, 2, 3)]


def waves(window):
    """For each frequency of a half spectrum, the window that has it alone."""
    time = np.meshgrid(*(np.arange(n) for n in window), indexing="ij")
    *others, last = window
    for frequency in itertools.product(*map(range, others), range(last // 2 + 1)):
        angle = sum(
            2 * math.pi * f * t / n for f, t, n in zip(frequency, time, window, strict=True)
        )
        # A real transform leaves out what mirrors the frequencies within the last axis.
        twice = 0 < 2 * frequency[-1] < last
        yield (2 if twice else 1) * np.cos(angle) / math.prod(window)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_channels_get_the_waves_of_their_spectra(window, monkeypatch):
    monkeypatch.setattr(
        convolution,
        "reflected",
        lambda draws: np.broadcast_to(np.eye(draws.shape[-1]), draws.shape),
    )
    each = list(waves(window))
    # Two more channels than frequencies: the second basis begins.
    channels = len(each) + 2
    kernel = numpy(keras_winit.ConvolutionAware(noise=0.0, seed=1)((*window, channels, 3)))
    expected = np.stack([*each, *each[:2]], axis=-1)
    expected *= math.sqrt(2 / (channels * math.prod(window)) / (expected**2).mean())
    for f in range(3):
        np.testing.assert_allclose(kernel[..., f], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "fan_in"),
    [((3, 7, 5), 21), ((3, 3, 16, 32), 144), ((2, 3, 2, 4, 6), 48), ((1, 1, 64, 96), 64)],
    ids=str,
)
@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_mean_square_is_exact(shape, fan_in, scale):
    kernel = numpy(keras_winit.ConvolutionAware(scale, seed=0)(shape)).astype(np.float64)
    assert abs((kernel**2).mean() * fan_in / scale - 1) < 1e-6


def test_windows_are_symmetric_but_for_the_noise():
    def mirrored(noise):
        kernel = numpy(keras_winit.ConvolutionAware(noise=noise, seed=0)((5, 4, 3, 6)))
        other = np.roll(kernel[::-1, ::-1], (1, 1), (0, 1))
        return np.abs(kernel - other).max() / np.abs(kernel).max()

    assert mirrored(0.0) < 1e-6
    assert mirrored(0.05) > 0.1


def test_noise_and_single_entries_are_normal():
    loud = numpy(keras_winit.ConvolutionAware(noise=1e6, seed=0)((3, 3, 64, 128)))
    assert deviations(loud, normal(math.sqrt(2 / 576))) == []
    single = numpy(keras_winit.ConvolutionAware(noise=0.0, seed=0)((1, 1, 256, 384)))
    assert deviations(single, normal(math.sqrt(2 / 256))) == []


def test_noise_is_drawn_apart_from_the_bases():
    quiet, loud = (
        numpy(keras_winit.ConvolutionAware(noise=noise, seed=0)((1, 1, 128, 256)))
        for noise in (0.0, 1e6)
    )
    assert abs(np.corrcoef(quiet.ravel(), loud.ravel())[0, 1]) * quiet.size**0.5 < 5


def test_filters_and_channels_differ():
    kernel = numpy(keras_winit.ConvolutionAware(noise=0.0, seed=0)((3, 3, 20, 10)))
    assert len({window.tobytes() for window in kernel.reshape(9, 200).T}) == 200


def test_signal_keeps_its_variance():
    layer = keras.layers.Conv2D(
        64, 3, kernel_initializer=keras_winit.ConvolutionAware(seed=0), use_bias=False
    )
    inputs = np.random.default_rng(1).standard_normal((8, 14, 14, 32)).astype(np.float32)
    outputs = numpy(layer(inputs)).astype(np.float64)
    # Of 288 weights a filter, all filters together exact; one input serves nine places.
    assert abs((outputs**2).mean() / 2 - 1) < 5 * math.sqrt(2 * 9 / (outputs[..., 0].size * 64))
