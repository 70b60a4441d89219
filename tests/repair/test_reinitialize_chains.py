"""Tests of what `reinitialize` chooses for chains of kernels."""

import keras
import pytest

from keras_winit import reinitialize

L = keras.layers


def choices(*stack, shape=(16,)):
    """Return what became of each kernel, and why."""
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
        ("looks_linear(place=last, gain=0.1)", "last of 4 kernels with gelu"),
    ]


def test_odd_activations_start_near_linear():
    found = choices(*dense("tanh", "tanh", "tanh"), L.Dense(3, "softmax"))
    assert places(found) == ["first", "hidden", "hidden", "last"]
    # E[f'(q z)**2] = 1 - 2 q**2 + O(q**4) with q = 0.1.
    assert found[1][0] == "near_linear_orthogonal(gain=1.01)"


def test_a_convolutional_chain_goes_through_pooling_and_flatten():
    convolutions = [L.Conv2D(8, 3, activation="relu") for _ in range(2)]
    flat = [*convolutions, L.MaxPooling2D(), L.Flatten(), L.Dense(9, "relu"), L.Dense(3)]
    assert choices(*flat, shape=(8, 8, 1)) == [
        ("looks_linear(place=first)", "first of 4 kernels with relu"),
        ("looks_linear(gain=2, noise=0.6)", "hidden of 4 kernels with relu"),
        ("looks_linear(gain=2, channels=8)", "hidden of 4 kernels with relu"),
        ("looks_linear(place=last, gain=0.1)", "last of 4 kernels with relu"),
    ]
    convolutions = [L.Conv2D(8, 3, activation="relu") for _ in range(3)]
    pooled = choices(*convolutions, L.GlobalAveragePooling2D(), L.Dense(3), shape=(8, 8, 1))
    assert pooled[-1][0] == "looks_linear(place=last, gain=3)"


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
    assert not any("looks_linear" in change for change, _ in choices(*stack))


def test_mixed_flat_and_short_chains_keep_their_usual_start():
    for stack in (
        [*dense("relu", "tanh", "relu"), L.Dense(3)],
        [*dense("relu", "relu"), L.Dense(3)],
        [*dense("hard_shrink", "hard_shrink", "hard_shrink"), L.Dense(3)],
    ):
        assert not any("linear" in change for change, _ in choices(*stack))


def test_a_skip_ends_a_chain():
    inputs = x = keras.Input((16,))
    for layer in dense("relu", "relu"):
        x = layer(x)
    x = L.Add()([x, inputs])
    for layer in [*dense("relu", "relu"), L.Dense(3)]:
        x = layer(x)
    rows = reinitialize(keras.Model(inputs, x), seed=0).rows
    assert not any("looks_linear" in row.change for row in rows)
