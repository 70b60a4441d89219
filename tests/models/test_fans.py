"""Tests of `fans` against counts made by hand, for every kind of layer."""

import keras
import pytest

from keras_winit import fans

L = keras.layers

# A layer, its input shape (one for each input), and the fans of each kernel.
BY_HAND = {
    "dense": (lambda: L.Dense(8), (None, 5), {"kernel": (5, 8)}),
    "conv": (
        lambda: L.Conv2D(64, 3, strides=2, groups=4),
        (None, 32, 32, 16),
        {"kernel": (36, 36)},
    ),
    "conv, fractional": (lambda: L.Conv1D(5, 3, strides=2), (None, 9, 4), {"kernel": (12, 7.5)}),
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
    "bidirectional": (
        lambda: L.Bidirectional(L.GRU(6, name="gru")),
        (None, 5, 16),
        {
            "forward_gru/kernel": (16, 6),
            "forward_gru/recurrent_kernel": (6, 6),
            "backward_gru/kernel": (16, 6),
            "backward_gru/recurrent_kernel": (6, 6),
        },
    ),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(6)), (None, 5, 16), {"kernel": (16, 6)}),
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


class CustomDense(L.Dense):
    """A dense layer with its own `call`."""

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.matmul(self.kernel, self.kernel))


class CustomComposite(L.Layer):
    """A layer with a weight and an inner layer."""

    def build(self, shape):
        self.table = self.add_weight(shape=(3, 4), name="table")
        self.inner = L.Dense(5, name="inner")
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)


def test_custom_layers_give_none_and_their_inner_layers_their_fans():
    dense = CustomDense(6)
    dense.build((None, 6))
    assert fans(dense) == {"kernel": None}
    composite = CustomComposite()
    composite.build((None, 6))
    assert fans(composite) == {"table": None, "inner/kernel": (6, 5)}


def test_a_shared_layer_of_a_model_counts_once():
    shared = L.Dense(8, name="shared")
    nested = keras.Sequential([keras.Input((8,)), shared, L.Dense(4, name="last")], name="nested")
    inputs = keras.Input((8,))
    model = keras.Model(inputs, nested(shared(L.Dropout(0.1)(inputs))))
    assert set(fans(model).values()) == {(8, 8), (8, 4)}
    assert len(fans(model)) == 2


def test_kernels_of_one_name_are_numbered():
    composite = CustomComposite()
    composite.first, composite.second = L.Dense(2, name="same"), L.Dense(3, name="same")
    for layer in (composite, composite.first, composite.second):
        layer.build((None, 4))
    assert fans(composite)["same/kernel"] == (4, 2)
    assert fans(composite)["same/kernel@2"] == (4, 3)


def test_a_dense_layer_with_lora_keeps_its_fans():
    layer = L.Dense(8)
    layer.build((None, 5))
    layer.enable_lora(2)
    assert fans(layer)["kernel"] == (5, 8)


def test_a_layer_must_be_built():
    with pytest.raises(ValueError, match="built") as caught:
        fans(L.Dense(8, name="new"))
    assert str(caught.value) == (
        "`fans` needs a built layer. Received: 'new', not built. Call it on data, or "
        "`layer.build(input_shape)`."
    )
