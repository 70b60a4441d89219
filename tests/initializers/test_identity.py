"""Identity and Hadamard schemes: real layers that return their input exactly."""

import json

import keras
import numpy as np
import pytest
import scipy.stats
from support.laws import numpy

import keras_winit
from keras_winit.initializers.placement import whole

layers = keras.layers
CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
TRANSPOSED = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}


def signal(*shape):
    """Return whole numbers, which float32 adds and multiplies exactly."""
    return np.random.default_rng(0).integers(-99, 99, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (1, 4)], ids=str)
def test_identity_of_a_matrix(shape):
    np.testing.assert_array_equal(numpy(keras_winit.Identity()(shape)), np.eye(*shape))
    np.testing.assert_array_equal(numpy(keras_winit.Identity(-0.5)(shape)), -0.5 * np.eye(*shape))


# Expected kernels: the first has an axis that is neither input nor output between its output axes,
# the second has its output axis before its input axis.
BETWEEN = np.stack([np.eye(4).reshape(4, 2, 2)] * 3, axis=2)
OUTPUT_FIRST = np.stack([np.eye(3, 5)] * 4, axis=1)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((8, 2, 4), {"input_axes": [0]}, np.eye(8).reshape(8, 2, 4)),
        ((2, 4, 8), {"output_axes": [-1]}, np.eye(8).reshape(2, 4, 8)),
        ((4, 2, 3, 2), {"input_axes": [0], "output_axes": [1, 3]}, BETWEEN),
        ((3, 4, 5), {"input_axes": [1], "output_axes": [2]}, np.stack([np.eye(4, 5)] * 3)),
        ((3, 4, 5), {"input_axes": [2], "output_axes": [0]}, OUTPUT_FIRST),
    ],
    ids=str,
)
def test_identity_with_axes(shape, axes, expected):
    kernel = numpy(keras_winit.Identity(**axes)(shape))
    np.testing.assert_array_equal(kernel, expected)


def test_identity_in_einsum_and_attention():
    inputs = signal(2, 5, 12)
    for equation, out in (("abc,cd->abd", (5, 12)), ("abc,cde->abde", (5, 3, 4))):
        layer = layers.EinsumDense(equation, out, kernel_initializer="winit>identity")
        np.testing.assert_array_equal(numpy(layer(inputs)), inputs.reshape(2, *out))
        assert layer.kernel_initializer.input_axes is None
    back = layers.EinsumDense("abcd,cde->abe", (5, 12), kernel_initializer="winit>identity")
    np.testing.assert_array_equal(numpy(back(inputs.reshape(2, 5, 3, 4))), inputs)
    # The softmax of equal logits averages the values, and all projections are identities.
    attention = layers.MultiHeadAttention(3, 4, kernel_initializer="winit>identity")
    same = np.repeat(inputs[:, :1], 5, axis=1)
    np.testing.assert_allclose(numpy(attention(same, same)), same, rtol=1e-5)


def test_identity_in_dense_and_in_windows():
    layer = layers.Dense(12, kernel_initializer="winit>identity")
    np.testing.assert_array_equal(numpy(layer(signal(3, 12))), signal(3, 12))
    for shape in ((3, 4, 4), (2, 5, 3, 4), (4, 3, 3, 5, 5)):
        np.testing.assert_array_equal(
            numpy(keras_winit.Identity()(shape)), numpy(keras_winit.Dirac()(shape))
        )


WINDOWS = [(1,), (2,), (3,), (4,), (3, 2), (4, 5), (2, 3, 4)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_dirac_returns_its_input(window, groups):
    inputs = signal(2, *(7, 6, 5)[: len(window)], 4)
    layer = CONVOLUTIONS[len(window)](
        4,
        window,
        padding="same",
        groups=groups,
        kernel_initializer=keras_winit.Dirac(groups=groups),
    )
    np.testing.assert_array_equal(numpy(layer(inputs)), inputs)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_dirac_in_a_transposed_convolution(window):
    inputs = signal(2, *(7, 6, 5)[: len(window)], 4)
    layer = TRANSPOSED[len(window)](4, window, padding="same", kernel_initializer="winit>dirac")
    np.testing.assert_array_equal(numpy(layer(inputs)), inputs)


def test_the_tap_of_pytorch_would_shift_the_input():
    kernel = np.zeros((2, 4, 4), np.float32)
    kernel[1] = np.eye(4)
    layer = layers.Conv1D(4, 2, padding="same", use_bias=False)
    layer.build((2, 7, 4))
    layer.set_weights([kernel])
    outputs = numpy(layer(signal(2, 7, 4)))
    np.testing.assert_array_equal(outputs[:, :-1], signal(2, 7, 4)[:, 1:])
    assert not np.array_equal(outputs, signal(2, 7, 4))


def test_dirac_with_more_or_fewer_filters():
    inputs = signal(2, 9, 6)
    # Each of three groups has two channels and four filters, two of which are surplus.
    wide = layers.Conv1D(
        12, 3, padding="same", groups=3, kernel_initializer=keras_winit.Dirac(3, gain=2.0)
    )
    expected = np.zeros((2, 9, 3, 4), np.float32)
    expected[..., :2] = 2 * inputs.reshape(2, 9, 3, 2)
    np.testing.assert_array_equal(numpy(wide(inputs)).reshape(2, 9, 3, 4), expected)
    narrow = layers.Conv1D(4, 3, padding="same", kernel_initializer="winit>dirac")
    np.testing.assert_array_equal(numpy(narrow(inputs)), inputs[..., :4])


def test_irnn_remembers():
    layer = layers.SimpleRNN(
        6, "relu", kernel_initializer="zeros", recurrent_initializer="winit>irnn"
    )
    state = np.abs(signal(3, 6))
    outputs = layer(signal(3, 50, 4), initial_state=keras.ops.convert_to_tensor(state))
    np.testing.assert_array_equal(numpy(outputs), state)
    halved = numpy(keras_winit.Irnn(0.5)((6, 6)))
    np.testing.assert_array_equal(halved, np.eye(6) / 2)


def sylvester(size):
    """Return Sylvester's Hadamard matrix, by doubling from [[1]]."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@pytest.mark.parametrize(("rows", "columns"), [(3, 16), (16, 32), (5, 6), (1, 9), (31, 33)])
def test_hadamard_if_a_layer_widens(rows, columns):
    kernel = numpy(keras_winit.Hadamard()((rows, columns))).astype(np.float64)
    expected = sylvester(64)[:rows, :columns] / columns**0.5
    np.testing.assert_allclose(kernel, expected, rtol=2**-23)
    np.testing.assert_allclose((kernel**2).sum(1), 1, rtol=1e-6)
    assert np.linalg.matrix_rank(kernel) == rows
    if columns in (16, 32):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(rows), atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (16, 16), (9, 4)], ids=str)
def test_hadamard_if_a_layer_does_not_widen(shape):
    np.testing.assert_array_equal(numpy(keras_winit.Hadamard(3.0)(shape)), 3 * np.eye(*shape))


def test_hadamard_with_the_constant_of_the_paper():
    # The constant is c = 2**(-(m - 1) / 2) with m = ceil(log2(out)); for out = 24, m is 5.
    kernel = numpy(keras_winit.Hadamard(gain=(2 * 24 / 32) ** 0.5)((10, 24)))
    np.testing.assert_allclose(np.abs(kernel), 2 ** (-(5 - 1) / 2), rtol=1e-6)


def test_hadamard_at_the_tap_and_with_axes():
    kernel = numpy(keras_winit.Hadamard()((4, 3, 4, 8)))
    matrix = sylvester(8)[:4] / 8**0.5
    np.testing.assert_allclose(kernel[1, 1], matrix, rtol=2**-23)
    assert np.count_nonzero(kernel) == matrix.size
    kernel = numpy(keras_winit.Hadamard(input_axes=[0], output_axes=[1, 2])((4, 2, 4)))
    np.testing.assert_allclose(kernel.reshape(4, 8), matrix, rtol=2**-23)


def repeated(rows, columns):
    """Return the matrix D of the paper: a one at input i and output j if i = j mod rows."""
    return np.array([[float(i == j % rows) for j in range(columns)] for i in range(rows)])


@pytest.mark.parametrize("shape", [(60, 60), (40, 90), (90, 40)], ids=str)
@pytest.mark.parametrize("arguments", [{}, {"gain": -0.1, "noise": 0.5}], ids=str)
def test_noisy_identity_of_a_matrix(shape, arguments):
    gain, noise = arguments.get("gain", 1.0), arguments.get("noise", 0.085)
    kernel = numpy(keras_winit.NoisyIdentity(seed=3, **arguments)(shape)).astype(np.float64)
    left = (kernel - gain * repeated(*shape)) / (abs(gain) * noise / shape[0] ** 0.5)
    assert scipy.stats.kstest(left.ravel(), "norm").pvalue > 1e-4
    copied = left[repeated(*shape) == 1]
    assert scipy.stats.kstest(copied, "norm").pvalue > 1e-4


def test_noisy_identity_without_noise_in_every_layer():
    silent = keras_winit.NoisyIdentity(noise=0.0)
    plain = keras_winit.Identity()
    cases = (
        (lambda scheme: layers.Dense(5, kernel_initializer=scheme), (2, 7)),
        (lambda scheme: layers.Conv2D(6, 3, groups=2, kernel_initializer=scheme), (2, 5, 5, 8)),
        (lambda scheme: layers.DepthwiseConv1D(3, depthwise_initializer=scheme), (2, 6, 4)),
        (lambda scheme: layers.Conv1DTranspose(4, 3, kernel_initializer=scheme), (2, 6, 4)),
        (
            lambda scheme: layers.LSTM(3, kernel_initializer=scheme, recurrent_initializer="zeros"),
            (2, 6, 4),
        ),
        (lambda scheme: layers.MultiHeadAttention(2, 4, kernel_initializer=scheme), None),
    )
    for make, shape in cases:
        pair = make(silent), make(plain)
        for layer in pair:
            layer.build(*((2, 3, 8), (2, 3, 8)) if shape is None else (shape,))
        for ours, expected in zip(*(layer.get_weights() for layer in pair), strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_noise_at_all_taps_has_the_fan_of_the_layer():
    layer = layers.Conv2D(
        60, 3, groups=2, kernel_initializer=keras_winit.NoisyIdentity(noise=1.0, seed=0)
    )
    layer.build((None, 8, 8, 60))
    kernel = numpy(layer.kernel).astype(np.float64)
    kernel[1, 1] -= np.tile(np.eye(30), 2)
    # The fan_in is 270: nine taps of the 30 channels of a group.
    assert scipy.stats.kstest(kernel.ravel() * 270**0.5, "norm").pvalue > 1e-4


def test_noisy_identity_rounds_once():
    scheme = keras_winit.NoisyIdentity(noise=1.0, seed=1)
    wide = numpy(scheme((20, 20), "float32"))
    np.testing.assert_array_equal(numpy(scheme((20, 20), "float16")), wide.astype(np.float16))


@pytest.mark.parametrize("name", ["Identity", "Hadamard"])
def test_from_config_ignores_the_seed_that_einsum_dense_adds(name):
    cls = getattr(keras_winit, name)
    scheme = cls(2.0)
    assert scheme.seed is None
    twin = cls.from_config({**scheme.get_config(), "seed": None, "input_axes": [0]})
    assert (twin.gain, twin.input_axes) == (2.0, (0,))
    assert "seed" not in json.dumps(twin.get_config())


@pytest.mark.parametrize(
    ("scheme", "shape"),
    [
        (keras_winit.Identity(input_axes=[1], output_axes=[3, 0]), (2, 5, 3, 4)),
        (keras_winit.Hadamard(input_axes=[1], output_axes=[3, 0]), (2, 5, 3, 4)),
        (keras_winit.Dirac(groups=3), (3, 2, 4, 6)),
        (keras_winit.Hadamard(), (3, 3, 3, 7)),
        (keras_winit.NoisyIdentity(seed=1), (3, 3, 3, 7)),
    ],
    ids=lambda v: str(v)[:20],
)
def test_a_part_drawn_alone_equals_that_part_of_the_whole(scheme, shape):
    draw = scheme.plan(shape, "float32")
    complete = draw(whole(shape))
    generator = np.random.default_rng(1)
    for _ in range(30):
        ends = [sorted(generator.integers(0, size + 1, 2).tolist()) for size in shape]
        part = tuple(slice(*pair) for pair in ends)
        np.testing.assert_array_equal(draw(part), complete[part])
