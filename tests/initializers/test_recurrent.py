"""Schemes for recurrent layers with gates, tested in such layers."""

import math
import re

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy, uniform

import keras_winit
from keras_winit import for_layer

L = keras.layers


def test_gates_are_independent_and_have_their_own_fans():
    scheme = keras_winit.PerGate(keras_winit.XavierNormal(seed=0), gates=3)
    gates = numpy(scheme((200, 3 * 300))).reshape(200, 3, 300)
    for gate in range(3):
        assert deviations(gates[:, gate], normal(math.sqrt(2 / 500))) == []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        product = gates[:, first].ravel() @ gates[:, second].ravel().astype(np.float64)
        assert abs(product) * 250 / math.sqrt(200 * 300) < 5


def test_gates_drawn_as_one_kernel_fail():
    gates = numpy(keras_winit.XavierNormal(seed=0)((200, 900))).reshape(200, 3, 300)
    assert deviations(gates[:, 0], normal(math.sqrt(2 / 500)))


def test_default_makes_each_gate_orthogonal():
    layer = L.LSTM(24, recurrent_initializer="winit>per_gate")
    layer.build((2, 3, 5))
    kernel = numpy(layer.cell.recurrent_kernel).reshape(24, 4, 24)
    for gate in range(4):
        assert np.abs(kernel[:, gate].T @ kernel[:, gate] - np.eye(24)).max() < 3e-6


@pytest.mark.parametrize("inner", ["glorot_normal", "winit>sparse", "winit>irnn", "zeros"])
def test_inner_may_be_any_initializer(inner):
    scheme = keras_winit.PerGate(inner)
    kernel = numpy(scheme((20, 80))).reshape(20, 4, 20)
    np.testing.assert_array_equal(numpy(scheme((20, 80))).reshape(20, 4, 20), kernel)
    if inner in ("glorot_normal", "winit>sparse"):
        assert len({kernel[:, gate].tobytes() for gate in range(4)}) == 4
    if inner == "winit>sparse":
        assert (np.count_nonzero(kernel, axis=0) == 10).all()
    if inner == "winit>irnn":
        assert all(np.array_equal(kernel[:, gate], np.eye(20)) for gate in range(4))


@pytest.mark.parametrize("kind", [keras_winit.HeNormal, keras.initializers.HeNormal])
def test_gates_from_one_generator_differ(kind):
    scheme = keras_winit.PerGate(kind(seed=keras.random.SeedGenerator(3)))
    first, second = (numpy(scheme((20, 80))) for _ in range(2))
    blocks = [b.tobytes() for k in (first, second) for b in k.reshape(20, 4, 20).transpose(1, 0, 2)]
    assert len(set(blocks)) == 8


def test_forget_bias_of_an_lstm():
    bias = keras_winit.ForgetBias(2.0)
    layer = L.LSTM(6, unit_forget_bias=False, bias_initializer=bias)
    layer.build((2, 3, 5))
    expected = np.zeros(24)
    expected[6:12] = 2
    np.testing.assert_array_equal(numpy(layer.cell.bias), expected)


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_large_bias_keeps_the_state_of_a_gru(reset_after):
    layer = L.GRU(6, reset_after=reset_after, kernel_initializer="zeros", return_sequences=True)
    layer.cell.bias_initializer = for_layer(keras_winit.ForgetBias(30.0), layer, "bias")
    state = np.random.default_rng(0).standard_normal((2, 6), np.float32)
    outputs = numpy(layer(np.zeros((2, 40, 5), "float32"), initial_state=state))
    np.testing.assert_allclose(outputs[:, -1], state, rtol=1e-5)
    assert numpy(layer.cell.bias).shape == ((2, 18) if reset_after else (18,))


def test_chrono_of_an_lstm():
    scheme = keras_winit.Chrono(max_steps=50, seed=0)
    bias = numpy(scheme((4 * 20_000,))).reshape(4, -1).astype(np.float64)
    np.testing.assert_array_equal(bias[0], -bias[1])
    assert not bias[2:].any()
    # exp(bias) is uniform on [1, 49], which has the mean 25 and the half width 24.
    assert deviations(np.exp(bias[1]) - 25, uniform(24.0)) == []


def test_chrono_of_a_gru_sets_the_update_gate():
    bias = numpy(keras_winit.Chrono(50, gates=3, seed=0)((2, 60)))
    assert (bias[0, :20] > 0).all()
    assert not bias[0, 20:].any()
    assert not bias[1].any()


@pytest.mark.parametrize("units", [8, 7])
@pytest.mark.parametrize("name", ["forget_bias", "chrono"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(L.LSTM, (2, 3, 5)), (lambda n, **o: L.ConvLSTM1D(n, 3, **o), (2, 3, 9, 5))],
)
def test_a_layer_that_sets_its_forget_gate_raises_an_error(name, units, make, shape):
    layer = make(units, bias_initializer=f"winit>{name}")
    message = re.escape(
        "makes the whole bias of an LSTM, but this LSTM asks for parts of it and sets the bias of "
        f"the forget gate itself. Received: shape=({units},). Give the layer "
        "`unit_forget_bias=False`."
    )
    with pytest.raises(ValueError, match=message):
        layer.build(shape)
    wrapped = make(units, bias_initializer=keras_winit.Scaled(f"winit>{name}"))
    with pytest.raises(ValueError, match=message):
        wrapped.build(shape)


def test_other_schemes_work_in_a_layer_that_sets_its_forget_gate():
    layer = L.LSTM(8, bias_initializer="winit>constant")
    layer.build((2, 3, 5))
    np.testing.assert_allclose(numpy(layer.cell.bias)[8:16], 1)
