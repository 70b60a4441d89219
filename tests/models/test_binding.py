"""An initializer that is bound to its layer knows what that does with its weights."""

import functools
import json
import re

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit
from keras_winit import for_layer, theory

L = keras.layers


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


def test_convolution_aware_kernels_are_as_their_layer_uses_them():
    channels = L.DepthwiseConv2D(3)
    aware = for_layer("winit>convolution_aware", channels)
    kernel = numpy(aware((3, 3, 64, 1))).astype(np.float64)
    assert np.mean(kernel**2) == pytest.approx(2 / 9, rel=1e-6)
    turned = L.Conv2DTranspose(8, 4, strides=2)
    plain = keras_winit.ConvolutionAware(seed=1)
    there, back = numpy(plain((4, 4, 6, 8))), numpy(for_layer(plain, turned)((4, 4, 8, 6)))
    # The same filters, the sides turned; a quarter of the inputs at each place.
    np.testing.assert_allclose(back, 2 * np.swapaxes(there, 2, 3), rtol=1e-5)


def mine(x):
    return np.tanh(x)


def relu(x):
    return np.maximum(x, 0) ** 2


def test_a_function_is_not_taken_for_one_of_keras():
    assert keras_winit.HeNormal(nonlinearity=keras.activations.relu).nonlinearity == "relu"
    squared = keras_winit.LecunNormal(nonlinearity=relu, seed=1)
    assert squared.nonlinearity is relu
    # E[relu(z)**4] = 3 / 2.
    plain = numpy(keras_winit.LecunNormal(seed=1)((20, 30)))
    np.testing.assert_allclose(numpy(squared((20, 30))), (2 / 3) ** 0.5 * plain, rtol=1e-5)


LEAKY = functools.partial(keras.activations.leaky_relu, negative_slope=0.01)


@pytest.mark.parametrize("function", [mine, np.tanh, LEAKY, lambda x: x], ids=str)
def test_any_function_can_be_the_nonlinearity_in_layers_that_make_it_anew(function):
    scheme = keras_winit.HeNormal(nonlinearity=function, seed=1)
    einsum = L.EinsumDense("ab,bc->ac", 4, kernel_initializer=scheme)
    einsum.build((None, 8))
    np.testing.assert_array_equal(numpy(einsum.kernel), numpy(scheme((8, 4))))
    attention = L.MultiHeadAttention(2, 4, kernel_initializer=scheme)
    attention.build((2, 5, 8), (2, 5, 8))


@keras.saving.register_keras_serializable("tests")
def registered(x):
    return 2 * keras.ops.tanh(x)


def test_a_registered_function_comes_back():
    layer = L.Dense(3, kernel_initializer=keras_winit.HeNormal(nonlinearity=registered, seed=1))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    twin = keras.saving.deserialize_keras_object(config).kernel_initializer
    assert twin.nonlinearity is registered
    np.testing.assert_array_equal(numpy(twin((20, 30))), numpy(layer.kernel_initializer((20, 30))))


def test_a_generator_goes_on_through_what_wraps_it():
    generator = keras.random.SeedGenerator(3)
    scheme = keras_winit.Scaled(keras_winit.Scaled(keras_winit.HeNormal(seed=generator)))
    kernels = []
    for _ in range(2):
        layer = L.EinsumDense("ab,bc->ac", 8, kernel_initializer=scheme)
        layer.build((None, 8))
        kernels.append(numpy(layer.kernel))
    assert not np.array_equal(*kernels)
    assert numpy(generator.state).tolist() == [3, 2]


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
            lambda: for_layer("winit>fan_in_bias", L.Conv2D(8, 3, name="c"), "bias"),
            ValueError,
            "`for_layer` reads the fan_in of a `FanInBias` from the kernel. Received: layer 'c', "
            "not built. Give the fan_in, `FanInBias(fan_in=...)`, or build the layer first and "
            "assign the bias.",
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
