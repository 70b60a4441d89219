"""Layers whose output is only the scores of attention, in every form that attention takes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_winit.models.graph import trace_calls, try_trace
from keras_winit.models.layers import describe_layers
from keras_winit.models.names import Names

pytestmark = pytest.mark.backend_independent


def scores_in(outputs, inputs):
    model = keras.Model(inputs, layers.Dense(2, name="classes")(outputs))
    parts = describe_layers(model, Names(model), try_trace(model)).values()
    return {part.name for part in parts if part.makes_scores and part.kernels}


def sequence():
    return keras.Input((8, 16))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.MultiHeadAttention(2, 8, **options),
        lambda **options: layers.GroupQueryAttention(8, 4, 2, **options),
    ],
    ids=["multi-head", "grouped"],
)
def test_queries_and_keys_of_attention_with_and_without_a_fused_operation(make, dropout):
    x = sequence()
    assert scores_in(make(dropout=dropout)(x, x), x) == {"query", "key"}


def test_queries_and_keys_with_flash_attention():
    x = sequence()
    layer = layers.MultiHeadAttention(2, 8, flash_attention=True)
    assert scores_in(layer(x, x), x) == {"query", "key"}


@pytest.mark.parametrize(
    ("arguments", "names"), [("qvk", {"q", "k"}), ("qv", {"q"}), ("vv", set())]
)
@pytest.mark.parametrize("kind", [layers.Attention, layers.AdditiveAttention])
def test_attention_layers_without_kernels(kind, arguments, names):
    x = sequence()
    dense = {name: layers.Dense(8, name=name)(x) for name in "qkv"}
    assert scores_in(kind()([dense[name] for name in arguments]), x) == names


def custom(query, key, value):
    scores = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))) / 3)
    return ops.matmul(scores, value)


def test_attention_by_hand():
    x = sequence()
    q, k, v = (layers.Dense(8, name=name)(x) for name in "qkv")
    assert scores_in(custom(q, k, v), x) == {"q", "k"}
    # The second of two kernels in a row makes the query.
    wide = layers.Dense(32, name="wide")(x)
    assert scores_in(custom(layers.Dense(8, name="query")(wide), k, v), x) == {"wide", "query", "k"}


def test_a_kernel_that_makes_the_value_as_well_is_none_of_them():
    x = sequence()
    joint = layers.Dense(24, name="joint")(x)
    assert scores_in(custom(joint[..., :8], joint[..., 8:16], joint[..., 16:]), x) == set()


def test_the_softmax_of_the_output_makes_no_scores():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Softmax()(layers.Dense(3)(layers.Dense(5, "relu")(x))))
    assert not any(
        part.makes_scores
        for part in describe_layers(model, Names(model), try_trace(model)).values()
    )


class OpaqueAttention(layers.MultiHeadAttention):
    """Attention that cannot be traced, such as one with a kernel for one kind of device."""

    def _compute_attention(self, query, key, value, *args, **options):
        if isinstance(query, keras.KerasTensor):
            raise NotImplementedError
        return super()._compute_attention(query, key, value, *args, **options)


class Opaque(keras.Model):
    def __init__(self):
        super().__init__()
        self.attention, self.classes = OpaqueAttention(2, 8), layers.Dense(2)

    def call(self, x):
        return self.classes(self.attention(x, x))


def test_attention_that_cannot_be_traced():
    model = Opaque()
    model(np.zeros((2, 8, 16), "float32"))
    with pytest.raises(NotImplementedError):
        trace_calls(model)
    described = describe_layers(model, Names(model), try_trace(model)).values()
    assert {part.name for part in described if part.makes_scores} == {"query", "key"}


class NeedsSize(layers.Layer):
    """Repeats a learned token for each sample; needs the size of the batch as a number."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]))

    def call(self, x):
        size = x.shape[0]
        if isinstance(x, keras.KerasTensor) and not isinstance(size, int):
            raise TypeError("The size must be a number.")
        return ops.concatenate([ops.broadcast_to(self.token, (size, 1, x.shape[-1])), x], 1)


class WithToken(keras.Model):
    def __init__(self):
        super().__init__()
        self.token, self.classes = NeedsSize(), layers.Dense(2)

    def call(self, x):
        return self.classes(self.token(x))


def test_a_layer_that_needs_a_number_for_an_unknown_size():
    model = WithToken()
    model(np.zeros((2, 8, 16), "float32"))
    model._build_shapes_dict = {"input_shape": (None, None, 16)}
    assert [call.operation for call in trace_calls(model)][-1] is model.classes
