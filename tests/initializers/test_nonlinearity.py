"""Tests of functions as the `nonlinearity` of a scheme, in layers and in wrappers."""

import functools
import json
import re

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit

L = keras.layers


def python_tanh(x):
    return np.tanh(x)


def relu(x):
    """Return the square of the ReLU; this function shares only its name with Keras' `relu`."""
    return np.maximum(x, 0) ** 2


def test_a_function_with_the_name_of_a_keras_activation_keeps_its_own_gain():
    assert keras_winit.HeNormal(nonlinearity=keras.activations.relu).nonlinearity == "relu"
    squared = keras_winit.LecunNormal(nonlinearity=relu, seed=1)
    assert squared.nonlinearity is relu
    # E[max(z, 0)**4] = 3 / 2.
    linear = numpy(keras_winit.LecunNormal(seed=1)((20, 30)))
    np.testing.assert_allclose(numpy(squared((20, 30))), (2 / 3) ** 0.5 * linear, rtol=1e-5)


UNKNOWN = (
    "`{}({}=...)` must hold functions that Keras finds by name, because attention layers and saved "
    "models make it from its config. Received: {}. Decorate a named function with "
    "`@keras.saving.register_keras_serializable()`."
)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    ("function", "received"),
    [(python_tanh, "the function 'python_tanh'"), (lambda x: np.tanh(x), "a lambda")],
)
def test_attention_says_which_function_in_a_wrapper_to_register(function, received):
    inner = keras_winit.HeNormal(nonlinearity=function)
    wrappers = {
        "inner": keras_winit.Scaled(keras_winit.Masked(inner)),
        "inners": keras_winit.Blocks([inner, inner]),
    }
    for argument, scheme in wrappers.items():
        message = UNKNOWN.format(type(scheme).__name__, argument, received)
        attention = L.MultiHeadAttention(2, 4, kernel_initializer=scheme)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            attention.build((None, 5, 8), (None, 5, 8))


def test_attention_finds_a_registered_function_in_a_wrapper():
    scheme = keras_winit.Scaled(keras_winit.HeNormal(nonlinearity=python_tanh, seed=1))
    attention = L.MultiHeadAttention(2, 4, kernel_initializer=scheme)
    with keras.saving.custom_object_scope({"python_tanh": python_tanh}):
        attention.build((None, 5, 8), (None, 5, 8))
    direct = keras_winit.HeNormal(
        nonlinearity=python_tanh, seed=1, input_axes=[0], output_axes=[1, 2]
    )
    np.testing.assert_array_equal(numpy(attention.query_dense.kernel), numpy(direct((8, 2, 4))))


LEAKY = functools.partial(keras.activations.leaky_relu, negative_slope=0.01)


@pytest.mark.parametrize(
    "function",
    [python_tanh, np.tanh, LEAKY, lambda x: x],
    ids=["python", "numpy", "partial", "lambda"],
)
def test_layers_that_copy_their_initializer_accept_any_function(function):
    scheme = keras_winit.HeNormal(nonlinearity=function, seed=1)
    einsum = L.EinsumDense("ab,bc->ac", 4, kernel_initializer=scheme)
    einsum.build((None, 8))
    np.testing.assert_array_equal(numpy(einsum.kernel), numpy(scheme((8, 4))))
    attention = L.MultiHeadAttention(2, 4, kernel_initializer=scheme)
    attention.build((2, 5, 8), (2, 5, 8))


@keras.saving.register_keras_serializable("tests")
def registered(x):
    return 2 * keras.ops.tanh(x)


def test_a_registered_function_survives_serialization():
    layer = L.Dense(3, kernel_initializer=keras_winit.HeNormal(nonlinearity=registered, seed=1))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config).kernel_initializer
    assert copy.nonlinearity is registered
    np.testing.assert_array_equal(numpy(copy((20, 30))), numpy(layer.kernel_initializer((20, 30))))


def test_a_seed_generator_advances_inside_wrappers():
    generator = keras.random.SeedGenerator(3)
    scheme = keras_winit.Scaled(keras_winit.Scaled(keras_winit.HeNormal(seed=generator)))
    kernels = []
    for _ in range(2):
        layer = L.EinsumDense("ab,bc->ac", 8, kernel_initializer=scheme)
        layer.build((None, 8))
        kernels.append(numpy(layer.kernel))
    assert not np.array_equal(*kernels)
    assert numpy(generator.state).tolist() == [3, 2]
