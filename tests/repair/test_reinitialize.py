"""Tests of `reinitialize`: the scheme and the fans of every kernel, and what is left alone."""

import hashlib
import math
import re

import keras
import numpy as np
import pytest
from keras import ops
from support.laws import deviations, normal, numpy

import keras_winit
from keras_winit import reinitialize

L = keras.layers
RELU, GELU, TANH = math.sqrt(2), 1.5335304411955353, 1.5925374197228312


def chain(*layers, shape):
    return keras.Sequential([keras.Input(shape), *layers])


def weights(model):
    """Return the weights of a model by layer and name, as arrays of float32."""
    return {f"{v.path}:{i}": numpy(v).astype(np.float32) for i, v in enumerate(model.weights)}


def assert_stddevs(model, expected):
    """Check kernels, in the order of `model.weights`, against N(0, stddev**2)."""
    kernels = [v for v in model.weights if v.name.endswith(("kernel", "embeddings"))]
    assert len(kernels) == len(expected)
    wrong = {
        kernel.path: sentences
        for kernel, stddev in zip(kernels, expected, strict=True)
        if stddev is not None and (sentences := deviations(numpy(kernel), normal(stddev)))
    }
    assert wrong == {}


def he(fan_in, gain=RELU):
    return gain / math.sqrt(fan_in)


def xavier(fan_in, fan_out, gain=1.0):
    return gain * math.sqrt(2 / (fan_in + fan_out))


def test_a_convolutional_network_has_the_true_fans_of_every_kind():
    model = chain(
        L.Conv2D(32, 3, strides=2, activation="relu"),
        L.DepthwiseConv2D(3, depth_multiplier=4),
        L.BatchNormalization(),
        L.Activation("gelu"),
        L.Conv2D(64, 3, groups=4, activation="leaky_relu"),
        L.Conv2DTranspose(48, 4, strides=2, activation="tanh"),
        L.SeparableConv2D(96, 3, activation="elu"),
        L.GlobalAveragePooling2D(),
        L.Dense(40, "softmax"),
        shape=(17, 17, 12),
    )
    reinitialize(model, seed=0)
    assert_stddevs(
        model,
        [
            he(9 * 12),
            he(9, GELU),
            he(9 * 32, math.sqrt(2 / 1.04)),
            # With stride 2, each output of the transposed convolution sums a quarter.
            xavier(16 * 64 / 4, 16 * 48, TANH),
            1 / 3,
            he(48, 1.2451983007007066),
            1 / math.sqrt(96),
        ],
    )
    biases = [numpy(v) for v in model.weights if v.name == "bias"]
    assert all((bias == 0).all() for bias in biases)


def test_a_generator_of_transposed_convolutions():
    model = chain(
        L.Dense(4 * 4 * 64),
        L.Reshape((4, 4, 64)),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2DTranspose(32, 4, strides=2, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.LeakyReLU(0.2),
        L.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh"),
        shape=(100,),
    )
    reinitialize(model, seed=0)
    expected = [he(100), he(16 * 64 / 4, math.sqrt(2 / 1.04)), he(16 * 32 / 4, 1.0)]
    assert_stddevs(model, expected)


def test_a_u_net_with_shortcuts_by_concatenation():
    inputs = keras.Input((16, 16, 3))
    down = L.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    deep = L.Conv2D(64, 3, padding="same", activation="relu")(L.MaxPooling2D()(down))
    up = L.Conv2DTranspose(32, 2, strides=2, activation="relu")(deep)
    joined = L.Conv2D(32, 3, padding="same", activation="relu")(L.Concatenate()([up, down]))
    model = keras.Model(inputs, L.Conv2D(20, 1, activation="sigmoid")(joined))
    reinitialize(model, seed=0)
    expected = [he(27), he(9 * 32), he(64), he(9 * 64), 1 / math.sqrt(32)]
    assert_stddevs(model, expected)


def test_recurrent_layers_by_their_gates():
    model = chain(
        L.Embedding(200, 24),
        L.Bidirectional(L.LSTM(32, return_sequences=True)),
        L.GRU(40, return_sequences=True),
        L.SimpleRNN(30, activation="relu"),
        L.Dense(4),
        shape=(7,),
    )
    reinitialize(model, seed=0)
    # Recurrent kernels are checked below.
    lstm = [xavier(24, 32), None]
    gru, simple = [xavier(64, 40), None], [xavier(40, 30), None]
    assert_stddevs(model, [1.0, *lstm, *lstm, *gru, *simple, 1 / math.sqrt(30)])
    bidirectional, gru, simple = model.layers[1:4]
    for lstm_layer in (bidirectional.forward_layer, bidirectional.backward_layer):
        recurrent = numpy(lstm_layer.cell.recurrent_kernel)
        for gate in np.split(recurrent, 4, axis=1):
            np.testing.assert_allclose(gate.T @ gate, np.eye(32), atol=1e-5)
        bias = numpy(lstm_layer.cell.bias).reshape(4, 32)
        np.testing.assert_array_equal(bias, np.outer([0, 1, 0, 0], np.ones(32)))
    for gate in np.split(numpy(gru.cell.recurrent_kernel), 3, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(40), atol=1e-5)
    np.testing.assert_array_equal(numpy(gru.cell.bias), np.zeros((2, 120)))
    np.testing.assert_array_equal(numpy(simple.cell.recurrent_kernel), np.eye(30))


class Block(L.Layer):
    """A block of a transformer with the normalization first."""

    def __init__(self, width, heads):
        super().__init__()
        self.first, self.second = L.LayerNormalization(), L.LayerNormalization()
        self.attention = L.MultiHeadAttention(heads, width // heads)
        self.up, self.down = L.Dense(4 * width, "gelu"), L.Dense(width)

    def call(self, x):
        y = self.first(x)
        x = x + self.attention(y, y)
        return x + self.down(self.up(self.second(x)))


class Transformer(keras.Model):
    def __init__(self, width=32, blocks=3):
        super().__init__()
        self.tokens, self.positions = L.Embedding(100, width), L.Embedding(9, width)
        self.blocks = [Block(width, 4) for _ in range(blocks)]
        self.last, self.out = L.LayerNormalization(), L.Dense(100)

    def call(self, x):
        x = self.tokens(x) + self.positions(ops.arange(9))
        for block in self.blocks:
            x = block(x)
        return self.out(self.last(x))


@pytest.fixture
def transformer():
    model = Transformer()
    model(np.zeros((1, 9), np.int32))
    return model


@pytest.mark.parametrize(("residual", "factor"), [(None, 1.0), ("gpt2", 6**-0.5)])
def test_a_subclassed_transformer(transformer, residual, factor):
    reinitialize(transformer, seed=0, residual=residual)
    attention = [xavier(32, 32)] * 3 + [factor * xavier(32, 32)]
    block = [*attention, he(32, GELU), factor * he(128, 1.0)]
    summed = 0.5**0.5
    assert_stddevs(transformer, [summed, summed, *block * 3, 1 / math.sqrt(32)])


def test_fixup_starts_branches_and_the_output_at_zero(transformer):
    reinitialize(transformer, seed=0, residual="fixup")
    # There are six branches, each with two kernels in a row.
    inner = 6**-0.5
    attention = [inner * xavier(32, 32)] * 3
    block = [*attention, None, inner * he(32, GELU), None]
    assert_stddevs(transformer, [0.5**0.5, 0.5**0.5, *block * 3, None])
    zeros = [transformer.out.kernel]
    zeros += [block.down.kernel for block in transformer.blocks]
    zeros += [block.attention._output_dense.kernel for block in transformer.blocks]
    assert not any(numpy(kernel).any() for kernel in zeros)


def test_branches_without_a_normalization_are_scaled_unasked():
    inputs = keras.Input((64,))
    x = inputs
    for _ in range(4):
        x = L.Add()([x, L.Dense(64)(L.Dense(128, "relu")(x))])
    model = keras.Model(inputs, L.Dense(32)(x))
    reinitialize(model, seed=0)
    block = [he(64), 0.5 * he(128, 1.0)]
    assert_stddevs(model, [*block * 4, 1 / 8])
    reinitialize(model, "winit>lecun_normal", seed=0)
    assert_stddevs(model, [*[he(64, 1.0), he(128, 1.0)] * 4, 1 / 8])


def vision_transformer():
    inputs = keras.Input((16, 16, 3))
    x = L.Reshape((16, 48))(L.Conv2D(48, 4, strides=4)(inputs))
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(3, 16)(y, y)])
        y = L.Dense(96, keras.activations.gelu)(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(48)(L.Dropout(0.1)(y))])
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
    return keras.Model(inputs, L.Dense(40)(x))


def test_a_vision_transformer():
    model = vision_transformer()
    reinitialize(model, seed=0)
    block = [*[xavier(48, 48)] * 4, he(48, GELU), he(96, 1.0)]
    assert_stddevs(model, [he(48, 1.0), *block * 2, 1 / math.sqrt(48)])


def test_a_nested_model_with_shared_layers_is_set_once():
    inner = chain(L.Dense(64, "relu"), L.Dense(48, "relu"), shape=(32,))
    one, two = keras.Input((32,)), keras.Input((32,))
    model = keras.Model([one, two], L.Dense(20)(L.Concatenate()([inner(one), inner(two)])))
    changes = reinitialize(model, seed=0)
    assert_stddevs(model, [he(32), he(64), 1 / math.sqrt(96)])
    assert [row.reason for row in changes.rows if row.weight == "kernel"] == [
        "before relu, shared by 2 calls",
        "before relu, shared by 2 calls",
        "output",
    ]


def test_a_layer_by_itself_is_known_by_its_own_activation():
    layer = L.Dense(64, "relu")
    layer(np.zeros((1, 32), "float32"))
    changes = reinitialize(layer, seed=0)
    assert [row.reason for row in changes.rows] == ["before relu", "bias"]
    assert_stddevs(layer, [he(32)])


def test_sine_layers_get_the_scheme_of_siren():
    def sine(x):
        return ops.sin(30.0 * x)

    model = chain(L.Dense(64, sine), L.Dense(64, sine), L.Dense(3), shape=(2,))
    changes = reinitialize(model, seed=0).rows
    kernels = [row.change for row in changes if row.weight == "kernel"]
    assert kernels == ["siren(first=True)", "siren", "lecun_normal"]
    limit = math.sqrt(6 / 64) / 30
    assert 0.99 * limit < np.abs(numpy(model.layers[1].kernel)).max() <= limit


def test_one_scheme_for_all_kernels_has_true_fans_and_different_values():
    model = chain(
        L.DepthwiseConv2D(3, depth_multiplier=2), L.Dense(64), L.Dense(64), shape=(9, 9, 64)
    )
    changes = reinitialize(model, keras_winit.HeNormal(seed=7))
    assert_stddevs(model, [he(9), he(128), he(64)])
    depthwise, *_ = changes.rows
    assert (depthwise.change, depthwise.reason) == ("he_normal(kind=depthwise)", "the scheme given")
    twin = keras.models.clone_model(model)
    reinitialize(twin, keras_winit.HeNormal(seed=7))
    assert all(map(np.array_equal, weights(model).values(), weights(twin).values()))


def test_an_initializer_of_keras_serves_plain_kernels():
    model = chain(L.Dense(64), L.Dense(64), shape=(64,))
    reinitialize(model, "he_normal", seed=0)
    first, second = (numpy(layer.kernel) for layer in model.layers)
    assert not np.array_equal(first, second)
    np.testing.assert_allclose([first.std(), second.std()], he(64), rtol=0.06)


def test_layers_select_what_is_set_with_all_inside(transformer):
    before = weights(transformer)
    changes = reinitialize(transformer, layers=[transformer.blocks[1], "dense*"], seed=0)
    chosen = {row.layer for row in changes.rows if row.was_set}
    block = transformer.blocks[1].name
    assert all(name.startswith(block) or "dense" in name for name in chosen)
    assert any("attention_output" in name for name in chosen)
    assert {row.reason for row in changes.rows if not row.was_set} == {"not selected"}
    changed = [k for k, v in weights(transformer).items() if not np.array_equal(v, before[k])]
    assert changed
    assert not any("embedding" in path for path in changed)


def test_the_values_of_a_weight_do_not_depend_on_what_else_is_selected(transformer):
    reinitialize(transformer, seed=3)
    everything = weights(transformer)
    reinitialize(transformer, seed=4)
    out = transformer.out.kernel.path
    reinitialize(transformer, layers=transformer.out, seed=3)
    now = weights(transformer)
    same = [key for key in now if key.startswith(out)]
    assert len(same) == 1
    np.testing.assert_array_equal(now[same[0]], everything[same[0]])


class Own(L.Layer):
    """A layer with a weight that Keras' layers do not have."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 4), name="table")

    def call(self, x):
        return ops.matmul(x, self.table)


class Frozen(L.Dense):
    def build(self, shape):
        super().build(shape)
        self.trainable = False


def test_what_must_not_change_is_left_and_the_table_says_why():
    lora, quantized = L.Dense(8, name="lora"), L.Dense(8, name="quantized")
    table = keras.initializers.Constant(np.ones((9, 8)))
    model = chain(
        L.Embedding(9, 8, embeddings_initializer=table, name="given"),
        Frozen(8, name="frozen"),
        lora,
        quantized,
        L.BatchNormalization(name="batch"),
        Own(name="own"),
        L.Dense(2, name="out"),
        shape=(3,),
    )
    lora.enable_lora(2)
    quantized.quantize("int8")
    model.layers[4].moving_mean.assign(np.ones(8))
    before = [numpy(v) for v in model.weights]
    changes = reinitialize(model, seed=0)
    reasons = {(row.layer, row.weight): row.reason for row in changes.rows if not row.was_set}
    assert {(layer, reason) for (layer, _), reason in reasons.items()} == {
        ("given", "embedding with a given table"),
        ("frozen", "frozen"),
        ("lora", "LoRA"),
        ("quantized", "quantized, int8"),
        ("batch", "statistics, see reset_statistics"),
        ("own", "use not known"),
    }
    for row, variable, old in zip(changes.rows, model.weights, before, strict=True):
        assert row.was_set or np.array_equal(numpy(variable), old)
    assert {row.layer for row in changes.rows if row.was_set} == {"batch", "out"}


def test_statistics_are_reset_if_asked_for():
    model = chain(L.BatchNormalization(), L.Dense(2), shape=(4,))
    norm = model.layers[0]
    for variable in norm.weights:
        variable.assign(np.full(4, 7.0))
    reinitialize(model, reset_statistics=True)
    assert [numpy(v).tolist() for v in norm.weights] == [[1.0] * 4, [0.0] * 4, [0.0] * 4, [1.0] * 4]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimizer_forgets_if_asked_but_keeps_its_rate(optimizer):
    model = chain(L.Dense(3, "relu"), L.Dense(1), shape=(4,))
    model.compile(optimizer, "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    model.optimizer.learning_rate = 0.125
    reinitialize(model, reset_optimizer=True)
    assert int(numpy(model.optimizer.iterations)) == 0
    assert float(numpy(model.optimizer.learning_rate)) == 0.125
    slots = [v for v in model.optimizer.variables if len(v.shape)]
    assert not any(numpy(v).any() for v in slots)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_keep_their_dtype(dtype):
    model = keras.Sequential(
        [keras.Input((64,), dtype=dtype), L.Dense(64, "relu", dtype=dtype), L.Dense(8, dtype=dtype)]
    )
    reinitialize(model, seed=0)
    assert [v.dtype for v in model.weights] == [dtype] * 4
    ratio = numpy(model.layers[0].kernel).astype(np.float64).std() / he(64)
    assert ratio == pytest.approx(1, abs=5 / math.sqrt(2 * 64 * 64))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX distributes weights")
def test_weights_keep_their_sharding_and_values():
    import jax

    model = chain(L.Dense(64, "relu"), L.Dense(8), shape=(64,))
    reinitialize(model, seed=5)
    whole = weights(model)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    kernel = model.layers[0].kernel
    kernel.assign(jax.device_put(kernel.value, sharding))
    reinitialize(model, seed=5)
    assert kernel.value.sharding == sharding
    assert all(map(np.array_equal, weights(model).values(), whole.values()))


def test_a_seed_gives_the_same_weights_on_every_backend(golden):
    model = chain(
        L.Embedding(20, 8),
        L.Conv1D(16, 3, activation="gelu"),
        L.GRU(8, return_sequences=True),
        L.SeparableConv1D(8, 3, activation="tanh"),
        L.GlobalAveragePooling1D(),
        L.Dense(4),
        shape=(9,),
    )
    reinitialize(model, seed=1)
    # Orthogonal matrices are equal only up to the rounding of matrix products.
    exact = [v for v in model.weights if v.name != "recurrent_kernel"]
    digests = {
        f"{number}: {v.name}": hashlib.sha256(numpy(v).astype("<f4").tobytes()).hexdigest()[:16]
        for number, v in enumerate(exact)
    }
    golden("reinitialize.json", digests)


def test_without_a_seed_keras_seed_determines_the_weights():
    model = chain(L.Dense(8), shape=(8,))
    results = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        reinitialize(model)
        results.append(numpy(model.layers[0].kernel).tolist())
    assert results[0] == results[1] != results[2]


class Interrupting(keras.initializers.Initializer):
    """Raises an error at its third call."""

    def __init__(self, error):
        self.error, self.calls = error, 0

    def __call__(self, shape, dtype=None):
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return ops.ones(shape, dtype)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_an_interruption_leaves_the_model_as_it_was(error):
    model = chain(*(L.Dense(4, name=f"d{i}") for i in range(4)), shape=(4,))
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 4)), verbose=0)
    before = [numpy(v).tobytes() for v in [*model.variables, *model.optimizer.variables]]
    with pytest.raises(type(error)) as caught:
        reinitialize(model, Interrupting(error), reset_optimizer=True)
    assert caught.value.__notes__ == [
        "`reinitialize` stopped at layer 'd2' (3 of 4). The model is as it was before the call."
    ]
    after = [numpy(v).tobytes() for v in [*model.variables, *model.optimizer.variables]]
    assert after == before


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNetV2"])
def test_applications_are_known_to_the_last_kernel(name):
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=10)
    changes = reinitialize(model, seed=0, reset_statistics=True, residual="gpt2")
    assert [row for row in changes.rows if not row.was_set] == []
    assert sum(row.reason == "output" for row in changes.rows) == 1
    assert changes.notes == ()


MISTAKES = {
    "unbuilt": (
        lambda model: reinitialize(keras.Sequential([L.Dense(2)], name="new")),
        ValueError,
        "`reinitialize` needs a built model. Received: 'new', not built. Call it on data, or "
        "`model.build(input_shape)`.",
    ),
    "no scheme": (
        lambda model: reinitialize(model, None),
        ValueError,
        "`reinitialize(scheme=...)` must be 'auto' or an initializer. Received: scheme=None.",
    ),
    "residual": (
        lambda model: reinitialize(model, residual="gpt3"),
        ValueError,
        "`reinitialize(residual=...)` must be 'gpt2', 'fixup' or None. Received: residual='gpt3'.",
    ),
    "seed": (
        lambda model: reinitialize(model, seed=1.5),
        TypeError,
        "`reinitialize(seed=...)` must be an integer or None. Received: seed=1.5.",
    ),
    "nothing selected": (
        lambda model: reinitialize(model, layers="absent*"),
        ValueError,
        "`reinitialize(layers=...)` must select at least one layer with weights. "
        "Received: layers='absent*'.",
    ),
    "strange layers": (
        lambda model: reinitialize(model, layers=3),
        TypeError,
        "`reinitialize(layers=...)` must be a pattern, a layer or its class, a predicate or "
        "several of them. Received: layers=3.",
    ),
    "no optimizer": (
        lambda model: reinitialize(model, reset_optimizer=True),
        ValueError,
        "`reinitialize(reset_optimizer=True)` needs a compiled model. Received: a model without "
        "an optimizer.",
    ),
    "scheme of Keras": (
        lambda model: reinitialize(model, "he_normal"),
        TypeError,
        "`reinitialize(scheme=...)` needs a scheme of this package for the kernel 'conv/kernel', "
        "whose shape does not tell its fans. Received: a `HeNormal` of another package. "
        "Use a name such as 'winit>he_normal'.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    mistake, error, message = MISTAKES[name]
    model = chain(L.DepthwiseConv1D(3, name="conv"), L.Dense(2), shape=(9, 4))
    before = weights(model)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        mistake(model)
    assert all(map(np.array_equal, weights(model).values(), before.values()))
