"""Pairs of kernels without an activation between them, and what must not count as a pair."""

import keras
import pytest
from keras import layers, ops
from support.setups import setup_of, stack

pytestmark = pytest.mark.backend_independent

Dense, Conv = layers.Dense, layers.Conv2D

PAIRS = {
    "dense": lambda x: Dense(2)(Dense(16, name="one")(x)),
    "dropout between": lambda x: Dense(2)(layers.Dropout(0.1)(Dense(16, name="one")(x))),
    "linear by name": lambda x: Dense(2, "softmax")(Dense(16, "linear", name="one")(x)),
    "no-op flatten": lambda x: Dense(2)(layers.Flatten()(Dense(16, name="one")(x))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_kernels_without_activation_are_a_pair(name):
    inputs = keras.Input((8,))
    pairs = setup_of(keras.Model(inputs, PAIRS[name](inputs))).linear_pairs
    assert [first for first, _ in pairs] == ["one"]


def test_two_convolutions_without_activation_are_a_pair():
    convolutions = Conv(4, 3, name="one"), Conv(4, 3, name="two")
    head = layers.GlobalAveragePooling2D(), Dense(2)
    model = stack(*convolutions, *head, inputs=(8, 8, 1))
    assert setup_of(model).linear_pairs == (("one", "two"),)


def test_each_layer_of_a_linear_stack_starts_a_pair():
    model = stack(*(Dense(16, name=f"d{i}") for i in range(3)), Dense(1, name="out"))
    assert setup_of(model).linear_pairs == (("d0", "d1"), ("d1", "d2"), ("d2", "out"))


class Attention(keras.layers.Layer):
    """Attention by hand, with dense projections."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (Dense(8) for _ in range(4))

    def call(self, x):
        scores = ops.softmax(ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1))))
        return self.out(ops.matmul(scores, self.value(x)))


class LowRank(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.base, self.down, self.up = Dense(8), Dense(2), Dense(8, kernel_initializer="zeros")

    def call(self, x):
        return self.base(x) + self.up(self.down(x))


def residual(x):
    x = Dense(8)(x)
    return Dense(2)(x + Dense(8)(layers.Activation("relu")(Dense(8)(x))))


def transformer(x):
    x = layers.Embedding(8, 8)(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return Dense(2)(layers.GlobalAveragePooling1D()(Dense(8, "relu")(x)))


def separable(x):
    x = layers.Conv2D(8, 1)(layers.Reshape((4, 2, 1))(x))
    x = layers.Conv2D(8, 1)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    return layers.Flatten()(layers.Conv2D(8, 1)(layers.SeparableConv2D(8, 3, padding="same")(x)))


def gated(x):
    x = Dense(8)(x)
    return Dense(2)(Dense(8, "sigmoid")(x) * Dense(8)(x))


def attended(x):
    x = Dense(8, name="patches")(layers.Reshape((4, 2))(x))
    x = Attention()(x)
    return Dense(2)(layers.Flatten()(x))


def after_attention(x):
    x = Attention()(layers.Reshape((4, 2))(x))
    return Dense(2)(layers.GlobalMaxPooling1D()(Dense(8, "relu")(x)))


def before_attention(x):
    x = Dense(8, "relu")(layers.Reshape((4, 2))(x))
    query = Dense(8)(Dense(8)(layers.ReLU()(x)))
    return ops.softmax(ops.matmul(query, ops.transpose(x, (0, 2, 1))))


NO_PAIRS = {
    "activations": lambda x: Dense(2)(Dense(16, "relu")(x)),
    "activation layer": lambda x: Dense(2)(layers.ReLU()(Dense(16)(x))),
    "operation": lambda x: Dense(2)(ops.tanh(Dense(16)(x))),
    "batch norm": lambda x: Dense(2)(layers.BatchNormalization()(Dense(16)(x))),
    "bottleneck": lambda x: Dense(8)(Dense(2)(x)),
    "low rank": lambda x: LowRank()(x),
    "residual": residual,
    "transformer": transformer,
    "attention by hand": attended,
    "separable": separable,
    "gated": gated,
    "embedding": lambda x: Dense(2)(layers.Flatten()(layers.Embedding(8, 4)(x))),
    "output of an attention": after_attention,
    "query of an attention": before_attention,
    "frozen": lambda x: Dense(2)(Dense(16, trainable=False)(x)),
    "pooled": lambda x: Dense(2)(layers.GlobalMaxPooling1D()(Dense(16)(layers.Reshape((4, 2))(x)))),
    "shared over positions": lambda x: Dense(2)(
        layers.Flatten()(Dense(16)(layers.Reshape((4, 2))(x)))
    ),
    "own function": lambda x: Dense(2)(Dense(16, lambda z: z * ops.sin(z))(x)),
    "two heads": lambda x: [Dense(2)(h := Dense(16)(x)), Dense(3)(h)],
}


@pytest.mark.parametrize("name", NO_PAIRS)
def test_no_pair(name):
    inputs = keras.Input((8,), dtype="int32" if name in ("transformer", "embedding") else None)
    assert setup_of(keras.Model(inputs, NO_PAIRS[name](inputs))).linear_pairs == ()


@pytest.mark.parametrize("family", ["MobileNetV2", "MobileNetV3Small"])
def test_no_pair_in_published_networks(family):
    make = getattr(keras.applications, family)
    assert setup_of(make(weights=None, input_shape=(64, 64, 3))).linear_pairs == ()


def test_a_factorized_window_is_no_pair():
    one, other = Conv(4, (1, 2)), Conv(4, (2, 1))
    assert setup_of(stack(one, other, layers.Flatten(), inputs=(4, 4, 1))).linear_pairs == ()


def test_an_output_is_not_the_first_of_a_pair():
    inputs = keras.Input((8,))
    code = Dense(16)(inputs)
    assert setup_of(keras.Model(inputs, [code, Dense(8)(code)])).linear_pairs == ()
