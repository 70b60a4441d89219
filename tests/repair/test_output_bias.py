"""Tests of `reinitialize(y=...)`: an output starts at the best constant prediction."""

import math
import re

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit import reinitialize

L = keras.layers


def model_with(*heads, loss=None, units=4):
    """Return a model with output layers, given by name, units and activation."""
    inputs = keras.Input((units,))
    hidden = L.Dense(8, "relu")(inputs)
    outputs = [L.Dense(n, activation, name=name)(hidden) for name, n, activation in heads]
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    if loss:
        model.compile("sgd", loss)
    return model


def bias(model, name="out"):
    return numpy(model.get_layer(name).bias)


CLASSES = np.array([0, 0, 1, 1, 1, 1, 2, 2])
ONE_HOT = np.eye(3)[CLASSES]
LOG_SHARES = np.log([1 / 4, 1 / 2, 1 / 4])
FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)

# Units, activation, loss, targets, and the bias that fits them best.
CASES = {
    "classes": (3, "softmax", None, CLASSES, LOG_SHARES),
    "column of classes": (3, "softmax", None, CLASSES[:, None], LOG_SHARES),
    "one-hot classes": (3, "softmax", "categorical_crossentropy", ONE_HOT, LOG_SHARES),
    "logits by the loss": (3, None, FROM_LOGITS, CLASSES.astype(np.float32), LOG_SHARES),
    "logits by the targets": (3, None, None, CLASSES, LOG_SHARES),
    "sigmoid": (1, "sigmoid", None, [0, 0, 0, 1], [math.log(1 / 3)]),
    "sigmoids": (2, "sigmoid", None, [[0, 1], [0, 1], [1, 0], [0, 1]], [-math.log(3), math.log(3)]),
    "binary logits by the loss": (1, None, BINARY, [0, 0, 0, 1], [math.log(1 / 3)]),
    "regression": (2, None, "mse", [[1, 10], [3, 30]], [2, 20]),
    "regression of integers": (1, None, "mae", [1, 2, 6], [3]),
    "regression without a loss": (1, None, None, [1.0, 2.0, 6.0], [3]),
    # Half a positive in five samples, so that the bias is finite.
    "no positive": (1, "sigmoid", None, [0, 0, 0, 0], [math.log(0.1 / 0.9)]),
    "no example of a class": (3, "softmax", None, [0, 0, 1], np.log([3 / 6, 2 / 6, 1 / 6])),
}


@pytest.mark.parametrize("name", CASES)
def test_the_bias_is_the_best_constant_prediction(name):
    units, activation, loss, targets, expected = CASES[name]
    model = model_with(("out", units, activation), loss=loss)
    reinitialize(model, seed=0, y=np.array(targets))
    np.testing.assert_allclose(bias(model), expected, rtol=1e-5)


def test_the_loss_starts_near_that_of_the_class_frequencies():
    rng = np.random.default_rng(0)
    inputs, classes = (
        rng.normal(size=(400, 32)).astype(np.float32),
        rng.choice(3, 400, p=[0.9, 0.06, 0.04]),
    )
    model = model_with(("out", 3, "softmax"), loss="sparse_categorical_crossentropy", units=32)
    reinitialize(model, seed=0, y=classes)
    shares = np.bincount(classes) / 400
    entropy = -(shares * np.log(shares)).sum()
    by_classes = model.evaluate(inputs, classes, verbose=0)
    model.layers[-1].kernel.assign(np.zeros((8, 3)))
    assert model.evaluate(inputs, classes, verbose=0) == pytest.approx(entropy, rel=1e-4)
    # The outputs vary with a variance of about 1, which costs about half of that.
    assert entropy < by_classes < entropy + 0.5
    reinitialize(model, seed=0)
    assert model.evaluate(inputs, classes, verbose=0) > math.log(3)


def test_several_outputs_take_their_targets_by_the_name_of_the_layer():
    model = model_with(("kind", 3, "softmax"), ("size", 1, None), ("other", 2, None))
    reinitialize(model, y={"kind": CLASSES, "size": np.array([1.0, 3.0])})
    np.testing.assert_allclose(bias(model, "kind"), LOG_SHARES, rtol=1e-5)
    np.testing.assert_allclose(bias(model, "size"), [2])
    np.testing.assert_array_equal(bias(model, "other"), [0, 0])


def test_an_output_without_a_rule_is_left_and_the_table_says_so():
    model = model_with(("out", 1, "tanh"))
    changes = reinitialize(model, y=np.array([0.5, 0.1]))
    assert changes.rows[-1].reason == "no rule for an output bias before tanh"
    assert not changes.rows[-1].was_set


OUTPUTS = (
    "`reinitialize(y=...)` must be the targets of the only output layer, or a dictionary with the "
    "names of output layers. Received: {}."
)
FIT = (
    "`reinitialize(y=...)` must fit an output layer with {} units. Received: targets of shape {} "
    "and dtype {}."
)
MISTAKES = {
    "two outputs": (
        [("a", 1, None), ("b", 1, None)],
        np.zeros(3),
        OUTPUTS.format("2 output layers ('a', 'b')"),
    ),
    "unknown name": ([("a", 1, None)], {"b": np.zeros(3)}, OUTPUTS.format("1 output layers ('a')")),
    "no output": ([("a", 1, "relu")], np.zeros(3), OUTPUTS.format("0 output layers (none)")),
    "class out of range": ([("a", 3, "softmax")], np.array([0, 3]), FIT.format(3, "(2,)", "int64")),
    "columns": ([("a", 2, None)], np.zeros((3, 3)), FIT.format(2, "(3, 3)", "float64")),
    "no probability": ([("a", 1, "sigmoid")], np.full(2, 5.0), FIT.format(1, "(2,)", "float64")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    heads, targets, message = MISTAKES[name]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        reinitialize(model_with(*heads), y=targets)
