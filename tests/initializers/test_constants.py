"""Constant schemes: arrays as values, and the dtypes of counters and masks."""

import json

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit
from keras_winit.initializers.placement import whole

VALUES = np.array([[0.1, -2.5, 3.0], [1e-7, 5.0, 1 / 3]])

FORMS = {
    "array": lambda values: values,
    "lists": lambda values: values.tolist(),
    "tuples": lambda values: tuple(map(tuple, values.tolist())),
    "tensor": lambda values: keras.ops.convert_to_tensor(values, "float32"),
    "config of Keras": lambda values: keras.initializers.Constant(values).get_config()["value"],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_takes_an_array_and_broadcasts_it(form):
    scheme = keras_winit.Constant(FORMS[form](VALUES))
    expected = np.broadcast_to(VALUES.astype(np.float32), (4, 2, 3))
    np.testing.assert_array_equal(numpy(scheme((4, 2, 3), "float32")), expected)
    part = (slice(1, 3), slice(1, 2), slice(0, 2))
    draw = scheme.plan((4, 2, 3), "float32")
    np.testing.assert_array_equal(draw(part), draw(whole((4, 2, 3)))[part])
    # Keras' own initializer gives the same weights.
    keras_values = keras.initializers.Constant(VALUES.astype(np.float32))((4, 2, 3), "float32")
    np.testing.assert_array_equal(numpy(keras_values), expected)


@pytest.mark.parametrize("value", [VALUES, np.array(0.3), np.float32(0.1), 3], ids=str)
def test_a_constant_survives_a_config(value):
    scheme = keras_winit.Constant(value)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(scheme)))
    twin = keras.saving.deserialize_keras_object(config)
    assert twin.get_config() == scheme.get_config()
    np.testing.assert_array_equal(numpy(twin((2, 3))), np.broadcast_to(np.float32(value), (2, 3)))


def test_a_model_with_an_array_as_its_kernel_is_saved_and_loaded(tmp_path):
    layer = keras.layers.Dense(3, kernel_initializer=keras_winit.Constant(VALUES))
    model = keras.Sequential([keras.Input((2,)), layer])
    np.testing.assert_array_equal(numpy(layer.kernel), VALUES.astype(np.float32))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = loaded.layers[0].kernel_initializer
    assert again.get_config() == layer.kernel_initializer.get_config()
    np.testing.assert_array_equal(numpy(again((2, 3))), VALUES.astype(np.float32))


def test_the_config_of_a_constant_is_a_copy():
    scheme = keras_winit.Constant([[1.0, 2.0]])
    scheme.get_config()["value"][0][0] = 9.0
    np.testing.assert_array_equal(numpy(scheme((1, 2))), [[1, 2]])


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 0), ()], ids=str)
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]
)
@pytest.mark.parametrize("name", ["zeros", "ones"])
def test_zeros_and_ones_of_integers_and_booleans_equal_those_of_keras(name, dtype, shape):
    ours = keras.initializers.get(f"winit>{name}")(shape, dtype)
    expected = keras.initializers.get(name)(shape, dtype)
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(numpy(ours), numpy(expected))


def test_a_layer_counts_with_zeros():
    layer = keras.layers.Layer()
    counter = layer.add_weight((3,), "winit>zeros", "int32", trainable=False)
    counter.assign_add([1, 2, 3])
    np.testing.assert_array_equal(numpy(counter), [1, 2, 3])
