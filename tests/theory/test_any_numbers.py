"""Fans, gains and critical points of arguments of any kind: right numbers or a clear error."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import NUMBERS, anything, assert_refusal

import keras_winit as kw
from keras_winit.theory import fans

pytestmark = pytest.mark.backend_independent

AXES = st.one_of(st.none(), st.lists(st.integers(-3, 3), max_size=3), anything())
COUNTS = st.one_of(st.integers(1, 4), anything())
USES = st.fixed_dictionaries(
    {},
    optional={
        "input_axes": AXES,
        "output_axes": AXES,
        "kind": st.one_of(st.sampled_from(["dense", "depthwise", "transposed"]), anything()),
        "groups": COUNTS,
        "gates": COUNTS,
        "strides": st.one_of(COUNTS, st.lists(st.integers(1, 3), max_size=3)),
    },
)
SIZES = st.lists(st.integers(0, 8), max_size=5)


@settings(max_examples=100)
@given(shape=st.one_of(SIZES, anything()), use=USES)
def test_fans_are_finite_counts_or_refused(shape, use):
    try:
        both = fans(shape, **use)
    except (ValueError, TypeError) as error:
        assert_refusal(error)
        return
    assert all(0 <= fan < math.inf for fan in both)


@given(sizes=st.lists(st.integers(1, 8), min_size=2, max_size=5))
def test_fans_of_transposed_kernels_and_of_named_axes_are_those_of_dense_ones(sizes):
    *window, last_but_one, last = sizes
    positions = math.prod(window)
    assert fans(sizes) == (positions * last_but_one, positions * last)
    swapped = (*window, last, last_but_one)
    assert fans(swapped, kind="transposed") == fans(sizes)
    # If `input_axes` names the window too, the window no longer counts in fan_out.
    axes = tuple(range(len(sizes) - 1))
    assert fans(sizes, input_axes=axes) == (positions * last_but_one, last)


@settings(max_examples=60)
@given(
    activation=st.one_of(st.sampled_from(["relu", "leaky_relu", "tanh", "linear"]), anything()),
    mode=st.one_of(st.sampled_from(["second_moment", "torch", "odd"]), anything()),
    arguments=st.dictionaries(
        st.sampled_from(["negative_slope", "max_value", "nope"]), st.sampled_from(NUMBERS)
    ),
)
def test_gains_are_positive_or_refused(activation, mode, arguments):
    try:
        value = kw.gain(activation, mode, **arguments)
    except (ValueError, TypeError) as error:
        assert_refusal(error)
        return
    assert 0 < value < math.inf


@settings(max_examples=15)
@given(
    name=st.sampled_from(["relu", "tanh", "gelu"]),
    exponent=st.integers(-100, 100),
    sign=st.sampled_from([-1, 1]),
)
def test_the_gain_of_a_multiple_is_the_inverse_multiple(name, exponent, sign):
    functions = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "gelu": lambda x: x * (x > 1)}
    factor = sign * 10.0**exponent
    product = kw.gain(lambda x: factor * functions[name](x)) * abs(factor)
    assert product == pytest.approx(kw.gain(functions[name]), rel=1e-6)


@settings(max_examples=25)
@given(
    numbers=st.dictionaries(
        st.sampled_from(["bias_stddev", "q"]), st.one_of(st.floats(0, 3), anything()), min_size=1
    )
)
@pytest.mark.filterwarnings("ignore:The critical point")
def test_critical_points_have_chi_1_of_one_or_are_refused(numbers):
    try:
        point = kw.critical_point("tanh", **numbers)
    except (ValueError, TypeError) as error:
        assert_refusal(error)
        return
    assert point.chi_1 == 1
    assert all(0 <= number < math.inf for number in (point.sigma_w, point.sigma_b, point.q))
    # For tanh, E[f'(u)**2] <= 1, so that sigma_w is at least 1.
    assert point.sigma_w >= 1 - 1e-9
