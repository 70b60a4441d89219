"""True fans: unit inputs give unit outputs, unit gradients come back as such, in real layers."""

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from laws import LEVEL, numpy
from scipy import stats

import keras_winit
from keras_winit import fans, for_layer, theory

L = keras.layers
BACKEND = keras.backend.backend()
DRAWS = 16
REACH = stats.t.ppf(1 - LEVEL / 2, DRAWS - 1)


@dataclass(frozen=True)
class Case:
    """A layer, what goes into it, and how its window moves."""

    make: Any
    inputs: tuple[int, ...]
    weight: str = "kernel"
    attribute: str = "kernel_initializer"
    window: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    transposed: bool = False


def conv(make, inputs, window, strides, attribute="kernel_initializer", **options):
    return Case(make, inputs, attribute=attribute, window=window, strides=strides, **options)


def transposed(make, inputs, window, strides):
    return conv(make, inputs, window, strides, transposed=True)


plain = {"use_bias": False}
CASES = {
    "dense": Case(lambda: L.Dense(48, **plain), (64, 96)),
    "conv1d": conv(lambda: L.Conv1D(24, 5, **plain), (4, 20, 16), (5,), (1,)),
    "conv1d dilated": conv(
        lambda: L.Conv1D(24, 3, dilation_rate=2, **plain), (4, 30, 16), (5,), (1,)
    ),
    "conv2d": conv(lambda: L.Conv2D(48, 3, **plain), (4, 12, 12, 16), (3, 3), (1, 1)),
    "conv2d strided": conv(
        lambda: L.Conv2D(48, (4, 3), (2, 3), **plain), (4, 22, 30, 16), (4, 3), (2, 3)
    ),
    "conv2d grouped": conv(
        lambda: L.Conv2D(48, 3, groups=4, **plain), (4, 12, 12, 16), (3, 3), (1, 1)
    ),
    "conv3d": conv(lambda: L.Conv3D(16, 2, **plain), (2, 7, 7, 7, 12), (2,) * 3, (1,) * 3),
    "depthwise 1d": conv(
        lambda: L.DepthwiseConv1D(5, 2, depth_multiplier=3, **plain),
        (4, 40, 32),
        (5,),
        (2,),
        "depthwise_initializer",
    ),
    "depthwise 2d": conv(
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2, **plain),
        (4, 12, 12, 48),
        (3, 3),
        (1, 1),
        "depthwise_initializer",
    ),
    "transposed 1d": transposed(lambda: L.Conv1DTranspose(20, 5, **plain), (4, 20, 40), (5,), (1,)),
    "transposed 2d k4s2": transposed(
        lambda: L.Conv2DTranspose(32, 4, 2, **plain), (4, 8, 8, 16), (4, 4), (2, 2)
    ),
    "transposed 2d k3s2": transposed(
        lambda: L.Conv2DTranspose(64, 3, 2, **plain), (4, 9, 9, 16), (3, 3), (2, 2)
    ),
    "transposed 2d k3s1": transposed(
        lambda: L.Conv2DTranspose(16, 3, **plain), (4, 9, 9, 40), (3, 3), (1, 1)
    ),
    "transposed 3d": transposed(
        lambda: L.Conv3DTranspose(8, 2, **plain), (2, 6, 6, 6, 24), (2,) * 3, (1,) * 3
    ),
    "einsum": Case(lambda: L.EinsumDense("abc,cde->abde", (6, 8, 12)), (8, 6, 64)),
    "einsum two inputs": Case(lambda: L.EinsumDense("abcd,cde->abe", (6, 96)), (8, 6, 8, 12)),
    "einsum experts": Case(lambda: L.EinsumDense("bgi,gio->bgo", (16, 32)), (16, 16, 64)),
    "time distributed": Case(lambda: L.TimeDistributed(L.Dense(48, **plain)), (16, 4, 96)),
}


def interior(k, s, n):
    """Where n places of a window of size k, s apart, all overlap that ever do."""
    start, stop = k - 1, s * (n - 1) + 1
    return slice(start, stop - (stop - start) % s)


def inner(values, window, strides, places):
    axes = [interior(*each) for each in zip(window, strides, places, strict=True)]
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
        outputs = inner(outputs, case.window, case.strides, case.inputs[1:-1])
    return mean_square(outputs)


def backward(case, layer, seed):
    inputs = normal(seed, case.inputs)
    outputs = tuple(layer(inputs).shape)
    back = numpy(gradient(layer, inputs, normal(seed + 1, outputs)))
    if case.window and not case.transposed:
        back = inner(back, case.window, case.strides, outputs[1:-1])
    return mean_square(back)


def score(measure, make_layer, target=1.0):
    """By how many of their own standard errors the mean squares of draws miss the target."""
    values = []
    for draw in range(DRAWS):
        keras.utils.set_random_seed(draw)
        values.append(measure(make_layer(), 100 * draw))
    return (np.mean(values) - target) * math.sqrt(DRAWS) / np.std(values, ddof=1)


@pytest.mark.parametrize("name", CASES)
def test_unit_inputs_give_outputs_of_variance_gain_squared(name):
    case = CASES[name]
    measure = functools.partial(forward, case)
    assert abs(score(measure, lambda: bound(case, "winit>lecun_normal"))) < REACH
    gained = keras_winit.HeUniform()
    assert abs(score(measure, lambda: bound(case, gained.clone()), 2.0)) < REACH


@pytest.mark.parametrize("name", CASES)
def test_unit_gradients_come_back_with_variance_gain_squared(name):
    if BACKEND == "tensorflow" and name == "conv2d grouped":
        pytest.skip("TensorFlow has no gradient of a grouped convolution on a CPU")
    case = CASES[name]
    measure = functools.partial(backward, case)
    assert abs(score(measure, lambda: bound(case, keras_winit.HeNormal(mode="fan_out")), 2)) < REACH


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
def test_what_the_shape_alone_gives_is_found_wrong(name, scheme):
    case = CASES[name]

    def unbound():
        layer = case.make()
        setattr(layer, case.attribute, keras.initializers.get(scheme))
        return layer

    assert abs(score(functools.partial(forward, case), unbound)) > 2 * REACH


class Spy:
    """An activation that remembers what it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(x)
        return keras.ops.tanh(x)


CELLS = {"simple": L.SimpleRNNCell, "lstm": L.LSTMCell, "gru": L.GRUCell}
ATTRIBUTES = {"kernel": "kernel_initializer", "recurrent_kernel": "recurrent_initializer"}


@pytest.mark.parametrize("weight", ATTRIBUTES)
@pytest.mark.parametrize("kind", CELLS)
def test_each_gate_gets_unit_signals(kind, weight):
    def layer():
        cell = CELLS[kind](24, use_bias=False)
        for name, attribute in ATTRIBUTES.items():
            scheme = "winit>xavier_normal" if name == weight else "winit>zeros"
            setattr(cell, attribute, for_layer(scheme, cell))
        return cell

    def measure(cell, seed):
        cell.activation, cell.recurrent_activation = Spy(), Spy()
        state = normal(seed + 1, (64, 24))
        cell(normal(seed, (64, 40)), [state, state] if kind == "lstm" else [state])
        gates = cell.recurrent_activation.seen
        # A GRU's candidate sees the state through the reset gate.
        if (kind, weight) != ("gru", "recurrent_kernel"):
            gates = [cell.activation.seen[0], *gates]
        return np.mean([mean_square(gate) for gate in gates])

    # Xavier: variance 2 / (fan_in + fan_out), with the fan_out of one gate.
    fan_in = 40 if weight == "kernel" else 24
    assert abs(score(measure, layer, 2 * fan_in / (fan_in + 24))) < REACH


ATTENTION = {
    "multi-head": lambda **options: L.MultiHeadAttention(4, 12, 16, use_bias=False, **options),
    "grouped": lambda **options: L.GroupQueryAttention(16, 4, 2, use_bias=False, **options),
}


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("projection", ["query", "key", "value", "output"])
def test_attention_projects_unit_signals(kind, projection):
    def layer():
        attention = ATTENTION[kind](kernel_initializer="winit>lecun_normal")
        attention.build((2, 5, 64), (2, 5, 64))
        return getattr(attention, f"_{projection}_dense")

    def measure(dense, seed):
        heads = tuple(dense.kernel.shape[:-1]) if projection == "output" else (64,)
        return mean_square(dense(normal(seed, (4, 8, *heads))))

    assert abs(score(measure, layer)) < REACH


def test_an_embedding_looks_up_unit_rows_and_its_head_gives_unit_gradients():
    layer = L.Embedding(300, 64)
    layer.embeddings_initializer = for_layer("winit>lecun_normal", layer)
    layer.build()
    weights = numpy(layer.embeddings)
    assert abs((weights**2).mean() - 1) < 5 * math.sqrt(2 / weights.size)
    head = for_layer(keras_winit.HeNormal(mode="fan_out", seed=0), layer)
    rows = numpy(head((300, 64)))
    assert abs((rows**2).mean() * 64 / 2 - 1) < 5 * math.sqrt(2 / rows.size)


def test_separable_layers_keep_unit_signals():
    def layer():
        made = L.SeparableConv2D(48, 3, strides=2, depth_multiplier=2, use_bias=False)
        for kernel in ("depthwise", "pointwise"):
            scheme = for_layer("winit>lecun_normal", made, f"{kernel}_kernel")
            setattr(made, f"{kernel}_initializer", scheme)
        return made

    def measure(layer, seed):
        return mean_square(layer(normal(seed, (4, 13, 13, 48))))

    assert abs(score(measure, layer)) < REACH


@pytest.mark.parametrize("kind", [L.ConvLSTM1D, L.ConvLSTM2D])
def test_convolutional_gates_get_unit_signals(kind):
    rank = 1 if kind is L.ConvLSTM1D else 2

    def layer():
        made = kind(12, 3, use_bias=False, recurrent_initializer="zeros")
        made.cell.kernel_initializer = for_layer("winit>xavier_normal", made)
        made.build((None, 4, *(8,) * rank, 16))
        return made.cell

    def measure(cell, seed):
        cell.activation, cell.recurrent_activation = Spy(), Spy()
        state = np.zeros((8, *(6,) * rank, 12), np.float32)
        cell(normal(seed, (8, *(8,) * rank, 16)), [state, state])
        gates = [cell.activation.seen[0], *cell.recurrent_activation.seen]
        return np.mean([mean_square(gate) for gate in gates])

    # Xavier, of one gate: 2 * 16 / (16 + 12).
    assert abs(score(measure, layer, 32 / 28)) < REACH


# By hand: what goes in, and the fans of each kernel.
BY_HAND = {
    "dense": (lambda: L.Dense(8), (None, 5), {"kernel": (5, 8)}),
    "conv": (
        lambda: L.Conv2D(64, 3, strides=2, groups=4),
        (None, 32, 32, 16),
        {"kernel": (36, 36)},
    ),
    "conv, odd": (lambda: L.Conv1D(5, 3, strides=2), (None, 9, 4), {"kernel": (12, 7.5)}),
    "depthwise": (
        lambda: L.DepthwiseConv2D((3, 5), depth_multiplier=2),
        (None, 9, 9, 16),
        {"kernel": (15, 30)},
    ),
    "separable": (
        lambda: L.SeparableConv1D(7, 3, depth_multiplier=2),
        (None, 9, 16),
        {"depthwise_kernel": (3, 6), "pointwise_kernel": (32, 7)},
    ),
    "transposed": (
        lambda: L.Conv2DTranspose(7, 4, strides=2),
        (None, 9, 9, 16),
        {"kernel": (64, 112)},
    ),
    "experts": (
        lambda: L.EinsumDense("bgi,gio->bgo", (16, 64)),
        (None, 16, 128),
        {"kernel": (128, 64)},
    ),
    "summed first": (lambda: L.EinsumDense("abc,cd->ad", 7), (None, 16, 128), {"kernel": None}),
    "attention": (
        lambda: L.MultiHeadAttention(4, 8, 3),
        ((None, 5, 16), (None, 5, 16)),
        {
            "query/kernel": (16, 32),
            "key/kernel": (16, 32),
            "value/kernel": (16, 12),
            "attention_output/kernel": (12, 16),
        },
    ),
    "grouped attention": (
        lambda: L.GroupQueryAttention(8, 4, 2),
        ((None, 5, 16), (None, 5, 16)),
        {
            "query/kernel": (16, 32),
            "key/kernel": (16, 16),
            "value/kernel": (16, 16),
            "attention_output/kernel": (32, 16),
        },
    ),
    **{
        kind.__name__: (
            lambda kind=kind: kind(6),
            (None, 5, 16),
            {"kernel": (16, 6), "recurrent_kernel": (6, 6)},
        )
        for kind in (L.SimpleRNN, L.LSTM, L.GRU)
    },
    "convolutional lstm": (
        lambda: L.ConvLSTM2D(6, 3, strides=2),
        (None, 5, 16, 16, 3),
        {"kernel": (27, 13.5), "recurrent_kernel": (54, 54)},
    ),
    "both ways": (
        lambda: L.Bidirectional(L.GRU(6, name="gru")),
        (None, 5, 16),
        {
            "forward_gru/kernel": (16, 6),
            "forward_gru/recurrent_kernel": (6, 6),
            "backward_gru/kernel": (16, 6),
            "backward_gru/recurrent_kernel": (6, 6),
        },
    ),
    "over time": (lambda: L.TimeDistributed(L.Dense(6)), (None, 5, 16), {"kernel": (16, 6)}),
    "embedding": (lambda: L.Embedding(100, 6), (None, 5), {"embeddings": (1, 6)}),
    "reversible": (
        lambda: L.ReversibleEmbedding(100, 6, tie_weights=False),
        (None, 5),
        {"embeddings": (1, 6), "reverse_embeddings": (6, 100)},
    ),
    "no kernel": (L.BatchNormalization, (None, 16), {}),
    "not a kernel": (L.PReLU, (None, 5, 16), {"alpha": None}),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_fans_by_hand(name):
    make, shape, expected = BY_HAND[name]
    layer = make()
    layer.build(*shape if isinstance(shape[0], tuple) else (shape,))
    assert fans(layer) == expected


class Odd(L.Dense):
    """A dense layer with a call of its own."""

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.matmul(self.kernel, self.kernel))


class Own(L.Layer):
    """A layer with a weight of its own and layers inside."""

    def build(self, shape):
        self.table = self.add_weight(shape=(3, 4), name="table")
        self.inner = L.Dense(5, name="inner")
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)


def test_unknown_layers_give_none_and_what_they_hold_its_fans():
    odd = Odd(6)
    odd.build((None, 6))
    assert fans(odd) == {"kernel": None}
    own = Own()
    own.build((None, 6))
    assert fans(own) == {"table": None, "inner/kernel": (6, 5)}


def test_models_are_walked_and_shared_layers_counted_once():
    shared = L.Dense(8, name="shared")
    nested = keras.Sequential([keras.Input((8,)), shared, L.Dense(4, name="last")], name="nested")
    inputs = keras.Input((8,))
    model = keras.Model(inputs, nested(shared(L.Dropout(0.1)(inputs))))
    assert set(fans(model).values()) == {(8, 8), (8, 4)}
    assert len(fans(model)) == 2
    twins = Own()
    twins.first, twins.second = L.Dense(2, name="same"), L.Dense(3, name="same")
    for twin in (twins, twins.first, twins.second):
        twin.build((None, 4))
    assert fans(twins)["same/kernel"] == (4, 2)
    assert fans(twins)["same/kernel@2"] == (4, 3)


def test_low_rank_and_unbuilt():
    layer = L.Dense(8)
    layer.build((None, 5))
    layer.enable_lora(2)
    assert fans(layer)["kernel"] == (5, 8)
    with pytest.raises(
        ValueError, match=r"^`fans` needs a built layer\. Received: 'new', not built"
    ):
        fans(L.Dense(8, name="new"))


def test_binding_leaves_what_was_said_and_what_need_not_be():
    grouped = L.Conv2D(8, 3, groups=2)
    said = keras_winit.HeNormal(kind="depthwise")
    assert for_layer(said, grouped) is said
    assert for_layer("winit>small_normal", grouped).get_config()["stddev"] == 0.01
    assert type(for_layer("he_normal", L.Dense(4))).__module__.startswith("keras.src")
    attention = for_layer("winit>he_normal", L.MultiHeadAttention(2, 4))
    assert attention.get_config() == keras_winit.HeNormal().get_config()
    # An axis-aware scheme of Keras' can be told the axes of an einsum.
    einsum = for_layer("he_normal", L.EinsumDense("bgi,gio->bgo", (16, 64)))
    assert (einsum.input_axes, einsum.output_axes) == ((1,), (2,))


def test_what_is_bound_serializes_and_keeps_its_seed():
    generator = keras.random.SeedGenerator(3)
    scheme = keras_winit.HeNormal(seed=generator)
    layer = L.DepthwiseConv2D(3, strides=2)
    layer.depthwise_initializer = bound_scheme = for_layer(scheme, layer)
    assert bound_scheme.seed is generator
    twin = keras.layers.deserialize(keras.layers.serialize(layer))
    assert twin.depthwise_initializer.get_config() == bound_scheme.get_config()
    assert repr(for_layer(keras_winit.HeNormal(seed=1), layer)) == (
        "HeNormal(seed=1, kind='depthwise', strides=(2, 2))"
    )


def test_wrapped_schemes_are_bound_through():
    layer = L.DepthwiseConv2D(3, depth_multiplier=2)
    outer = for_layer(keras_winit.Scaled(keras_winit.HeNormal(seed=1), gain=3.0), layer)
    direct = for_layer(keras_winit.HeNormal(seed=1), layer)
    shape = (3, 3, 64, 2)
    np.testing.assert_allclose(numpy(outer(shape)), 3 * numpy(direct(shape)), rtol=1e-6)


def test_bias_schemes_are_bound_to_the_kernel():
    layer = L.Conv2D(8, 3, groups=2)
    layer.build((None, 9, 9, 4))
    assert for_layer("winit>fan_in_bias", layer, "bias").fan_in == 18
    assert for_layer("winit>chrono", L.GRU(8), "bias").gates == 3
    assert for_layer("winit>per_gate", L.GRU(8), "recurrent_kernel").gates == 3


UNKNOWN = (
    "`for_layer` does not know what layer 'batch' of class BatchNormalization does with its "
    "weights. Give the scheme `input_axes` and `output_axes` yourself."
)
WEIGHT = (
    "`for_layer(weight=...)` must be one of 'depthwise_kernel', 'pointwise_kernel' for layer "
    "'apart'. Received: weight={}."
)
FOREIGN = (
    "`for_layer` needs a scheme of this package to bind it to layer 'conv'. Received: "
    "initializer='he_normal'. Use a name such as 'winit>he_normal'."
)


@pytest.mark.parametrize(
    ("mistake", "error", "sentence"),
    [
        (
            lambda: for_layer("winit>zeros", L.BatchNormalization(name="batch")),
            ValueError,
            UNKNOWN,
        ),
        (
            lambda: for_layer("winit>he_normal", L.SeparableConv1D(4, 3, name="apart")),
            ValueError,
            WEIGHT.format("None"),
        ),
        (
            lambda: for_layer("winit>he_normal", L.SeparableConv1D(4, 3, name="apart"), "kernel"),
            ValueError,
            WEIGHT.format("'kernel'"),
        ),
        (lambda: for_layer("he_normal", L.Conv2D(4, 3, 2, name="conv")), TypeError, FOREIGN),
        (
            lambda: for_layer("winit>chrono", L.Dense(4, name="dense")),
            ValueError,
            "`Chrono` makes the bias of an LSTM or a GRU. Received: layer 'dense' of class Dense. "
            "Use 'winit>constant'.",
        ),
        (
            lambda: for_layer("winit>forget_bias", L.LSTM(4, name="lstm"), "bias"),
            ValueError,
            "`ForgetBias` makes the whole bias of an LSTM, but layer 'lstm' sets the forget gate "
            "itself. Received: unit_forget_bias=True. Give the layer `unit_forget_bias=False`.",
        ),
        (
            lambda: theory.fans((3, 4), gates=3),
            ValueError,
            "the 4 outputs of a kernel cannot be split evenly into 1 groups of 3 gates. "
            "Received: shape=(3, 4).",
        ),
        (
            lambda: theory.fans((3, 3, 4, 4), strides=(1, 2, 2)),
            ValueError,
            "`strides` must be one number, or one for each of the 2 axes of the window. "
            "Received: strides=(1, 2, 2).",
        ),
    ],
    ids=lambda v: str(v)[:50],
)
def test_mistakes_in_binding(mistake, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        mistake()
