"""Tests of `lsuv`: pre-activations are measured by models that end at each layer."""

import re

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit import lsuv

L = keras.layers
BACKEND = keras.backend.backend()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def outputs(model, layers, x):
    """Return the outputs of some layers of a functional model; these layers have no activation."""
    (inputs,) = model.inputs
    until = keras.Model(inputs, [layer.output for layer in layers])
    return [numpy(y).astype(np.float64) for y in keras.tree.flatten(until(x, training=False))]


def variances(model, x):
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "kernel_initializer")]
    layers += [layer for layer in model.layers if isinstance(layer, L.DepthwiseConv2D)]
    return [float(y.var()) for y in outputs(model, layers, x)]


def stack(*layers, shape):
    return keras.Sequential([keras.Input(shape), *layers])


def values(model):
    return [numpy(variable).tobytes() for variable in model.variables]


KINDS = {
    "dense": (lambda: L.Dense(7), (12,)),
    "conv1d causal": (lambda: L.Conv1D(7, 3, padding="causal"), (9, 12)),
    "conv2d": (lambda: L.Conv2D(7, 3, strides=2, padding="same"), (9, 9, 4)),
    "conv2d grouped": (lambda: L.Conv2D(8, 3, groups=2, use_bias=False), (9, 9, 4)),
    "conv3d": (lambda: L.Conv3D(5, 2), (4, 4, 4, 3)),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4)),
    "separable": (lambda: L.SeparableConv2D(7, 3, depth_multiplier=2), (9, 9, 4)),
    "transposed": (lambda: L.Conv2DTranspose(7, 4, strides=2), (5, 5, 4)),
    "einsum": (lambda: L.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de"), (6, 8)),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(7)), (6, 8)),
}


@pytest.mark.parametrize("options", [{}, {"orthogonal": False}, {"target": 2.5}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_gets_the_variance(kind, options):
    make, shape = KINDS[kind]
    layer, x = make(), normal(16, *shape)
    model = stack(layer, L.Activation("relu"), shape=shape)
    table = lsuv(model, x, seed=1, **options)
    assert all(row.was_set for row in table.rows)
    variance = outputs(model, [layer], x)[0].var()
    assert variance == pytest.approx(options.get("target", 1.0), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_unit_gets_its_own_mean_and_variance(kind):
    make, shape = KINDS[kind]
    layer, x = make(), normal(16, *shape) + 0.5
    lsuv(model := stack(layer, shape=shape), x, seed=1, per_channel=True, center=True)
    units = {"einsum": (2, 3)}.get(kind, (-1,))
    y = outputs(model, [layer], x)[0]
    others = tuple(axis for axis in range(y.ndim) if axis not in {u % y.ndim for u in units})
    np.testing.assert_allclose(y.var(axis=others), 1, rtol=1e-4)
    if kind != "conv2d grouped":  # This layer has no bias.
        np.testing.assert_allclose(y.mean(axis=others), 0, atol=1e-5)


def test_separable_kernels_share_the_factor():
    layer = L.SeparableConv2D(7, 3)
    model = stack(layer, shape=(9, 9, 4))
    before = [numpy(kernel).copy() for kernel in layer.weights[:2]]
    lsuv(model, normal(16, 9, 9, 4), orthogonal=False)
    factors = [numpy(k) / b for k, b in zip(layer.weights[:2], before, strict=True)]
    assert np.ptp(factors[0]) < 1e-5
    np.testing.assert_allclose(factors[0].mean(), factors[1].mean(), rtol=1e-5)


def test_one_pass_gives_what_the_loop_of_the_paper_gives():
    x = normal(64, 12)
    model = stack(L.Dense(20, "tanh"), L.Dense(15, "relu"), L.Dense(5), shape=(12,))
    weights = [numpy(layer.kernel).astype(np.float64) for layer in model.layers]
    signal = x.astype(np.float64)
    for kernel, function in zip(
        weights, [np.tanh, lambda z: np.maximum(z, 0), lambda z: z], strict=True
    ):
        while abs((signal @ kernel).var() - 1) > 1e-12:
            kernel /= (signal @ kernel).std()
        signal = function(signal @ kernel)
    lsuv(model, x, orthogonal=False)
    for layer, kernel in zip(model.layers, weights, strict=True):
        np.testing.assert_allclose(numpy(layer.kernel), kernel, rtol=1e-4, atol=1e-6)


def test_the_start_is_orthogonal_and_follows_the_seed():
    def kernel(seed):
        model = stack(L.Conv2D(6, 3), L.Conv2D(6, 3), shape=(9, 9, 4))
        lsuv(model, normal(8, 9, 9, 4), seed=seed)
        return [numpy(layer.kernel) for layer in model.layers]

    first, second = kernel(3)
    np.testing.assert_array_equal(first, kernel(3)[0])
    assert not np.array_equal(first, kernel(4)[0])
    matrix = first.reshape(36, 6).astype(np.float64)
    gram = matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(6) * gram[0, 0], atol=1e-5 * gram[0, 0])
    assert not np.allclose(first[..., :4, :], second[..., :4, :])


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("MobileNetV2", {"alpha": 0.35}),
        pytest.param(
            *("ResNet50", {"orthogonal": False}),
            marks=pytest.mark.skipif(
                BACKEND == "jax", reason="outside of jit, JAX compiles every operation by itself"
            ),
        ),
    ],
)
def test_application_models_get_the_variance_at_every_layer(network, options):
    x = normal(8, 32, 32, 3)
    alpha = {"alpha": options.pop("alpha")} if "alpha" in options else {}
    model = getattr(keras.applications, network)(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None, **alpha
    )
    table = lsuv(model, x, seed=1, **options)
    found = variances(model, x)
    assert len(found) == len(table.rows) == {"MobileNetV2": 53, "ResNet50": 54}[network]
    np.testing.assert_allclose(found, 1, atol=1e-4)


def test_a_deep_network_of_layers_with_activations():
    x = normal(64, 24)
    model = stack(*[L.Dense(24, "gelu") for _ in range(12)], shape=(24,))
    lsuv(model, x, seed=1)
    signal = x
    for layer in model.layers:
        pre_activations = signal @ numpy(layer.kernel)
        assert pre_activations.var(dtype=np.float64) == pytest.approx(1, abs=1e-4)
        signal = numpy(keras.ops.gelu(pre_activations, approximate=False))


@pytest.mark.parametrize("kind", ["MultiHeadAttention", "GroupQueryAttention"])
def test_the_projections_of_attention_get_the_variance(kind):
    x = normal(8, 6, 16)
    inputs = keras.Input((6, 16))
    attention = L.MultiHeadAttention(4, 5) if kind[0] == "M" else L.GroupQueryAttention(5, 4, 2)
    model = keras.Model(inputs, attention(inputs, inputs))
    table = lsuv(model, x, seed=1)
    assert sum(row.was_set for row in table.rows) == 4
    for inner in (attention._query_dense, attention._key_dense, attention._value_dense):
        assert numpy(inner(x)).var() == pytest.approx(1, abs=1e-4)
    assert numpy(model(x, training=False)).var() == pytest.approx(1, abs=1e-4)


class Blocks(keras.Model):
    """A subclassed model whose second layer is called twice, and whose last one never."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.unused = L.Dense(8, "tanh"), L.Dense(8), L.Dense(3)
        self.unused.build((None, 8))

    def call(self, x):
        return self.twice(self.twice(self.first(x)))


def test_subclassed_models_and_layers_that_are_called_twice():
    x = normal(32, 5)
    table = lsuv(model := Blocks(), x, seed=1)  # `lsuv` builds the model on the batch.
    hidden = model.first(x)
    assert numpy(model.twice(hidden)).var() == pytest.approx(1, abs=1e-4)
    reasons = {row.layer: row.reason for row in table.rows}
    assert reasons["dense_unused" if "dense_unused" in reasons else model.unused.name] == (
        "not called"
    )
    assert reasons[model.twice.name].endswith("; its first call counts")
    assert [row.was_set for row in table.rows] == [True, True, False]


def test_nested_models_within_time_distributed():
    inner = stack(L.Conv1D(4, 3, activation="relu"), L.Flatten(), L.Dense(3), shape=(8, 2))
    model = stack(L.TimeDistributed(inner), shape=(5, 8, 2))
    x = normal(16, 5, 8, 2)
    assert lsuv(model, x, seed=1).title == "lsuv: 2 of 2 weights set"
    assert numpy(model(x)).var() == pytest.approx(1, abs=1e-4)


class Own(L.Layer):
    def build(self, shape):
        self.weight = self.add_weight(shape=(shape[-1], 4), name="weight")

    def call(self, x):
        return x @ self.weight


def frozen():
    layer = L.Dense(4)
    layer.trainable = False
    return layer


def with_lora():
    layer = L.Dense(4)
    layer.build((None, 6))
    layer.enable_lora(2)
    return layer


LEFT = {
    "recurrent": (lambda: L.LSTM(4), "runs in a loop over time"),
    "frozen": (frozen, "frozen"),
    "lora": (with_lora, "has a LoRA update"),
    "unknown": (Own, "how Own uses it is not known"),
    "normalized": (
        lambda: L.SpectralNormalization(L.Dense(4)),
        "spectral normalization sets its scale",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_layers_that_are_left_alone_and_why(case):
    make, reason = LEFT[case]
    layer = make()
    model = stack(L.Dense(6), layer, L.Flatten(), L.Dense(2, name="last"), shape=(3, 5))
    before = [numpy(variable).tobytes() for variable in layer.variables]
    table = lsuv(model, normal(8, 3, 5), seed=1)
    rows = [row for row in table.rows if row.layer.startswith(layer.name)]
    assert rows
    assert {(row.was_set, row.reason) for row in rows} == {(False, reason)}
    assert [numpy(variable).tobytes() for variable in layer.variables] == before


@pytest.mark.parametrize("orthogonal", [True, False])
def test_layers_with_constant_outputs_are_left(orthogonal):
    layer = L.Dense(4)
    model = stack(L.Dense(6), L.Rescaling(0.0), layer, shape=(5,))
    before = numpy(layer.kernel).tobytes()
    rows = lsuv(model, normal(8, 5), orthogonal=orthogonal).rows
    assert [row.reason for row in rows][1] == "constant on the batch"
    assert numpy(layer.kernel).tobytes() == before


def test_embeddings_are_left_alone():
    model = stack(L.Embedding(20, 8), L.Dense(4), shape=(6,))
    rows = lsuv(model, np.arange(60).reshape(10, 6) % 20, seed=1).rows
    assert [row.reason for row in rows if row.weight == "embeddings"] == [
        "a look-up has no pre-activation"
    ]


@pytest.mark.parametrize("select", ["name", "object", "predicate"])
def test_selected_layers(select):
    model = stack(L.Dense(6, name="a"), L.Dense(4, name="b"), shape=(5,))
    before = numpy(model.get_layer("a").kernel).tobytes()
    layers = {"name": ["b"], "object": [model.get_layer("b")], "predicate": lambda y: y.name == "b"}
    rows = {row.layer: row for row in lsuv(model, normal(9, 5), layers=layers[select]).rows}
    assert rows["b"].was_set
    assert rows["a"].reason == "not among the selected layers"
    assert numpy(model.get_layer("a").kernel).tobytes() == before


def test_biases_stay_as_they_are():
    layer = L.Conv2D(7, 3, bias_initializer=keras.initializers.RandomNormal(stddev=0.4, seed=2))
    model = stack(layer, shape=(9, 9, 4))
    before, x = numpy(layer.bias).tobytes(), normal(16, 9, 9, 4)
    lsuv(model, x, seed=1)
    assert numpy(layer.bias).tobytes() == before
    assert outputs(model, [layer], x)[0].var() == pytest.approx(1, abs=1e-4)


def test_a_bias_that_is_larger_than_the_target():
    model = stack(L.Dense(4), L.Dense(3), shape=(5,))
    model.layers[0].bias.assign(np.array([3.0, -3.0, 3.0, -3.0]))
    rows = lsuv(model, normal(20, 5)).rows
    assert rows[0].reason == "its bias alone has the variance 9"


def test_statistics_and_seeds_stay_as_they_are():
    class Noise(L.Layer):
        def __init__(self):
            super().__init__()
            self.generator = keras.random.SeedGenerator(3)

        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x), seed=self.generator)

    model = stack(L.Dense(4), Noise(), L.BatchNormalization(), L.Dropout(0.5), shape=(5,))
    before = values(model)[1:]  # These are all values except the kernel.
    lsuv(model, normal(20, 5))
    assert values(model)[1:] == before


def test_16_bit_layers():
    layer = L.Dense(16, dtype="mixed_float16")
    x = normal(64, 12)
    lsuv(model := stack(layer, shape=(12,)), x, seed=1)
    assert outputs(model, [layer], x)[0].var() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_squares_beyond_the_range_of_float32(scale):
    layer, x = L.Dense(6), normal(16, 8) * np.float32(scale)
    lsuv(model := stack(layer, shape=(8,)), x, seed=1)
    assert outputs(model, [layer], x)[0].var() == pytest.approx(1, abs=1e-4)


X = normal(40, 5, seed=8)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[:16], np.zeros(16), np.ones(16)


def tensor_batches():
    if BACKEND == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.zeros(40))
        return torch.utils.data.DataLoader(pairs, batch_size=16)
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, np.zeros(40))).batch(16)


BATCHES = {
    "array": (lambda: X, X),
    "numbers": (lambda: X.tolist(), X),
    "tensor": (lambda: keras.ops.convert_to_tensor(X), X),
    "PyDataset": (Batches, X[:16]),
    "tensors": (tensor_batches, X[:16]),
    "generator": (lambda: (batch for batch in [X[:16], X[16:]]), X[:16]),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_data_of_every_kind(kind):
    make, used = BATCHES[kind]
    layer = L.Dense(6)
    lsuv(model := stack(layer, shape=(5,)), make(), seed=1)
    assert outputs(model, [layer], used)[0].var() == pytest.approx(1, abs=1e-5)


def test_samples_are_spaced_evenly():
    layer = L.Dense(6)
    lsuv(model := stack(layer, shape=(5,)), X, samples=14, seed=1)
    assert outputs(model, [layer], X[::3])[0].var() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("container", [list, dict])
def test_several_inputs(container):
    inputs = [keras.Input((5,), name="a"), keras.Input((3,), name="b")]
    layers = [L.Dense(4), L.Dense(4)]
    sides = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    arrays = [normal(16, 5), normal(16, 3)]
    data = dict(zip("ab", arrays, strict=True)) if container is dict else arrays
    structure = dict(zip("ab", inputs, strict=True)) if container is dict else inputs
    lsuv(keras.Model(structure, L.add(sides)), data, seed=1)
    for layer, x in zip(layers, arrays, strict=True):
        assert (x @ numpy(layer.kernel)).var() == pytest.approx(1, abs=1e-4)


class Failing(L.Layer):
    error = None

    def call(self, x):
        if self.error is not None:
            raise self.error
        return x


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_after_an_error_the_model_is_as_before(error):
    failing = Failing()
    model = stack(L.Dense(4, "relu"), L.Dense(3), failing, L.Dense(2), shape=(5,))
    failing.error = error()
    before = values(model)
    attributes = [set(layer.__dict__) for layer in model._flatten_layers()]
    with pytest.raises(error) as caught:
        lsuv(model, normal(9, 5))
    assert values(model) == before
    assert [set(layer.__dict__) for layer in model._flatten_layers()] == attributes
    assert caught.value.__notes__[-1] == (
        f"`lsuv` stopped at layer {model.layers[1].name!r} (2 of 3). The model is as it was "
        f"before the call."
    )


def test_nothing_stays_patched():
    model = stack(L.Dense(4, "relu"), L.TimeDistributed(L.Dense(3)), shape=(5, 2))
    before = [dict(layer.__dict__) for layer in model._flatten_layers()]
    lsuv(model, normal(9, 5, 2))
    for layer, attributes in zip(model._flatten_layers(), before, strict=True):
        assert layer.__dict__.keys() == attributes.keys()
        assert getattr(layer, "activation", None) is attributes.get("activation")


def test_centred_deep_networks_get_a_warning():
    # Expects E[f'^2] / Var[f] of ReLU, .5 / (.5 - 1 / (2 pi)) = 1.467, to the power of 19.
    model = stack(*[L.Dense(16, "relu") for _ in range(20)], shape=(16,))
    text = "Squared gradients grow by a factor of about 1.5e+03 along a chain of 19 layers"
    with pytest.warns(UserWarning, match=re.escape(text)):
        table = lsuv(model, normal(64, 16), per_channel=True, center=True)
    assert text in str(table)


def test_networks_with_normalization_get_no_warning():
    pairs = [layer for _ in range(20) for layer in (L.Dense(16, "relu"), L.LayerNormalization())]
    assert (
        lsuv(stack(*pairs, shape=(16,)), normal(64, 16), center=True, per_channel=True).notes == ()
    )


ERRORS = {
    "model": (
        lambda: lsuv("model", X),
        TypeError,
        "`lsuv(model=...)` must be a model or a layer. Received: model='model'.",
    ),
    "target": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), X, target=0),
        ValueError,
        "`lsuv(target=...)` must be a number > 0. Received: target=0.",
    ),
    "target type": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), X, target="1"),
        TypeError,
        "`lsuv(target=...)` must be a number > 0. Received: target='1'.",
    ),
    "samples": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), X, samples=0),
        ValueError,
        "`lsuv(samples=...)` must be an integer >= 1. Received: samples=0.",
    ),
    "samples type": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), X, samples=1.5),
        TypeError,
        "`lsuv(samples=...)` must be an integer >= 1. Received: samples=1.5.",
    ),
    "layers": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), X, layers=["other"]),
        ValueError,
        "`lsuv(layers=...)` must select at least one layer with kernels. "
        "Received: layers=['other'].",
    ),
    "no kernel": (
        lambda: lsuv(stack(L.ReLU(), shape=(5,)), X),
        ValueError,
        "`lsuv` needs a layer whose outputs vary on the batch. Received: no layer that it can set.",
    ),
    "constant": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), 0 * X),
        ValueError,
        "`lsuv` needs a layer whose outputs vary on the batch. Received: constant outputs.",
    ),
    "not finite": (
        lambda: lsuv(stack(L.Dense(2, name="d"), shape=(5,)), X * np.nan),
        ValueError,
        "`lsuv` needs finite pre-activations. Received: nan at layer 'd'. Look for NaN and inf in "
        "the data and in the weights.",
    ),
    "no sample": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), X[:0]),
        ValueError,
        "`data` must hold samples. Received: no sample.",
    ),
    "no batch": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), iter([])),
        ValueError,
        "`data` must hold a batch. Received: no batch.",
    ),
    "no data": (
        lambda: lsuv(stack(L.Dense(2), shape=(5,)), None),
        TypeError,
        "`data` must be arrays or batches of arrays. Received: data=None.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error) as caught:
        call()
    # Keras adds where in the model the error was raised.
    assert message in str(caught.value)
