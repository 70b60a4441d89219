"""The convolution-aware scheme: its spectra written out as cosines, its scale and its noise."""

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
    """Yield, for each frequency of a half spectrum, the window with this frequency only."""
    time = np.meshgrid(*(np.arange(n) for n in window), indexing="ij")
    *others, last = window
    for frequency in itertools.product(*map(range, others), range(last // 2 + 1)):
        angle = sum(
            2 * math.pi * f * t / n for f, t, n in zip(frequency, time, window, strict=True)
        )
        # A real transform leaves out the mirrored frequencies, except the first and the last one
        # of an even axis, which are their own mirrors.
        twice = 0 < 2 * frequency[-1] < last
        yield (2 if twice else 1) * np.cos(angle) / math.prod(window)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_channels_are_the_waves_of_their_spectra(window, monkeypatch):
    monkeypatch.setattr(
        convolution,
        "orthonormal_columns",
        lambda draws: np.broadcast_to(np.eye(draws.shape[-1]), draws.shape),
    )
    each = list(waves(window))
    # The last two of these channels come from a second orthogonal matrix.
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


def test_windows_are_symmetric_without_noise():
    def asymmetry(noise):
        kernel = numpy(keras_winit.ConvolutionAware(noise=noise, seed=0)((5, 4, 3, 6)))
        other = np.roll(kernel[::-1, ::-1], (1, 1), (0, 1))
        return np.abs(kernel - other).max() / np.abs(kernel).max()

    assert asymmetry(0.0) < 1e-6
    assert asymmetry(0.05) > 0.1


def test_noise_and_single_entries_are_normal():
    loud = numpy(keras_winit.ConvolutionAware(noise=1e6, seed=0)((3, 3, 64, 128)))
    assert deviations(loud, normal(math.sqrt(2 / 576))) == []
    single = numpy(keras_winit.ConvolutionAware(noise=0.0, seed=0)((1, 1, 256, 384)))
    assert deviations(single, normal(math.sqrt(2 / 256))) == []


def test_noise_is_independent_of_the_spectra():
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
    # The mean square of all weights is exact. An input serves nine outputs of a filter, so only
    # a ninth of the outputs counts as independent.
    assert abs((outputs**2).mean() / 2 - 1) < 5 * math.sqrt(2 * 9 / (outputs[..., 0].size * 64))
