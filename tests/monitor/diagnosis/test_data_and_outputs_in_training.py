"""Data, outputs, targets and learning rates in real training."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_winit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(416, 8)).astype("float32")
CLASSES = (X[:, 0] > 0).astype("int32")
NUMBERS = (X @ RNG.normal(size=8) / 3).astype("float32")[:, None]
CLASSIFIER, REGRESSION = ("softmax", 2), (None, 1)


def train(x, y, optimizer, end=REGRESSION, batch=8, steps=4, hidden=None):
    """Return the severity and rule of each finding; for consequences, the severity is missing."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    activation, units = end
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            *(hidden or [layers.Dense(16, "relu"), layers.Dense(16, "relu")]),
            layers.Dense(units, activation),
        ]
    )
    model.compile(optimizer, "mse" if units == 1 else "sparse_categorical_crossentropy")
    monitor = keras_winit.ActivationMonitor(verbose=0)
    count = batch * steps
    options = {"batch_size": batch, "shuffle": False, "verbose": 0}
    model.fit(x[:count], y[:count], callbacks=[monitor], **options)
    return [
        pair
        for finding in monitor.findings
        for pair in (
            (finding.severity, finding.rule),
            *((None, other.rule) for other in finding.consequences),
        )
    ]


def test_sorted_rows_of_standardized_data_are_healthy():
    x = np.linspace(-(3**0.5), 3**0.5, 100)[:, None].astype("float32")
    # The last of the batches holds 4 rows.
    assert train(x, np.sin(3 * x), "adam", batch=32) == []


def test_large_inputs_come_first():
    assert train(700 * X, CLASSES, "adam", CLASSIFIER)[0][1] == "input_scale"
    single = np.full((4, 1), 2000.0, "float32") + X[:4, :1]
    assert train(single, NUMBERS, "adam", batch=1)[0][1] == "input_scale"


def test_data_rescaled_twice_are_named():
    hidden = [layers.Rescaling(1 / 255), layers.Rescaling(1 / 255), layers.Dense(16, "relu")]
    found = train(255 * np.abs(X).clip(0, 1), CLASSES, "adam", CLASSIFIER, hidden=hidden)
    assert found[0] == ("warning", "input_scale")
    once = [hidden[0], layers.Dense(16, "relu")]
    assert train(255 * np.abs(X).clip(0, 1), CLASSES, "adam", CLASSIFIER, hidden=once) == []


def test_large_targets_are_named():
    assert train(X, 1e6 * NUMBERS, "adam")[0] == ("warning", "target_scale")


def test_a_rate_that_is_too_low_is_named():
    found = train(X, CLASSES, keras.optimizers.SGD(1e-5), CLASSIFIER, steps=51)
    assert found == [("warning", "nothing_learns")]


def test_outputs_of_a_dead_model_are_constant():
    dead = layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-50.0))
    found = train(X, CLASSES, "adam", CLASSIFIER, steps=31, hidden=[dead])
    assert "constant_output" in [rule for _, rule in found]


@pytest.mark.parametrize("batch", [1, 8])
def test_small_batches_and_constant_targets_are_healthy(batch):
    assert train(X, np.full_like(NUMBERS, 0.5), "adam", batch=batch, steps=51) == []


def test_large_updates_before_batch_normalization_are_healthy():
    hidden = [layers.Dense(16), layers.BatchNormalization(), layers.ReLU()]
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    assert train(X, CLASSES, optimizer, CLASSIFIER, steps=31, hidden=hidden) == []
