"""Schemes with arguments, configs, shapes and dtypes of any kind: weights or a clear error."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import anything, assert_refusal
from support.laws import numpy
from support.supported_shapes import NEEDED, fitting

from keras_winit.initializers import REGISTRY
from keras_winit.initializers.base import DTYPES

INNERS = [
    {"class_name": "winit>he_normal", "config": {"seed": 3}},
    {"class_name": "RandomNormal", "config": {"seed": 3}},
    "winit>ones",
]
FEW = st.integers(1, 4)
AXES = st.lists(st.integers(-3, 3), max_size=3)
# For each argument, values that are right or nearly right.
PLAUSIBLE = {
    "seed": st.integers(-(2**70), 2**70),
    "kind": st.sampled_from(["dense", "depthwise", "transposed"]),
    "groups": FEW,
    "gates": FEW,
    "strides": st.one_of(FEW, st.lists(FEW, max_size=3)),
    "input_axes": AXES,
    "output_axes": AXES,
    "inner": st.sampled_from(INNERS),
    "inners": st.lists(st.sampled_from(INNERS), max_size=3),
    "sizes": st.lists(FEW, max_size=3),
    "gain": st.floats(-1e6, 1e6),
    "scale": st.floats(0, 1e6),
    "nonlinearity": st.sampled_from(["relu", "gelu", "linear"]),
}
# Without these arguments, two instances would draw different values.
SEEDED = {"seed": 1, "inner": INNERS[0], "inners": [INNERS[0], "winit>zeros"]}
SHAPES = st.lists(st.integers(0, 6), max_size=5).map(tuple)
WRONG_SHAPES = st.sampled_from([None, 3, "ab", (1.5, 2), (-1, 3), (None, 4), (True, np.array([2]))])
WRONG_DTYPES = st.sampled_from(["int32", "complex64", "float8_e4m3fn", "nope", 3, [], object])


def seeded(name):
    """Return the required arguments of a scheme, with a seed."""
    names = {field.name for field in dataclasses.fields(REGISTRY[name]) if field.init}
    return {key: SEEDED[key] for key in SEEDED if key in names} | NEEDED.get(name, {})


@st.composite
def any_arguments(draw, name):
    names = sorted(field.name for field in dataclasses.fields(REGISTRY[name]) if field.init)
    chosen = draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else []
    values = {key: draw(st.one_of(PLAUSIBLE.get(key, anything()), anything())) for key in chosen}
    return seeded(name) | values


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=20)
@pytest.mark.parametrize("name", sorted(REGISTRY))
@given(data=st.data())
def test_a_scheme_makes_finite_weights_or_refuses(name, data):
    cls, wrong = REGISTRY[name], data.draw(st.sampled_from(["arguments"] * 4 + ["shape", "dtype"]))
    arguments = data.draw(any_arguments(name) if wrong == "arguments" else st.just(seeded(name)))
    make = data.draw(st.sampled_from([lambda values: cls(**values), cls.from_config]))
    right_shape = st.sampled_from([fitting(name, (8, 8))])
    shape = data.draw(st.one_of(SHAPES, WRONG_SHAPES) if wrong == "shape" else right_shape)
    dtype = data.draw(WRONG_DTYPES if wrong == "dtype" else st.sampled_from(DTYPES))
    try:
        scheme = make(arguments)
        config = json.loads(json.dumps(scheme.get_config()))
        weights = scheme(shape, dtype)
    except (ValueError, TypeError) as error:
        assert_refusal(error)
        return
    assert tuple(weights.shape) == tuple(shape)
    is_narrowed = dtype == "float64" and keras.backend.backend() == "jax"
    given_dtype = keras.backend.standardize_dtype(weights.dtype)
    assert given_dtype == ("float32" if is_narrowed else dtype)
    values = numpy(keras.ops.cast(weights, "float64" if given_dtype == "float64" else "float32"))
    assert np.isfinite(values).all()
    twin = cls.from_config(config)
    assert json.loads(json.dumps(twin.get_config())) == config
    if config.get("seed", 0) is not None:
        again = twin(shape, dtype)
        np.testing.assert_array_equal(numpy(keras.ops.cast(again, "float64")), values)


# E[w**2] / gain**2 as a function of fan_in and fan_out.
FANS = {
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "xavier_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", FANS)
@given(
    window=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(st.integers(20, 60), st.integers(20, 60)),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_variance_is_that_of_the_law(name, window, sizes, exponent, seed):
    shape, gain = (*window, *sizes), 10.0**exponent
    weights = numpy(REGISTRY[name](gain, seed=seed)(shape, "float32")).astype(np.float64) / gain
    positions = math.prod(window)
    expected = FANS[name](positions * sizes[0], positions * sizes[1])
    # The kurtosis of w is at most 3: the mean of n squares has a relative deviation of at most
    # sqrt(2 / n). Six of them are exceeded once in a thousand million draws.
    assert np.mean(weights**2) == pytest.approx(expected, rel=6 * math.sqrt(2 / weights.size))
