"""Wrapping schemes: `inner` may be any initializer, and any part of it can be drawn."""

import copy
import json
import pickle
import re
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit
from keras_winit.initializers import streams
from keras_winit.initializers.placement import whole
from keras_winit.initializers.wrapping import WrappingScheme

KERAS_UNIFORM = keras.initializers.GlorotUniform(seed=3)


@dataclass(eq=False, repr=False)
class Unchanged(WrappingScheme):
    """A scheme with the values of `inner`, for the tests of this file."""

    inner: object = "winit>he_normal"

    def plan(self, shape, dtype):
        return self.inner_plan(shape, dtype)


@pytest.mark.parametrize(
    "inner",
    [
        "winit>he_normal",
        "glorot_uniform",
        {"class_name": "winit>he_normal", "config": {"seed": 3}},
        {"class_name": "GlorotUniform", "config": {"seed": 3}},
        keras_winit.HeNormal,
        keras_winit.HeNormal(seed=3),
        KERAS_UNIFORM,
    ],
    ids=lambda v: str(v)[:40],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_any_form_of_initializer(inner, dtype):
    scheme = Unchanged(inner)
    expected = numpy(scheme.inner((20, 30), "float32"))
    values = numpy(scheme((20, 30), dtype))
    np.testing.assert_array_equal(values, expected.astype(values.dtype))
    config = json.loads(json.dumps(scheme.get_config()))
    twin = Unchanged.from_config(config)
    assert type(twin.inner) is type(scheme.inner)
    assert twin.get_config() == scheme.get_config()


@pytest.mark.parametrize("inner", ["winit>sparse", KERAS_UNIFORM], ids=str)
def test_a_part_drawn_alone_equals_that_part_of_the_whole(inner, monkeypatch):
    monkeypatch.setattr(streams, "CHUNK", 64)
    draw = Unchanged(inner).plan((20, 30), "float32")
    for part in ((slice(3, 17), slice(5, 6)), (slice(0, 20), slice(4, 4))):
        np.testing.assert_array_equal(draw(part), draw(whole((20, 30)))[part])


@pytest.mark.parametrize("kind", [keras_winit.HeNormal, keras.initializers.HeNormal])
def test_a_generator_advances_once_per_plan(kind):
    generator = keras.random.SeedGenerator(5)
    scheme = Unchanged(kind(seed=generator))
    draw = scheme.plan((20, 30), "float32")
    np.testing.assert_array_equal(draw(whole((20, 30))), draw(whole((20, 30))))
    again = kind(seed=keras.random.SeedGenerator(5))
    np.testing.assert_array_equal(draw(whole((20, 30))), numpy(again((20, 30), "float32")))
    np.testing.assert_array_equal(numpy(scheme((20, 30))), numpy(again((20, 30), "float32")))


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_of_an_unseeded_scheme_draw_the_same(duplicate):
    scheme = Unchanged()
    np.testing.assert_array_equal(numpy(duplicate(scheme)((20, 30))), numpy(scheme((20, 30))))
    assert not np.array_equal(numpy(scheme.clone()((20, 30))), numpy(scheme((20, 30))))


@pytest.mark.parametrize("inner", ["winit>he_normal", KERAS_UNIFORM], ids=str)
def test_traced_values_equal_eager_ones(inner):
    scheme = Unchanged(inner)
    expected = numpy(scheme((20, 30)))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        values = tf.function(lambda: scheme((20, 30)))()
    elif backend == "jax":
        import jax

        values = jax.jit(lambda: scheme((20, 30)))()
    else:
        with keras.device("meta"):
            assert scheme((20, 30)).is_meta
        values = scheme((20, 30))
    np.testing.assert_array_equal(numpy(values), expected)


REQUIREMENT = (
    "`Unchanged(inner=...)` must be an initializer: its name, its config, its class or an "
    "instance. Received: inner={}."
)


@pytest.mark.parametrize(
    ("inner", "error", "shown"),
    [
        ("winit>nope", ValueError, "'winit>nope'"),
        (3, ValueError, "3"),
        (None, TypeError, "None"),
        (len, TypeError, "<built-in function len>"),
        (keras.layers.Dense(3), TypeError, "<Dense name=dense, built=False>"),
    ],
    ids=str,
)
def test_inner_that_is_not_an_initializer(inner, error, shown):
    pattern = re.escape(REQUIREMENT.format(shown)).replace("name=dense", r"name=dense\w*")
    with pytest.raises(error, match=f"^{pattern}$"):
        Unchanged(inner)
