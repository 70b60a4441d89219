"""Tests of `inspect_kernels`: what follows each kernel, and what it is for."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_winit.models.inspect import inspect_kernels

L = keras.layers


def described(model, *attributes, **options):
    """Inspect a model and return the chosen attributes of each kernel, by its name."""
    inspection = inspect_kernels(model, **options)
    assert inspection.method == "symbolic"
    return {
        context.name: tuple(getattr(context, name) for name in attributes)
        for context in inspection.kernels
    }


def followed_by(model):
    """Return the activations that follow each kernel, as texts, by the name of the kernel."""
    contexts = inspect_kernels(model).kernels
    return {context.name: [str(one) for one in context.activations] for context in contexts}


def chain(*layers, shape=(8, 8, 4), name=None):
    return keras.Sequential([keras.Input(shape), *layers], name=name)


PARALLEL = {
    "two sums": lambda x, f, g: (x + f(x)) + g(x),
    "the branches first": lambda x, f, g: x + (f(x) + g(x)),
    "a layer of three terms": lambda x, f, g: L.Add()([f(x), x, g(x)]),
}


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_branches_are_two_branches(name):
    inputs = keras.Input((4,))
    f = chain(L.Dense(8, "relu", name="f1"), L.Dense(8, "relu", name="f2"), shape=(4,), name="f")
    f.add(L.Dense(4, name="f3"))
    g = chain(L.Dense(8, "relu", name="g1"), L.Dense(4, name="g2"), shape=(4,), name="g")
    x = L.Dense(4, name="before")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="after")(PARALLEL[name](x, f, g)))
    of_kernels = described(model, "branch", "ends_branch", "branch_kernels")
    found = {name.removesuffix("/kernel"): facts for name, facts in of_kernels.items()}
    f_branch, g_branch = found["f/f1"][0], found["g/g1"][0]
    assert None not in (f_branch, g_branch)
    assert f_branch != g_branch
    assert found == {
        "before": (None, False, 0),
        "f/f1": (f_branch, False, 3),
        "f/f2": (f_branch, False, 3),
        "f/f3": (f_branch, True, 3),
        "g/g1": (g_branch, False, 2),
        "g/g2": (g_branch, True, 2),
        "after": (None, False, 0),
    }


def test_the_mask_of_an_embedding_is_no_input():
    inputs = keras.Input((6,))  # The words are numbers, stored as floats.
    words = L.Embedding(9, 4, mask_zero=True, name="words")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="out")(L.LSTM(3, name="lstm")(words)))
    assert described(model, "takes_raw_input") == {
        "words/embeddings": (True,),
        **{f"lstm/lstm_cell/{name}": (False,) for name in ("kernel", "recurrent_kernel")},
        "out/kernel": (False,),
    }


# Layers between a convolution and a ReLU, and whether the scale of the kernel matters there.
BETWEEN = {
    "batch normalization": ([L.BatchNormalization()], True),
    "dropout": ([L.Dropout(0.5)], False),
    "pooling": ([L.MaxPooling2D()], False),
    "reshape": ([L.Reshape((64, 4))], False),
    "several": ([L.Dropout(0.1), L.BatchNormalization(), L.Flatten()], True),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_the_activation_is_found_through_layers_without_kernels(name):
    between, normalized = BETWEEN[name]
    model = chain(
        L.Conv2D(4, 3, padding="same", name="conv"), *between, L.ReLU(), L.Dense(3, name="out")
    )
    (context, _) = inspect_kernels(model).kernels
    assert ([str(one) for one in context.activations], context.normalized) == (["relu"], normalized)
    assert context.next_kernels == ("out/kernel",)


class Inline(keras.Model):
    """Applies activations with operations, not layers."""

    def __init__(self):
        super().__init__()
        for name in "abcdef":
            setattr(self, name, L.Dense(4, name=name))

    def call(self, x):
        x = ops.relu(ops.reshape(self.a(x), (-1, 4)) * 2.0)
        hidden = self.b(x)
        x = hidden * ops.sigmoid(hidden)
        x = ops.maximum(self.c(x), 0.0)
        x = ops.leaky_relu(self.d(x), 0.3) + x
        x = ops.sigmoid(self.e(x)) * x
        return ops.softmax(self.f(x))


def test_operations_inside_a_call_are_followed():
    model = Inline()
    model(np.zeros((1, 3), np.float32))
    assert followed_by(model) == {
        "a/kernel": ["relu"],
        "b/kernel": ["silu"],
        "c/kernel": ["relu"],
        "d/kernel": ["leaky_relu(negative_slope=0.3)"],
        "e/kernel": ["sigmoid"],
        "f/kernel": ["softmax"],
    }
    assert described(model, "gate", "head") == {
        **dict.fromkeys(["a/kernel", "b/kernel", "c/kernel", "d/kernel"], (False, False)),
        "e/kernel": (True, False),
        "f/kernel": (False, True),
    }


def test_several_consumers_give_several_activations_the_nearest_first():
    inputs = keras.Input((4,))
    x = L.Dense(4, name="dense")(inputs)
    near, far = L.ReLU()(x), L.Activation("tanh")(L.Dropout(0.1)(L.LayerNormalization()(x)))
    model = keras.Model(inputs, L.Dense(2, name="out")(L.Concatenate()([near, far])))
    assert followed_by(model)["dense/kernel"] == ["relu", "tanh"]
    assert described(model, "next_kernels")["dense/kernel"] == (("out/kernel",),)


def residual(x, name, *, normalize):
    y = L.BatchNormalization()(x) if normalize else x
    y = L.Dense(8, "relu", name=f"{name}_1")(y)
    return L.Add()([x, L.Dense(8, name=f"{name}_2")(y)])


@pytest.mark.parametrize("normalize", [True, False])
def test_residual_branches_end_at_their_last_kernel(normalize):
    inputs = keras.Input((8,))
    x = residual(residual(inputs, "one", normalize=normalize), "two", normalize=normalize)
    model = keras.Model(inputs, L.Dense(2, name="out")(x))
    assert inspect_kernels(model).branches == 2
    facts = described(model, "branch", "ends_branch", "branch_kernels", "branch_normalized")
    assert facts == {
        "one_1/kernel": (0, False, 2, normalize),
        "one_2/kernel": (0, True, 2, normalize),
        "two_1/kernel": (1, False, 2, normalize),
        "two_2/kernel": (1, True, 2, normalize),
        "out/kernel": (None, False, 0, False),
    }


def test_a_normalization_before_the_sum_undoes_the_scale_of_a_branch_but_not_one_after_it():
    inputs = keras.Input((8,))
    before = L.Add()([inputs, L.BatchNormalization()(L.Dense(8, name="before")(inputs))])
    after = L.BatchNormalization()(L.Add()([before, L.Dense(8, name="after")(before)]))
    model = keras.Model(inputs, L.Dense(2)(after))
    facts = described(model, "normalized", "branch_normalized")
    assert (facts["before/kernel"], facts["after/kernel"]) == ((True, True), (False, True))


@pytest.mark.parametrize("layer", [L.MultiHeadAttention(2, 3), L.GroupQueryAttention(3, 4, 2)])
def test_the_kernels_of_attention_have_their_roles_and_fans(layer):
    inputs = keras.Input((5, 12))
    model = keras.Model(inputs, layer(inputs, inputs))
    facts = described(model, "role", "fans")
    roles = {name.split("/")[-2]: value for name, value in facts.items()}
    heads = 6 if isinstance(layer, L.MultiHeadAttention) else 12
    assert roles == {
        "query": ("query", (12, heads)),
        "key": ("key", (12, 6)),
        "value": ("value", (12, 6)),
        "attention_output": ("attention output", (heads, 12)),
    }


class HandWritten(keras.Model):
    """Attention of dense layers and operations, packed or not."""

    def __init__(self, packed):
        super().__init__()
        self.packed = packed
        self.qkv = L.Dense(24, name="qkv")
        self.q, self.k, self.v = (L.Dense(8, name=name) for name in "qkv")
        self.out, self.hidden = L.Dense(8, name="out"), L.Dense(8, "relu", name="hidden")

    def call(self, x):
        q, k, v = (
            ops.split(self.qkv(x), 3, axis=-1) if self.packed else (self.q(x), self.k(x), self.v(x))
        )
        weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 8**0.5)
        return self.hidden(self.out(ops.matmul(weights, v)))


@pytest.mark.parametrize("packed", [True, False])
def test_hand_written_attention_is_found_by_its_products(packed):
    model = HandWritten(packed)
    model(np.zeros((1, 5, 8), np.float32))
    facts = described(model, "in_product")
    inner = ["qkv/kernel"] if packed else ["q/kernel", "k/kernel", "v/kernel"]
    expected = dict.fromkeys([*inner, "out/kernel"], (True,)) | {"hidden/kernel": (False,)}
    assert {name: facts[name] for name in expected} == expected


def test_embeddings_are_told_by_their_use():
    tokens, segments = keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="int32")
    summed = L.Add()([L.Embedding(9, 4, name="a")(tokens), L.Embedding(2, 4, name="b")(segments)])
    table = L.ReversibleEmbedding(9, 4, name="tied")
    alone = L.Embedding(9, 4, name="alone")(tokens)
    hidden = L.Dense(4, name="dense")(L.Concatenate()([summed, alone, table(tokens)]))
    model = keras.Model([tokens, segments], table(hidden, reverse=True))
    facts = described(model, "role", "summed", "tied", "calls")
    assert facts == {
        "a/embeddings": ("embedding", 2, False, 1),
        "b/embeddings": ("embedding", 2, False, 1),
        "alone/embeddings": ("embedding", 1, False, 1),
        "tied/embeddings": ("embedding", 1, True, 2),
        "dense/kernel": ("kernel", 1, False, 1),
    }


class Positions(keras.Model):
    """Adds an embedding of constant positions; computes the output with the transposed table."""

    def __init__(self, tied):
        super().__init__()
        self.tokens, self.positions = L.Embedding(9, 4, name="t"), L.Embedding(5, 4, name="p")
        self.tied, self.out = tied, L.Dense(9, name="out")

    def call(self, x):
        x = self.tokens(x) + self.positions(ops.arange(5))
        table = self.tokens.embeddings
        return ops.matmul(x, ops.transpose(table)) if self.tied else self.out(x)


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_of_constant_positions_belong_to_the_sum(tied):
    model = Positions(tied)
    model(np.zeros((1, 5), np.int32))
    facts = described(model, "summed", "tied")
    assert facts["t/embeddings"] == facts["p/embeddings"] == (2, tied)


def test_gates_and_recurrences_are_told_apart():
    model = chain(
        L.Bidirectional(L.LSTM(3, return_sequences=True), name="both"),
        L.GRU(3, return_sequences=True, name="gru"),
        L.SimpleRNN(3, name="simple"),
        L.Dense(2, name="out"),
        shape=(5, 4),
    )
    described_kernels = described(model, "role", "fans", "head")
    # Keras numbers the layers that a process makes.
    facts = {
        re.sub(r"(cell|lstm)_\d+", r"\1", name): value for name, value in described_kernels.items()
    }
    assert facts == {
        "both/forward_lstm/lstm_cell/kernel": ("gates", (4, 3), False),
        "both/forward_lstm/lstm_cell/recurrent_kernel": ("recurrent", (3, 3), False),
        "both/backward_lstm/lstm_cell/kernel": ("gates", (4, 3), False),
        "both/backward_lstm/lstm_cell/recurrent_kernel": ("recurrent", (3, 3), False),
        "gru/gru_cell/kernel": ("gates", (6, 3), False),
        "gru/gru_cell/recurrent_kernel": ("recurrent", (3, 3), False),
        "simple/simple_rnn_cell/kernel": ("gates", (3, 3), False),
        "simple/simple_rnn_cell/recurrent_kernel": ("recurrent", (3, 3), False),
        "out/kernel": ("kernel", (3, 2), True),
    }


def test_a_model_that_ends_with_a_rectifier_a_norm_or_a_sum_has_no_head():
    for ends in ([L.ReLU()], [L.BatchNormalization()], [L.GlobalAveragePooling2D(), L.ReLU()]):
        model = chain(L.Conv2D(4, 3), *ends)
        assert [context.head for context in inspect_kernels(model).kernels] == [False]
    inputs = keras.Input((8,))
    summed = keras.Model(inputs, residual(inputs, "one", normalize=True))
    assert not any(context.head for context in inspect_kernels(summed).kernels)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid", "tanh", "softplus"])
def test_a_last_kernel_before_an_output_activation_is_a_head(activation):
    model = chain(L.Dense(8, "relu"), L.Dense(3), L.Activation(activation), shape=(4,))
    assert [context.head for context in inspect_kernels(model).kernels] == [False, True]


def test_shared_and_nested_layers_are_listed_once_with_their_calls():
    block = chain(L.Dense(4, "relu", name="inner"), shape=(4,))
    block.name = "block"
    one, two = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([one, two], L.Dense(1, name="out")(L.Subtract()([block(one), block(two)])))
    assert described(model, "calls", "next_kernels") == {
        "block/inner/kernel": (2, ("out/kernel",)),
        "out/kernel": (1, ()),
    }


def test_a_shared_layer_is_followed_from_every_call():
    shared = L.Dense(4, name="shared")
    one, two = keras.Input((4,)), keras.Input((4,))
    hidden = L.Dense(1, name="out")(L.Activation("tanh")(shared(two)))
    model = keras.Model([one, two], [shared(one), hidden])
    assert described(model, "calls", "next_kernels", "head") == {
        "shared/kernel": (2, ("out/kernel",), False),
        "out/kernel": (1, (), True),
    }
    (kernel, _) = inspect_kernels(model).kernels
    assert [str(activation) for activation in kernel.activations] == ["tanh"]


def test_a_separable_convolution_has_two_kernels_one_after_the_other():
    model = chain(L.SeparableConv2D(5, 3, activation="relu", name="s"), L.Flatten(), L.Dense(2))
    facts = followed_by(model)
    assert facts["s/depthwise_kernel"] == []
    assert facts["s/pointwise_kernel"] == ["relu"]
    assert described(model, "next_kernels")["s/depthwise_kernel"] == (("s/pointwise_kernel",),)


class Untraceable(keras.Model):
    """A model that cannot be traced, because its `call` reads a value."""

    def __init__(self):
        super().__init__()
        self.second, self.first = L.Dense(2, name="second"), L.Dense(4, name="first")
        self.dropout, self.relu = L.Dropout(0.5), L.ReLU()

    def call(self, x, training=False):
        x = self.dropout(self.relu(self.first(x)), training=training)
        return self.second(x if float(ops.sum(x)) >= 0 else -x)


def test_a_model_that_cannot_be_traced_is_run():
    model = Untraceable()
    data = np.zeros((1, 3), np.float32)
    model(data)
    # Only on torch, Keras keeps the shapes with which such a model was built.
    inspection = inspect_kernels(model, data=None if keras.backend.backend() == "torch" else data)
    assert inspection.method == "eager"
    assert inspection.sentence.startswith(
        "The model was run on a batch, which shows neither sums nor operations: tracing it raised "
    )
    first, second = inspection.kernels
    assert (first.name, str(first.activation), first.next_kernels) == (
        "first/kernel",
        "relu",
        ("second/kernel",),
    )
    assert (second.name, second.activation, second.head) == ("second/kernel", None, True)


class Stubborn(Untraceable):
    """A model that refuses zeros, with which models are tried out."""

    def call(self, x):
        if float(ops.max(ops.abs(x))) == 0:
            raise ValueError("no zeros, please")
        return super().call(x)


def test_data_is_used_where_zeros_do_not_serve():
    model = Stubborn()
    data = np.ones((2, 3), np.float32)
    model(data)
    assert inspect_kernels(model, data=data).method == "eager"
    inspection = inspect_kernels(model)
    assert inspection.method == "order"
    assert inspection.sentence.startswith("The layers were taken for a sequence")


@pytest.mark.parametrize("kind", [Inline, Untraceable])
def test_inspection_leaves_the_model_as_it_was(kind):
    model = kind()
    data = np.ones((2, 3), np.float32)
    model(data)
    generator_states = [ops.convert_to_numpy(v).tolist() for v in model.variables]
    before = ops.convert_to_numpy(model(data))
    call = keras.layers.Layer.__call__
    inspect_kernels(model)
    assert keras.layers.Layer.__call__ is call
    np.testing.assert_array_equal(ops.convert_to_numpy(model(data)), before)
    assert [ops.convert_to_numpy(v).tolist() for v in model.variables] == generator_states
