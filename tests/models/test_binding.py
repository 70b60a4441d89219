"""Tests of `for_layer`: it gives an initializer the axes, groups, gates and strides of a layer."""

import re

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit
from keras_winit import for_layer, theory

L = keras.layers


def test_binding_keeps_stated_axes_and_returns_schemes_that_need_none():
    grouped = L.Conv2D(8, 3, groups=2)
    stated = keras_winit.HeNormal(kind="depthwise")
    assert for_layer(stated, grouped) is stated
    assert for_layer("winit>small_normal", grouped).get_config()["stddev"] == 0.01
    assert type(for_layer("he_normal", L.Dense(4))).__module__.startswith("keras.src")
    attention = for_layer("winit>he_normal", L.MultiHeadAttention(2, 4))
    assert attention.get_config() == keras_winit.HeNormal().get_config()
    # Keras' own `VarianceScaling` takes axes too.
    einsum = for_layer("he_normal", L.EinsumDense("bgi,gio->bgo", (16, 64)))
    assert (einsum.input_axes, einsum.output_axes) == ((1,), (2,))


def test_a_bound_scheme_serializes_and_keeps_its_seed():
    generator = keras.random.SeedGenerator(3)
    scheme = keras_winit.HeNormal(seed=generator)
    layer = L.DepthwiseConv2D(3, strides=2)
    layer.depthwise_initializer = bound = for_layer(scheme, layer)
    assert bound.seed is generator
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert copy.depthwise_initializer.get_config() == bound.get_config()
    assert repr(for_layer(keras_winit.HeNormal(seed=1), layer)) == (
        "HeNormal(seed=1, kind='depthwise', strides=(2, 2))"
    )


def test_the_scheme_inside_a_wrapper_is_bound():
    layer = L.DepthwiseConv2D(3, depth_multiplier=2)
    outer = for_layer(keras_winit.Scaled(keras_winit.HeNormal(seed=1), gain=3.0), layer)
    direct = for_layer(keras_winit.HeNormal(seed=1), layer)
    shape = (3, 3, 64, 2)
    np.testing.assert_allclose(numpy(outer(shape)), 3 * numpy(direct(shape)), rtol=1e-6)


def test_bias_schemes_read_the_use_of_the_kernel():
    layer = L.Conv2D(8, 3, groups=2)
    layer.build((None, 9, 9, 4))
    assert for_layer("winit>fan_in_bias", layer, "bias").fan_in == 18
    assert for_layer("winit>chrono", L.GRU(8), "bias").gates == 3
    assert for_layer("winit>per_gate", L.GRU(8), "recurrent_kernel").gates == 3


def test_convolution_aware_kernels_fit_depthwise_and_transposed_layers():
    depthwise = for_layer("winit>convolution_aware", L.DepthwiseConv2D(3))
    kernel = numpy(depthwise((3, 3, 64, 1))).astype(np.float64)
    assert np.mean(kernel**2) == pytest.approx(2 / 9, rel=1e-6)
    unbound = keras_winit.ConvolutionAware(seed=1)
    bound = for_layer(unbound, L.Conv2DTranspose(8, 4, strides=2))
    # The same filters with the last two axes swapped. With stride 2 each output sums a quarter
    # of the terms, so the standard deviation doubles.
    expected = 2 * np.swapaxes(numpy(unbound((4, 4, 6, 8))), 2, 3)
    np.testing.assert_allclose(numpy(bound((4, 4, 8, 6))), expected, rtol=1e-5)


WEIGHT = (
    "`for_layer(weight=...)` must be one of 'depthwise_kernel', 'pointwise_kernel' for layer "
    "'separable'. Received: weight={}."
)

# A wrong call, the class of its error, and the error's message.
MISTAKES = {
    "unknown layer": (
        lambda: for_layer("winit>zeros", L.BatchNormalization(name="batch")),
        ValueError,
        "`for_layer` does not know how layer 'batch' of class BatchNormalization uses its "
        "weights. Give the scheme `input_axes` and `output_axes` yourself.",
    ),
    "unknown name": (
        lambda: for_layer("function", L.Dense(4)),
        ValueError,
        "Could not interpret initializer identifier: function",
    ),
    "no weight": (
        lambda: for_layer("winit>he_normal", L.SeparableConv1D(4, 3, name="separable")),
        ValueError,
        WEIGHT.format("None"),
    ),
    "another weight": (
        lambda: for_layer("winit>he_normal", L.SeparableConv1D(4, 3, name="separable"), "kernel"),
        ValueError,
        WEIGHT.format("'kernel'"),
    ),
    "scheme of Keras": (
        lambda: for_layer("he_normal", L.Conv2D(4, 3, 2, name="conv")),
        TypeError,
        "`for_layer` needs a scheme of this package to bind it to layer 'conv'. Received: "
        "initializer='he_normal'. Use a name such as 'winit>he_normal'.",
    ),
    "bias without gates": (
        lambda: for_layer("winit>chrono", L.Dense(4, name="dense")),
        ValueError,
        "`Chrono` initializes the bias of an LSTM or a GRU. Received: layer 'dense' of class "
        "Dense. Use 'winit>constant'.",
    ),
    "forget bias set by the layer": (
        lambda: for_layer("winit>forget_bias", L.LSTM(4, name="lstm"), "bias"),
        ValueError,
        "`ForgetBias` initializes the whole bias of an LSTM, but layer 'lstm' sets its forget "
        "gate itself. Received: unit_forget_bias=True. Give the layer `unit_forget_bias=False`.",
    ),
    "unbuilt kernel": (
        lambda: for_layer("winit>fan_in_bias", L.Conv2D(8, 3, name="c"), "bias"),
        ValueError,
        "`for_layer` reads the fan_in of a `FanInBias` from the kernel. Received: layer 'c', "
        "not built. Give the fan_in, `FanInBias(fan_in=...)`, or build the layer first and "
        "assign the bias.",
    ),
    "uneven gates": (
        lambda: theory.fans((3, 4), gates=3),
        ValueError,
        "the 4 outputs of a kernel cannot be split evenly into 1 groups of 3 gates. "
        "Received: shape=(3, 4).",
    ),
    "too many strides": (
        lambda: theory.fans((3, 3, 4, 4), strides=(1, 2, 2)),
        ValueError,
        "`strides` must be one number, or one for each of the 2 axes of the window. "
        "Received: strides=(1, 2, 2).",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    mistake, error, message = MISTAKES[name]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        mistake()
