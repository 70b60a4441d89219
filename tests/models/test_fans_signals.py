"""Tests that a kernel with variance 1 / fan keeps signals and gradients at variance 1.

Each layer is drawn `DRAWS` times with `for_layer`; the mean over the draws must lie within
`T_LIMIT` of its standard errors from the exact value, at the level of `support.laws`.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from scipy import stats
from support.laws import LEVEL, numpy

import keras_winit
from keras_winit import for_layer

L = keras.layers
BACKEND = keras.backend.backend()
DRAWS = 16
T_LIMIT = stats.t.ppf(1 - LEVEL / 2, DRAWS - 1)


@dataclass(frozen=True)
class Case:
    """A layer, the shape of its inputs, and the window and strides of its convolution."""

    make: Any
    inputs: tuple[int, ...]
    attribute: str = "kernel_initializer"
    window: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    transposed: bool = False


def conv(make, inputs, window, strides, attribute="kernel_initializer", **options):
    return Case(make, inputs, attribute=attribute, window=window, strides=strides, **options)


def transposed(make, inputs, window, strides):
    return conv(make, inputs, window, strides, transposed=True)


no_bias = {"use_bias": False}
CASES = {
    "dense": Case(lambda: L.Dense(48, **no_bias), (64, 96)),
    "conv1d": conv(lambda: L.Conv1D(24, 5, **no_bias), (4, 20, 16), (5,), (1,)),
    "conv1d dilated": conv(
        lambda: L.Conv1D(24, 3, dilation_rate=2, **no_bias), (4, 30, 16), (5,), (1,)
    ),
    "conv2d": conv(lambda: L.Conv2D(48, 3, **no_bias), (4, 12, 12, 16), (3, 3), (1, 1)),
    "conv2d strided": conv(
        lambda: L.Conv2D(48, (4, 3), (2, 3), **no_bias), (4, 22, 30, 16), (4, 3), (2, 3)
    ),
    "conv2d grouped": conv(
        lambda: L.Conv2D(48, 3, groups=4, **no_bias), (4, 12, 12, 16), (3, 3), (1, 1)
    ),
    "conv3d": conv(lambda: L.Conv3D(16, 2, **no_bias), (2, 7, 7, 7, 12), (2,) * 3, (1,) * 3),
    "depthwise 1d": conv(
        lambda: L.DepthwiseConv1D(5, 2, depth_multiplier=3, **no_bias),
        (4, 40, 32),
        (5,),
        (2,),
        "depthwise_initializer",
    ),
    "depthwise 2d": conv(
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2, **no_bias),
        (4, 12, 12, 48),
        (3, 3),
        (1, 1),
        "depthwise_initializer",
    ),
    "transposed 1d": transposed(
        lambda: L.Conv1DTranspose(20, 5, **no_bias), (4, 20, 40), (5,), (1,)
    ),
    "transposed 2d k4s2": transposed(
        lambda: L.Conv2DTranspose(32, 4, 2, **no_bias), (4, 8, 8, 16), (4, 4), (2, 2)
    ),
    "transposed 2d k3s2": transposed(
        lambda: L.Conv2DTranspose(64, 3, 2, **no_bias), (4, 9, 9, 16), (3, 3), (2, 2)
    ),
    "transposed 2d k3s1": transposed(
        lambda: L.Conv2DTranspose(16, 3, **no_bias), (4, 9, 9, 40), (3, 3), (1, 1)
    ),
    "transposed 3d": transposed(
        lambda: L.Conv3DTranspose(8, 2, **no_bias), (2, 6, 6, 6, 24), (2,) * 3, (1,) * 3
    ),
    "einsum": Case(lambda: L.EinsumDense("abc,cde->abde", (6, 8, 12)), (8, 6, 64)),
    "einsum two inputs": Case(lambda: L.EinsumDense("abcd,cde->abe", (6, 96)), (8, 6, 8, 12)),
    "einsum experts": Case(lambda: L.EinsumDense("bgi,gio->bgo", (16, 32)), (16, 16, 64)),
    "time distributed": Case(lambda: L.TimeDistributed(L.Dense(48, **no_bias)), (16, 4, 96)),
}


def interior_slice(size, stride, count):
    """Return the positions on one axis that no window is missing from.

    `count` windows of `size` positions start `stride` positions apart; near the border fewer
    of them overlap. The slice is a whole number of strides long, because the number of
    windows over a position also depends on its place within a stride.
    """
    start, stop = size - 1, stride * (count - 1) + 1
    return slice(start, stop - (stop - start) % stride)


def interior(values, window, strides, counts):
    axes = [interior_slice(*axis) for axis in zip(window, strides, counts, strict=True)]
    return values[(slice(None), *axes)]


def gradient(layer, inputs, cotangent):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) * cotangent)
        return tape.gradient(loss, x)
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda x: (layer(x) * cotangent).sum())(inputs)
    import torch

    x = torch.tensor(inputs, requires_grad=True)
    (layer(x) * torch.tensor(cotangent)).sum().backward()
    return x.grad


def bound(case, scheme):
    layer = case.make()
    target = layer.layer if isinstance(layer, L.TimeDistributed) else layer
    setattr(target, case.attribute, for_layer(scheme, layer))
    return layer


def normal(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def mean_square(values):
    return float((numpy(values).astype(np.float64) ** 2).mean())


def forward(case, layer, seed):
    outputs = numpy(layer(normal(seed, case.inputs)))
    if case.transposed:
        outputs = interior(outputs, case.window, case.strides, case.inputs[1:-1])
    return mean_square(outputs)


def backward(case, layer, seed):
    inputs = normal(seed, case.inputs)
    outputs = tuple(layer(inputs).shape)
    gradients = numpy(gradient(layer, inputs, normal(seed + 1, outputs)))
    if case.window and not case.transposed:
        gradients = interior(gradients, case.window, case.strides, outputs[1:-1])
    return mean_square(gradients)


def t_score(measure, make_layer, target=1.0):
    """Return the distance of the mean of all draws from the target, in standard errors."""
    values = []
    for draw in range(DRAWS):
        keras.utils.set_random_seed(draw)
        values.append(measure(make_layer(), 100 * draw))
    return (np.mean(values) - target) * math.sqrt(DRAWS) / np.std(values, ddof=1)


@pytest.mark.parametrize("name", CASES)
def test_outputs_have_variance_gain_squared(name):
    case = CASES[name]
    measure = functools.partial(forward, case)
    assert abs(t_score(measure, lambda: bound(case, "winit>lecun_normal"))) < T_LIMIT
    assert abs(t_score(measure, lambda: bound(case, keras_winit.HeUniform()), 2.0)) < T_LIMIT


@pytest.mark.parametrize("name", CASES)
def test_gradients_have_variance_gain_squared(name):
    if BACKEND == "tensorflow" and name == "conv2d grouped":
        pytest.skip("TensorFlow has no gradient of a grouped convolution on a CPU")
    case = CASES[name]
    measure = functools.partial(backward, case)
    assert (
        abs(t_score(measure, lambda: bound(case, keras_winit.HeNormal(mode="fan_out")), 2))
        < T_LIMIT
    )


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("depthwise 1d", "lecun_normal"),
        ("depthwise 2d", "lecun_normal"),
        ("transposed 2d k4s2", "lecun_normal"),
        ("transposed 2d k3s1", "lecun_normal"),
        ("transposed 3d", "winit>lecun_normal"),
    ],
)
def test_fans_from_the_shape_alone_fail_the_check(name, scheme):
    case = CASES[name]

    def unbound():
        layer = case.make()
        setattr(layer, case.attribute, keras.initializers.get(scheme))
        return layer

    assert abs(t_score(functools.partial(forward, case), unbound)) > 2 * T_LIMIT


class RecordingTanh:
    """A tanh that keeps its inputs, the pre-activations of gates."""

    def __init__(self):
        self.inputs = []

    def __call__(self, x):
        self.inputs.append(x)
        return keras.ops.tanh(x)


CELLS = {"simple": L.SimpleRNNCell, "lstm": L.LSTMCell, "gru": L.GRUCell}
ATTRIBUTES = {"kernel": "kernel_initializer", "recurrent_kernel": "recurrent_initializer"}


@pytest.mark.parametrize("weight", ATTRIBUTES)
@pytest.mark.parametrize("kind", CELLS)
def test_gates_of_cells_get_the_variance_of_one_gate(kind, weight):
    def layer():
        cell = CELLS[kind](24, use_bias=False)
        for name, attribute in ATTRIBUTES.items():
            scheme = "winit>xavier_normal" if name == weight else "winit>zeros"
            setattr(cell, attribute, for_layer(scheme, cell))
        return cell

    def measure(cell, seed):
        cell.activation, cell.recurrent_activation = RecordingTanh(), RecordingTanh()
        state = normal(seed + 1, (64, 24))
        cell(normal(seed, (64, 40)), [state, state] if kind == "lstm" else [state])
        gates = cell.recurrent_activation.inputs
        # The reset gate of a GRU scales the state that its candidate takes.
        if (kind, weight) != ("gru", "recurrent_kernel"):
            gates = [cell.activation.inputs[0], *gates]
        return np.mean([mean_square(gate) for gate in gates])

    # Xavier: variance 2 / (fan_in + fan_out), with the fan_out of one gate.
    fan_in = 40 if weight == "kernel" else 24
    assert abs(t_score(measure, layer, 2 * fan_in / (fan_in + 24))) < T_LIMIT


ATTENTION = {
    "multi-head": lambda **options: L.MultiHeadAttention(4, 12, 16, use_bias=False, **options),
    "grouped": lambda **options: L.GroupQueryAttention(16, 4, 2, use_bias=False, **options),
}


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("projection", ["query", "key", "value", "output"])
def test_attention_projections_keep_the_variance(kind, projection):
    def layer():
        attention = ATTENTION[kind](kernel_initializer="winit>lecun_normal")
        attention.build((2, 5, 64), (2, 5, 64))
        return getattr(attention, f"_{projection}_dense")

    def measure(dense, seed):
        heads = tuple(dense.kernel.shape[:-1]) if projection == "output" else (64,)
        return mean_square(dense(normal(seed, (4, 8, *heads))))

    assert abs(t_score(measure, layer)) < T_LIMIT


def test_embedding_rows_have_variance_one_and_tied_heads_keep_gradients():
    layer = L.Embedding(300, 64)
    layer.embeddings_initializer = for_layer("winit>lecun_normal", layer)
    layer.build()
    weights = numpy(layer.embeddings)
    assert abs((weights**2).mean() - 1) < 5 * math.sqrt(2 / weights.size)
    head = for_layer(keras_winit.HeNormal(mode="fan_out", seed=0), layer)
    rows = numpy(head((300, 64)))
    assert abs((rows**2).mean() * 64 / 2 - 1) < 5 * math.sqrt(2 / rows.size)


def test_separable_layers_keep_the_variance():
    def layer():
        made = L.SeparableConv2D(48, 3, strides=2, depth_multiplier=2, use_bias=False)
        for kernel in ("depthwise", "pointwise"):
            scheme = for_layer("winit>lecun_normal", made, f"{kernel}_kernel")
            setattr(made, f"{kernel}_initializer", scheme)
        return made

    def measure(layer, seed):
        return mean_square(layer(normal(seed, (4, 13, 13, 48))))

    assert abs(t_score(measure, layer)) < T_LIMIT


@pytest.mark.parametrize("kind", [L.ConvLSTM1D, L.ConvLSTM2D])
def test_gates_of_convolutional_lstms_get_the_variance_of_one_gate(kind):
    rank = 1 if kind is L.ConvLSTM1D else 2

    def layer():
        made = kind(12, 3, use_bias=False, recurrent_initializer="zeros")
        made.cell.kernel_initializer = for_layer("winit>xavier_normal", made)
        made.build((None, 4, *(8,) * rank, 16))
        return made.cell

    def measure(cell, seed):
        cell.activation, cell.recurrent_activation = RecordingTanh(), RecordingTanh()
        state = np.zeros((8, *(6,) * rank, 12), np.float32)
        cell(normal(seed, (8, *(8,) * rank, 16)), [state, state])
        gates = [cell.activation.inputs[0], *cell.recurrent_activation.inputs]
        return np.mean([mean_square(gate) for gate in gates])

    # Xavier with the fan_out of one gate: 2 * 16 / (16 + 12).
    assert abs(t_score(measure, layer, 32 / 28)) < T_LIMIT
