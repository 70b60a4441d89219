"""Orthogonal schemes: orthonormality up to rounding, and the moments of the distribution."""

import math

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy

import keras_winit
from keras_winit import for_layer
from keras_winit.initializers.placement import whole

L = keras.layers
EPS = float(np.finfo(np.float32).eps)


def deviation(matrix, scale=1.0):
    """Return how far the rows or columns, whichever are fewer, are from orthonormal, in EPS."""
    exact = np.asarray(matrix, np.float64) / scale
    gram = exact.T @ exact if exact.shape[0] >= exact.shape[1] else exact @ exact.T
    return np.abs(gram - np.eye(len(gram))).max() / EPS


@pytest.mark.parametrize("shape", [(64, 64), (200, 30), (30, 200), (1, 7), (7, 1), (300, 260)])
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_matrix(shape, gain):
    assert deviation(numpy(keras_winit.Orthogonal(gain, seed=0)(shape)), gain) < 10


def test_the_window_counts_as_inputs():
    kernel = numpy(keras_winit.Orthogonal(seed=0)((3, 5, 4, 20)))
    assert deviation(kernel.reshape(60, 20)) < 10
    transposed = numpy(keras_winit.Orthogonal(seed=0, kind="transposed")((3, 5, 20, 4)))
    assert deviation(transposed.transpose(0, 1, 3, 2).reshape(60, 20)) < 10


def test_each_gate_group_expert_and_channel_is_a_matrix():
    lstm = numpy(keras_winit.Orthogonal(seed=0, gates=4)((24, 96)))
    gates = lstm.reshape(24, 4, 24)
    assert max(deviation(gates[:, gate]) for gate in range(4)) < 10
    assert deviation(lstm) < 10 * 4 or np.abs(lstm @ lstm.T - 4 * np.eye(24)).max() < 1e-5
    grouped = numpy(keras_winit.Orthogonal(seed=0, groups=3)((2, 2, 8, 30)))
    assert max(deviation(grouped.reshape(32, 3, 10)[:, group]) for group in range(3)) < 10
    both = numpy(keras_winit.Orthogonal(seed=0, groups=2, gates=3)((8, 48)))
    assert max(deviation(both.reshape(8, 6, 8)[:, block]) for block in range(6)) < 10
    experts = numpy(keras_winit.Orthogonal(seed=0, input_axes=(1,), output_axes=(2,))((6, 16, 9)))
    assert max(deviation(expert) for expert in experts) < 10
    depthwise = numpy(keras_winit.Orthogonal(seed=0, kind="depthwise")((3, 3, 16, 2)))
    assert max(deviation(depthwise[:, :, c].reshape(9, 2)) for c in range(16)) < 10
    # No matrix equals another one or its negative.
    for blocks in (gates.transpose(1, 0, 2), experts, depthwise.transpose(2, 0, 1, 3)):
        assert len(np.unique(np.abs(blocks.reshape(len(blocks), -1)), axis=0)) == len(blocks)


@pytest.mark.parametrize("scheme", ["Orthogonal", "DeltaOrthogonal", "ScaledOrthogonal"])
def test_a_generator_advances_when_the_plan_is_made(scheme):
    generator = keras.random.SeedGenerator(1)
    draw = getattr(keras_winit, scheme)(seed=generator).plan((4, 4), "float32")
    assert numpy(generator.state).tolist() == [1, 1]
    # A compiled function may draw again, and must get the same values.
    np.testing.assert_array_equal(draw(whole((4, 4))), draw(whole((4, 4))))
    assert numpy(generator.state).tolist() == [1, 1]


def test_attention_heads():
    layer = L.MultiHeadAttention(4, 8, kernel_initializer="winit>orthogonal")
    layer.build((2, 5, 32), (2, 5, 32))
    assert deviation(numpy(layer.query_dense.kernel).reshape(32, 32)) < 10
    assert deviation(numpy(layer.output_dense.kernel).reshape(32, 32)) < 10


def test_the_orthogonal_scheme_of_keras_fails_in_attention():
    layer = L.MultiHeadAttention(4, 8, kernel_initializer="orthogonal")
    layer.build((2, 5, 32), (2, 5, 32))
    assert deviation(numpy(layer.query_dense.kernel).reshape(32, 32)) > 1e5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda **o: L.LSTM(8, **o), (2, 3, 5)),
        (lambda **o: L.GRU(8, **o), (2, 3, 5)),
        (lambda **o: L.SimpleRNN(8, **o), (2, 3, 5)),
        (lambda **o: L.ConvLSTM2D(4, 3, **o), (2, 3, 8, 8, 5)),
    ],
)
def test_low_precision_recurrent_layers_build(make, shape, dtype):
    layer = make(recurrent_initializer="winit>orthogonal", dtype=dtype)
    layer.build(shape)
    kernel = numpy(keras.ops.cast(layer.cell.recurrent_kernel, "float32"))
    rounding = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    assert deviation(kernel.reshape(-1, kernel.shape[-1])) * EPS < 4 * rounding


def test_float64_is_orthogonal_to_its_own_precision():
    kernel = numpy(keras_winit.Orthogonal(seed=0)((80, 50), "float64"))
    if kernel.dtype == np.float64:
        assert np.abs(kernel.T @ kernel - np.eye(50)).max() < 50 * np.finfo(np.float64).eps


def test_entries_of_uniform_matrices():
    # The trace of a uniform orthogonal matrix has mean 0 and variance 1 exactly, and so has the
    # trace of its transpose times another one.
    n, draws = 24, 4000
    stream = keras_winit.Orthogonal(seed=1, input_axes=(1,), output_axes=(2,))
    matrices = numpy(stream((draws, n, n))).astype(np.float64)
    for values in (
        np.trace(matrices, axis1=1, axis2=2),
        np.einsum("aij,aij->a", matrices[1:], matrices[:-1]),
    ):
        assert abs(values.mean()) < 5 / math.sqrt(draws)
        assert abs((values**2).mean() - 1) < 5 * math.sqrt(2 / draws)
    # E[q_ij**4] = 3 / (n (n + 2)) for every entry. Its error follows from sqrt(n) times an entry
    # being nearly normal: E[z**8] = 105, E[z**4] = 3.
    fourth = (matrices**4).mean(axis=0) * n * (n + 2) / 3
    spread = math.sqrt((35 / 3 - 1) / draws)
    assert np.abs(fourth - 1).max() < 6.5 * spread
    # Both signs of the determinant occur equally often.
    signs = np.sign(np.linalg.det(matrices))
    assert abs(signs.sum()) < 5 * math.sqrt(draws)


def test_matrices_of_several_panels():
    kernel = numpy(keras_winit.Orthogonal(seed=2)((400, 300)))
    assert deviations(kernel[:, ::7].ravel()[::11] * 20, normal(1.0)) == []
    mean = kernel.mean(axis=0) * math.sqrt(400) * math.sqrt(400)
    assert abs((mean**2).mean() - 1) < 5 * math.sqrt(2 / 300)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4])
def test_delta_keeps_norms_through_200_layers(rank, size):
    kind = {1: L.Conv1D, 2: L.Conv2D, 3: L.Conv3D}[rank]
    x = np.random.default_rng(0).standard_normal((2, *(4,) * rank, 8), np.float32)
    signal = keras.ops.convert_to_tensor(x)
    for number in range(200):
        scheme = keras_winit.DeltaOrthogonal(seed=number)
        signal = kind(8, size, padding="same", use_bias=False, kernel_initializer=scheme)(signal)
    assert abs(np.linalg.norm(numpy(signal)) / np.linalg.norm(x) - 1) < 1e-4


def test_delta_of_groups_and_transposed_kernels():
    layer = L.Conv2DTranspose(12, 3, padding="same", use_bias=False)
    layer.kernel_initializer = for_layer("winit>delta_orthogonal", layer)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 8), np.float32)
    y = numpy(layer(x))
    assert abs(np.linalg.norm(y) / np.linalg.norm(x) - 1) < 1e-5
    kernel = numpy(keras_winit.DeltaOrthogonal(seed=0, groups=2)((3, 4, 8)))
    assert not kernel[[0, 2]].any()
    assert max(deviation(kernel[1].reshape(4, 2, 4)[:, group]) for group in range(2)) < 10


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (3, 3, 16, 64), (3, 3, 64, 16)])
def test_scaled_orthogonal(shape):
    kernel = numpy(keras_winit.ScaledOrthogonal(seed=0)(shape))
    center = kernel[tuple(1 for _ in shape[:-2])]
    factor = math.sqrt(max(shape[-1] / shape[-2], 1))
    assert deviation(center, factor) < 10
    assert np.count_nonzero(kernel) == center.size


def test_gain_of_a_nonlinearity():
    without_gain = numpy(keras_winit.Orthogonal(seed=0)((20, 30)))
    with_gain = numpy(keras_winit.Orthogonal(seed=0, nonlinearity="relu")((20, 30)))
    np.testing.assert_allclose(with_gain, math.sqrt(2) * without_gain, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda q: q * 1.001,
        lambda q: np.concatenate([q[:, :1], q[:, :-1]], axis=1),
        lambda q: q + 1e-4,
    ],
)
def test_matrices_that_are_not_orthogonal_are_found(wrong):
    assert deviation(wrong(numpy(keras_winit.Orthogonal(seed=0)((64, 64))))) > 100
