"""Tests of `analytic_init` against moments that are measured on random inputs and weights."""

import math
import re

import keras
import numpy as np
import pytest
from scipy import stats
from support.laws import LEVEL, numpy

from keras_winit import analytic_init
from keras_winit.repair.signals import DRAWS

L = keras.layers
SAMPLES = 1500
MEAN, VARIANCE = 0.4, 1.5
T_LIMIT = stats.norm.ppf(1 - LEVEL / 2)


def predicted(rule, shape):
    """Return the mean and mean square for which the kernel of a dense layer after a rule is drawn.

    A dense layer with fan_in n gets kernels of mean square 1 / (n E[x**2]). With 1 added to x, it
    gets E[x**2] + 2 E[x] + 1, from which the mean follows.
    """
    inputs = keras.Input(shape)
    output = rule(inputs)
    probes = [L.Dense(3), L.Dense(3)]
    outputs = [probes[0](output), probes[1](output + 1.0)]
    table = analytic_init(keras.Model(inputs, outputs), inputs=(MEAN, VARIANCE), seed=1)
    assert table.notes == ()
    square, shifted = (
        1 / (probe.kernel.shape[0] * np.mean(numpy(probe.kernel).astype(np.float64) ** 2))
        for probe in probes
    )
    return (shifted - square - 1) / 2, square


def relu_and_sigmoid(x):
    return L.Multiply()([x, L.Activation("sigmoid")(x)])


def gated_halves(x):
    values, gate = keras.ops.split(x, 2, axis=-1)
    return values * keras.ops.sigmoid(gate)


def scaled_layer_norm(x):
    layer = L.LayerNormalization(gamma_initializer=keras.initializers.Constant(0.7))
    layer.build(x.shape)
    layer.beta.assign(np.linspace(-1, 2, x.shape[-1]))
    return layer(x)


# Rules with the shape of their inputs. Rules in BY_DRAWS are only as precise as the draws.
RULES = {
    "relu": (L.ReLU(), (40,)),
    "gelu": (L.Activation("gelu"), (40,)),
    "tanh twice": (lambda x: keras.ops.tanh(keras.ops.tanh(x)), (40,)),
    "leaky": (L.LeakyReLU(0.3), (40,)),
    "prelu": (L.PReLU(keras.initializers.Constant(0.2)), (40,)),
    "silu": (keras.ops.silu, (40,)),
    "softplus of relu": (lambda x: L.Activation("softplus")(L.ReLU()(x)), (40,)),
    "dropout": (L.Dropout(0.3), (40,)),
    "gaussian dropout": (L.GaussianDropout(0.3), (40,)),
    "spatial dropout": (L.SpatialDropout1D(0.3), (6, 20)),
    "noise": (L.GaussianNoise(0.6), (40,)),
    "zero padding": (L.ZeroPadding2D((1, 2)), (4, 5, 3)),
    "max pooling": (L.MaxPooling2D(2), (8, 8, 2)),
    "max pooling of relu": (lambda x: L.MaxPooling2D(2)(L.ReLU()(x)), (8, 8, 2)),
    "average pooling": (L.AveragePooling2D(3), (9, 9, 3)),
    "global average": (L.GlobalAveragePooling1D(), (9, 10)),
    "global max": (L.GlobalMaxPooling1D(), (9, 10)),
    "mean": (lambda x: keras.ops.mean(x, axis=1), (9, 10)),
    "sum": (lambda x: keras.ops.sum(x, axis=1), (9, 10)),
    "add of dependent terms": (lambda x: L.Add()([x, L.ReLU()(x)]), (40,)),
    "add of itself": (lambda x: x + x, (40,)),
    "average of dependent terms": (lambda x: L.Average()([x, L.ReLU()(x)]), (40,)),
    "difference": (lambda x: L.Subtract()([x, L.ReLU()(x)]), (40,)),
    "product of dependent terms": (relu_and_sigmoid, (40,)),
    "maximum": (lambda x: L.Maximum()([x, -x]), (40,)),
    "concatenate": (
        lambda x: L.Concatenate()([x, L.UpSampling1D(3)(L.Reshape((1, 40))(L.ReLU()(x)))[:, 0]]),
        (40,),
    ),
    "constants": (lambda x: 2.0 * x - 3.0, (40,)),
    "rescaling": (L.Rescaling(0.5, offset=-2.0), (40,)),
    "fixed normalization": (L.Normalization(mean=[0.3] * 39 + [4.0], variance=[0.5] * 40), (40,)),
    "linear": (L.Activation("linear"), (40,)),
    "batch normalization": (L.BatchNormalization(), (40,)),
    "layer normalization": (scaled_layer_norm, (200,)),
    "group normalization": (L.GroupNormalization(2), (9, 40)),
    "rms normalization": (L.RMSNormalization(), (400,)),
    "unit normalization": (L.UnitNormalization(), (400,)),
    "softmax": (L.Softmax(), (10,)),
    "gated halves": (gated_halves, (40,)),
}
BY_DRAWS = {
    *("tanh twice", "softplus of relu", "max pooling", "max pooling of relu", "global max"),
    *("add of dependent terms", "average of dependent terms", "difference", "maximum"),
    *("product of dependent terms", "softmax"),
}
# The tolerances: statistics of a row of 400 entries deviate from their limit by about 1 / 400.
ROW_STATISTICS = {
    "layer normalization": 0.01,
    "rms normalization": 0.01,
    "unit normalization": 0.01,
}


@pytest.mark.parametrize("case", RULES)
def test_rules_predict_mean_and_mean_square(case):
    rule, shape = RULES[case]
    mean, square = predicted(rule, shape)
    x = np.random.default_rng(5).normal(MEAN, math.sqrt(VARIANCE), (SAMPLES, *shape))
    inputs = keras.Input(shape)
    model = keras.Model(inputs, rule(inputs))
    y = numpy(model(x.astype(np.float32), training=True)).astype(np.float64)
    for power, expected in ((1, mean), (2, square)):
        by_sample = (y**power).reshape(SAMPLES, -1).mean(axis=1)
        error = by_sample.std() / math.sqrt(SAMPLES)
        if case in BY_DRAWS:
            error += (y**power).std() / math.sqrt(DRAWS)
        bound = T_LIMIT * error + 1e-5 + ROW_STATISTICS.get(case, 0) * abs(by_sample.mean())
        assert abs(by_sample.mean() - expected) < bound


KINDS = {
    "dense": (lambda: L.Dense(48), (96,)),
    "conv1d": (lambda: L.Conv1D(24, 5), (20, 16)),
    "conv2d grouped": (lambda: L.Conv2D(48, 3, strides=2, groups=4), (12, 12, 16)),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (12, 12, 48)),
    "separable": (lambda: L.SeparableConv2D(48, 3), (12, 12, 48)),
    "transposed": (lambda: L.Conv2DTranspose(32, 2, strides=2), (6, 6, 48)),
    "einsum": (lambda: L.EinsumDense("abc,cde->abde", (6, 8, 12)), (6, 64)),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(48)), (6, 64)),
}


@pytest.mark.parametrize("scheme", ["winit>lecun_normal", "winit>orthogonal", "glorot_uniform"])
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_of_every_kind_give_the_variance(kind, scheme):
    make, shape = KINDS[kind]
    model = keras.Sequential([keras.Input(shape), make()])
    rng, found = np.random.default_rng(6), []
    for seed in range(12):
        analytic_init(model, scheme=scheme, inputs=(MEAN, VARIANCE), target=2.0, seed=seed)
        x = rng.normal(MEAN, math.sqrt(VARIANCE), (16, *shape)).astype(np.float32)
        found.append(np.mean(numpy(model(x)).astype(np.float64) ** 2))
    t = (np.mean(found) - 2) / (np.std(found, ddof=1) / math.sqrt(len(found)))
    assert abs(t) < stats.t.ppf(1 - LEVEL / 2, len(found) - 1)
    assert np.mean(found) == pytest.approx(2, rel=0.1)


def test_deep_networks_keep_the_variance():
    layers = [L.Dense(256, "gelu") for _ in range(20)]
    model = keras.Sequential([keras.Input((256,)), *layers])
    analytic_init(model, seed=2)
    signal = np.random.default_rng(7).normal(size=(256, 256)).astype(np.float32)
    for layer in layers:
        pre_activations = signal @ numpy(layer.kernel)
        assert 0.6 < pre_activations.var() < 1.6
        signal = numpy(layer(signal))


def test_convolutions_with_padding_on_small_maps():
    layer = L.Conv2D(200, 3, padding="same", use_bias=False)
    model = keras.Sequential([keras.Input((3, 3, 64)), layer])
    x = np.random.default_rng(7).normal(size=(64, 3, 3, 64)).astype(np.float32)
    found = []
    for count_padding in (False, True):
        analytic_init(model, count_padding=count_padding, seed=2)
        found.append(float(numpy(model(x)).var()))
    # In the mean over positions, a share of (2 + 3 + 2)**2 / 81 of the nine taps lies on the map.
    assert found == pytest.approx([49 / 81, 1], rel=0.05)


def dot_product_attention(query, value):
    scaled = [L.Rescaling(0.3)(x) for x in (query, value)]
    return L.Dense(64)(L.Attention()(scaled))


ATTENTION = {
    "multi-head": L.MultiHeadAttention(4, 32),
    "with dropout": L.MultiHeadAttention(4, 32, dropout=0.2),
    "grouped": L.GroupQueryAttention(32, 4, 2),
    "causal": lambda q, v: L.MultiHeadAttention(4, 32)(q, v, use_causal_mask=True),
    "without weights": dot_product_attention,
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_gives_the_variance(kind):
    inputs = [keras.Input((12, 64)), keras.Input((12, 64))]
    model = keras.Model(inputs, ATTENTION[kind](*inputs))
    x = np.random.default_rng(8).normal(size=(2, 32, 12, 64)).astype(np.float32)
    found = []
    for seed in range(8):
        assert analytic_init(model, seed=seed).notes == ()
        found.append(float(numpy(model(list(x), training=True)).var()))
    # `analytic_init` ignores that longer queries have scores that vary more.
    assert np.mean(found) == pytest.approx(1, rel=0.15)


def gates(layer, x):
    """Return the pre-activations of the gates at each step, computed with numpy from the states."""
    kernel, recurrent = (numpy(weight) for weight in layer.weights[:2])
    states = numpy(layer(x))
    before = np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], axis=1)
    return x @ kernel + before @ recurrent


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM"])
def test_recurrent_layers_give_the_variance(kind):
    options = {} if kind == "SimpleRNN" else {"unit_forget_bias": False}
    layer = getattr(L, kind)(128, return_sequences=True, **options)
    model = keras.Sequential([keras.Input((20, 64)), layer])
    analytic_init(model, seed=3)
    x = np.random.default_rng(9).normal(size=(32, 20, 64)).astype(np.float32)
    assert gates(layer, x)[:, -1].var() == pytest.approx(1, rel=0.1)
    blocks = np.split(numpy(layer.weights[1]), 4 if kind == "LSTM" else 1, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(128), atol=1e-5)


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul"])
def test_the_layer_after_recurrent_layers_gets_the_variance(merge):
    layer = L.Bidirectional(L.GRU(64, return_sequences=True), merge_mode=merge)
    model = keras.Sequential([keras.Input((20, 64)), layer, L.Dense(64)])
    assert analytic_init(model, seed=3).notes == ()
    x = np.random.default_rng(9).normal(size=(64, 20, 64)).astype(np.float32)
    assert numpy(model(x)).var() == pytest.approx(1, rel=0.2)


def test_a_convolutional_lstm():
    layer = L.ConvLSTM2D(8, 3)
    model = keras.Sequential([keras.Input((6, 8, 8, 4)), layer, L.Dense(32)])
    assert analytic_init(model, seed=3).notes == ()
    x = np.random.default_rng(9).normal(size=(32, 6, 8, 8, 4)).astype(np.float32)
    assert numpy(model(x)).var() == pytest.approx(1, rel=0.3)


def test_the_mask_of_an_embedding_needs_no_rule():
    embedding = L.Embedding(50, 64, mask_zero=True)
    model = keras.Sequential([keras.Input((8,)), embedding, L.GRU(16), L.Dense(8)])
    assert analytic_init(model, seed=3).notes == ()


def test_loaded_embeddings_are_left():
    table = np.random.default_rng(3).normal(0, 3, (50, 64))
    layer = L.Embedding(50, 64, embeddings_initializer=keras.initializers.Constant(table))
    last = L.Dense(8)
    model = keras.Sequential([keras.Input((8,)), layer, last])
    row = analytic_init(model, seed=3).rows[0]
    assert (row.was_set, row.reason) == (False, "loaded")
    square = 64 * np.mean(numpy(last.kernel) ** 2)
    assert 1 / square == pytest.approx(np.mean(table**2), rel=1e-5)


def test_quantized_layers_are_left():
    model = keras.Sequential([keras.Input((8,)), L.Dense(8), L.Dense(8)])
    model.layers[0].quantize("int8")
    assert analytic_init(model, seed=3).rows[0].reason == "quantized"
    assert np.mean(numpy(model.layers[1].kernel) ** 2) == pytest.approx(1 / 8, rel=1e-5)


def test_embeddings_and_their_sum():
    tokens, positions = keras.Input((8,)), keras.Input((8,))
    both = L.Embedding(500, 64)(tokens) + L.Embedding(500, 64)(positions)
    model = keras.Model([tokens, positions], L.Dense(64)(both))
    rows = analytic_init(model, seed=3).rows
    assert [row.reason for row in rows] == [
        "inputs have the mean square 1, fan_in 1",
        "inputs have the mean square 1, fan_in 1",
        "inputs have the mean square 2, fan_in 64",
    ]


class Own(L.Layer):
    def build(self, shape):
        self.weight = self.add_weight(shape=(shape[-1], 4), name="weight")

    def call(self, x):
        return keras.ops.matmul(x, self.weight)


def test_unknown_layers_are_left_and_named():
    own = Own(name="own")
    model = keras.Sequential([keras.Input((5,)), L.Dense(4), own, L.Dense(2)])
    before = numpy(own.weight).tobytes()
    table = analytic_init(model, seed=3)
    assert table.notes == ("Mean and variance pass unchanged through 'own' (Own).",)
    assert [row.was_set for row in table.rows] == [True, True, False]
    assert table.rows[-1].reason == "how Own uses it is not known"
    assert numpy(own.weight).tobytes() == before


def test_frozen_layers_pass_on_what_they_make():
    frozen = L.Dense(400, kernel_initializer=keras.initializers.RandomNormal(stddev=0.3, seed=1))
    last = L.Dense(4)
    model = keras.Sequential([keras.Input((100,)), frozen, last])
    frozen.trainable = False
    rows = analytic_init(model, seed=3).rows
    assert (rows[0].was_set, rows[0].reason) == (False, "frozen")
    # The outputs have variance 100 * .3**2 = 9, so the weights have mean square 1 / (400 * 9).
    assert np.mean(numpy(last.kernel) ** 2) == pytest.approx(1 / 3600, rel=0.05)


def test_layers_whose_inputs_are_zero_are_left():
    norm = L.LayerNormalization(gamma_initializer="zeros")
    model = keras.Sequential([keras.Input((5,)), L.Dense(4), norm, L.Dense(2)])
    assert [row.reason for row in analytic_init(model).rows][1] == "its inputs are constantly 0"


def test_layers_that_are_called_twice_are_set_once():
    layer, x = L.Dense(300, "relu"), keras.Input((300,))
    last = L.Dense(3)
    analytic_init(keras.Model(x, last(layer(layer(x)))), seed=1)
    assert np.mean(numpy(layer.kernel) ** 2) == pytest.approx(1 / 300, rel=1e-5)
    # The first call gives ReLU outputs of mean square 1/2; the second, 1/4.
    assert np.mean(numpy(last.kernel) ** 2) == pytest.approx(4 / 300, rel=1e-3)


def test_the_seed_gives_every_kernel_its_own_values():
    def kernels(seed):
        model = keras.Sequential([keras.Input((6,)), L.Dense(6), L.Dense(6)])
        analytic_init(model, seed=seed)
        return [numpy(layer.kernel) for layer in model.layers]

    first, second = kernels(1)
    np.testing.assert_array_equal(first, kernels(1)[0])
    assert not np.allclose(first, second)
    assert not np.allclose(first, kernels(2)[0])


class Interrupted(keras.initializers.RandomNormal):
    calls = 0

    def __call__(self, shape, dtype=None, **kwargs):
        Interrupted.calls += 1
        if Interrupted.calls == 2:
            raise KeyboardInterrupt
        return super().__call__(shape, dtype)


def test_after_an_interruption_the_model_is_as_before():
    model = keras.Sequential([keras.Input((6,)), L.Dense(6), L.Dense(6), L.Dense(6)])
    before = [numpy(variable).tobytes() for variable in model.variables]
    Interrupted.calls = 0
    with pytest.raises(KeyboardInterrupt) as caught:
        analytic_init(model, scheme=Interrupted())
    assert [numpy(variable).tobytes() for variable in model.variables] == before
    assert caught.value.__notes__[-1] == (
        f"`analytic_init` stopped at layer {model.layers[1].name!r} (2 of 3). The model is as it "
        f"was before the call."
    )


class Branching(keras.Model):
    def __init__(self):
        super().__init__(name="branching")
        self.dense = L.Dense(3)

    def call(self, x):
        return self.dense(x) if keras.ops.sum(x) > 0 else x


def branching():
    model = Branching()
    model(np.ones((2, 3), np.float32))
    return model


def small(**options):
    return analytic_init(keras.Sequential([keras.Input((3,)), L.Dense(2)]), **options)


ERRORS = {
    "model": (
        lambda: analytic_init("model"),
        TypeError,
        "`analytic_init(model=...)` must be a model or a layer. Received: model='model'.",
    ),
    "not built": (
        lambda: analytic_init(keras.Sequential([L.Dense(2)], name="new")),
        ValueError,
        "`analytic_init` needs a built model. Received: 'new', not built. Call it on data, or "
        "`model.build(input_shape)`.",
    ),
    "target": (
        lambda: small(target=-1),
        ValueError,
        "`analytic_init(target=...)` must be a number > 0. Received: target=-1.",
    ),
    "target type": (
        lambda: small(target=None),
        TypeError,
        "`analytic_init(target=...)` must be a number > 0. Received: target=None.",
    ),
    "inputs": (
        lambda: small(inputs=(0, -1)),
        ValueError,
        "`analytic_init(inputs=...)` must be a mean and a variance >= 0. Received: inputs=(0, -1).",
    ),
    "layers": (
        lambda: small(layers=["other"]),
        ValueError,
        "`analytic_init(layers=...)` must select at least one layer with kernels. "
        "Received: layers=['other'].",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_models_that_do_not_run_on_symbolic_tensors():
    start = (
        "`analytic_init` needs a model that runs on symbolic tensors. Received: model='branching'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(start)}.*Use `lsuv`.$"):
        analytic_init(branching())
