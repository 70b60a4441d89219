"""Tests of what `reinitialize` chooses for chains of kernels."""

import math
import re

import keras
import numpy as np
import pytest

from keras_winit import reinitialize, signal_report

L = keras.layers


def choices(*stack, shape=(16,)):
    """Return the change of each kernel and the reason for it."""
    rows = reinitialize(keras.Sequential([keras.Input(shape), *stack]), seed=0).rows
    return [(row.change, row.reason) for row in rows if row.weight == "kernel"]


def dense(*activations, units=16):
    return [L.Dense(units, activation) for activation in activations]


def places(found):
    return [reason.partition(" of ")[0] for _, reason in found]


def test_a_chain_looks_linear():
    stack = [*dense("gelu", "gelu"), L.Dropout(0.1), *dense("gelu"), L.Dense(3)]
    assert choices(*stack) == [
        ("looks_linear(place=first)", "first of 4 kernels with gelu"),
        ("looks_linear(gain=2)", "hidden of 4 kernels with gelu"),
        ("looks_linear(gain=2)", "hidden of 4 kernels with gelu"),
        ("looks_linear(place=last, gain=1)", "last of 4 kernels with gelu"),
    ]


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "elu"])
def test_identities_pass_on_what_the_activation_returns_unchanged(activation):
    stack = [*dense(activation, activation), L.Dropout(0.1), *dense(activation), L.Dense(3)]
    assert [change for change, _ in choices(*stack)] == [
        "scaled_orthogonal",
        "noisy_identity",
        "noisy_identity",
        "scaled_orthogonal",
    ]
    # Chains whose width changes, and convolutions with a window, get `looks_linear`.
    for units in (12, 24, 40):
        stack = [*dense(activation, activation), *dense(activation, units=units), L.Dense(3)]
        assert choices(*stack)[1][0].startswith("looks_linear")
    convolutions = [L.Conv1D(8, 3, padding="same", activation=activation) for _ in range(3)]
    stack = [*convolutions, L.Flatten(), L.Dense(3)]
    assert choices(*stack, shape=(5, 1))[1][0].startswith("looks_linear")


@pytest.mark.parametrize("activation", ["gelu", "silu", "mish", "softplus", "hard_swish"])
def test_other_activations_look_linear_at_any_width(activation):
    assert choices(*dense(*[activation] * 3), L.Dense(3))[1][0].startswith("looks_linear")


def test_odd_activations_start_near_linear():
    found = choices(*dense("tanh", "tanh", "tanh"), L.Dense(3, "softmax"))
    assert places(found) == ["first", "hidden", "hidden", "last"]
    # E[f'(q z)**2] = 1 - 2 q**2 + O(q**4) with q = 0.1.
    assert found[1][0] == "near_linear_orthogonal(gain=1.01)"
    # Outputs have a standard deviation of 0.3.
    assert found[3][0] == "near_linear_orthogonal(place=last, gain=3.029)"


def sigmoid_slope(q):
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    slopes = (1 - np.tanh(q * z / 2) ** 2) / 4
    return math.sqrt((weights * slopes**2).sum() / weights.sum())


def test_activations_that_are_odd_up_to_a_constant_start_centered():
    found = choices(*dense("sigmoid", "sigmoid", "sigmoid"), L.Dense(3))
    gain = f"{1 / sigmoid_slope(1):.4g}"
    assert [change for change, _ in found] == [
        "near_linear_orthogonal(place=first, gain=1, centered=True)",
        f"near_linear_orthogonal(gain={gain}, centered=True)",
        f"near_linear_orthogonal(gain={gain}, centered=True)",
        f"near_linear_orthogonal(place=last, gain={gain}, centered=True)",
    ]
    # The even part of softplus is not constant; hard_sigmoid is 1/2 + z / 6 between -3 and 3.
    assert "looks_linear" in choices(*dense("softplus", "softplus", "softplus"), L.Dense(3))[1][0]
    assert "centered" in choices(*dense(*["hard_sigmoid"] * 3), L.Dense(3))[1][0]


def test_activations_that_are_nearly_odd_keep_the_slopes_at_unit_size():
    found = choices(*dense("selu", "selu", "selu"), L.Dense(3))
    # E[f'(z)**2] = scale**2 (1 + alpha**2 E[exp(-2 |z|)]) / 2, and E = 2 exp(2) P(z > 2).
    scale, alpha, tail = 1.0507009873554805, 1.6732632423543772, math.erfc(2**0.5) / 2
    slope = scale * math.sqrt((1 + alpha**2 * 2 * math.exp(2) * tail) / 2)
    assert [change for change, _ in found] == [
        "near_linear_orthogonal(place=first, gain=1)",
        f"near_linear_orthogonal(gain={1 / slope:.4g})",
        f"near_linear_orthogonal(gain={1 / slope:.4g})",
        f"near_linear_orthogonal(place=last, gain={1 / slope:.4g})",
    ]


def odd_gain_of_selu(size):
    """Return 1 / sqrt(E[odd(size z)**2]) * size, with z ~ N(0, 1)."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    z, weights = np.polynomial.hermite_e.hermegauss(200)
    odd = scale * (np.abs(size * z) + alpha * (1 - np.exp(-np.abs(size * z)))) / 2
    return size / math.sqrt((weights * odd**2).sum() / weights.sum())


def test_pairs_of_selu_units_get_small_signals():
    # The even part of SELU has 0.0168 of its second moment, the 60th part.
    assert choices(*dense(*["selu"] * 58), L.Dense(3))[1][0].startswith("near_linear")
    found = choices(*dense(*["selu"] * 60), L.Dense(3))
    # The slopes on both sides of 0 are 1.05 and 1.76, whose mean is 1.40.
    gain = odd_gain_of_selu(0.1)
    assert 1 / 1.4045 < gain < 1.1 / 1.4045
    assert [change for change, _ in found] == [
        "looks_linear(place=first, gain=0.1)",
        *[f"looks_linear(gain={gain:.4g})"] * 59,
        f"looks_linear(place=last, gain={5 * gain:.4g})",
    ]
    # Pre-activations before GELU have stddev 1, and so has the signal behind the chain.
    stack = [
        *dense("selu", "gelu", *["selu"] * 60),
        L.Dense(16),
        L.LayerNormalization(),
        L.Dense(3),
    ]
    mixed = [change for change, _ in choices(*stack)]
    assert mixed[:4] == [
        "looks_linear(place=first, gain=0.1)",
        f"looks_linear(gain={10 * gain:.4g})",
        "looks_linear(gain=0.2)",
        f"looks_linear(gain={gain:.4g})",
    ]
    assert mixed[62] == f"looks_linear(place=last, gain={10 * gain:.4g})"


def test_odd_activations_of_two_kinds_get_pre_activations_that_suit_each():
    found = choices(*dense("tanh", "sigmoid", "tanh"), L.Dense(3))
    # Pre-activations have stddev 0.1 before tanh and stddev 1 before the sigmoid.
    slope = math.sqrt(1 - 2 * 0.01 + 7 * 0.01**2)
    assert [change for change, _ in found] == [
        "near_linear_orthogonal(place=first, gain=0.1)",
        f"near_linear_orthogonal(gain={10 / slope:.4g})",
        f"near_linear_orthogonal(gain={0.1 / sigmoid_slope(1):.4g}, centered=True)",
        "near_linear_orthogonal(place=last, gain=3.029)",
    ]


def test_a_convolutional_chain_goes_through_pooling_and_flatten():
    convolutions = [L.Conv2D(8, 3, activation="relu") for _ in range(2)]
    flat = [*convolutions, L.MaxPooling2D(), L.Flatten(), L.Dense(9, "relu"), L.Dense(3)]
    assert choices(*flat, shape=(8, 8, 1)) == [
        ("looks_linear(place=first)", "first of 4 kernels with relu"),
        ("looks_linear(gain=2, noise=0.6)", "hidden of 4 kernels with relu"),
        ("looks_linear(gain=2, channels=8)", "hidden of 4 kernels with relu"),
        ("looks_linear(place=last, gain=1)", "last of 4 kernels with relu"),
    ]
    convolutions = [L.Conv2D(8, 3, activation="relu") for _ in range(3)]
    pooled = choices(*convolutions, L.GlobalAveragePooling2D(), L.Dense(3), shape=(8, 8, 1))
    assert pooled[-1][0] == "looks_linear(place=last, gain=3)"


def test_noise_makes_up_for_the_padding():
    convolutions = [L.Conv2D(8, 3, padding="same", activation="relu") for _ in range(4)]
    stack = [*convolutions[:2], L.MaxPooling2D(), *convolutions[2:], L.GlobalMaxPooling2D()]
    found = choices(*stack, L.Dense(3), shape=(8, 8, 1))
    for (change, _), size in zip(found[1:4], (8, 4, 4), strict=True):
        gain, noise = map(float, re.findall(r"=([\d.]+)", change))
        # Along each side, the two outer positions lack one tap of three.
        valid = ((3 * size - 2) / (3 * size)) ** 2
        assert gain**2 * (1 - noise) == pytest.approx(4 * 0.4, rel=2e-3)
        assert gain**2 * noise * valid == pytest.approx(4 * 0.6, rel=2e-3)


@pytest.mark.parametrize(
    "between",
    [
        lambda: L.BatchNormalization(),
        lambda: L.Dense(4, "relu"),
        lambda: L.Dense(16),
        lambda: L.Activation("tanh"),
    ],
    ids=["normalization", "narrow kernel", "kernel without activation", "second activation"],
)
def test_what_ends_a_chain(between):
    stack = [*dense("relu", "relu"), between(), *dense("relu"), L.Dense(3)]
    assert not any(" kernels with " in reason for _, reason in choices(*stack))


def test_mixed_flat_and_short_chains_keep_their_usual_start():
    for stack in (
        [*dense("relu", "tanh", "relu"), L.Dense(3)],
        [*dense("relu", "relu"), L.Dense(3)],
        [*dense("hard_shrink", "hard_shrink", "hard_shrink"), L.Dense(3)],
    ):
        assert not any(" kernels with " in reason for _, reason in choices(*stack))


def test_a_skip_ends_a_chain():
    inputs = x = keras.Input((16,))
    for layer in dense("relu", "relu"):
        x = layer(x)
    x = L.Add()([x, inputs])
    for layer in [*dense("relu", "relu"), L.Dense(3)]:
        x = layer(x)
    rows = reinitialize(keras.Model(inputs, x), seed=0).rows
    assert not any(" kernels with " in row.reason for row in rows)


@pytest.mark.parametrize("activation", ["selu", "relu", "gelu", "tanh"])
def test_no_rule_finds_fault_with_a_long_chain(activation):
    model = keras.Sequential([keras.Input((32,)), *dense(*[activation] * 62, units=32), L.Dense(3)])
    reinitialize(model, seed=0)
    assert [finding.rule for finding in signal_report(model).findings] == []
