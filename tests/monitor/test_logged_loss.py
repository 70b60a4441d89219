"""A loss that becomes NaN between recorded steps is reported at its own step."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import steps_of
from support.scenarios import BACKEND, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor import FindingError
from keras_winit.monitor.capture.kept_batches import NonFiniteData, non_finite_data

# The default schedule records step 30, then step 50.
STEP = 34
SAMPLES = 8
OPTIONS = {"batch_size": SAMPLES, "shuffle": False, "verbose": 0}


def data(steps=40):
    x = np.random.default_rng(0).standard_normal((steps * SAMPLES, 6)).astype("float32")
    return x, x[:, :3].copy()


def small_model(loss="mse", rate=0.01):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="dense")])
    return compiled(model, keras.optimizers.SGD(rate), loss)


def with_nan(array, *places):
    array = array.copy()
    for place in places:
        array[place] = np.nan
    return array


def the_finding(monitor):
    (finding,) = [finding for finding in monitor.findings if finding.rule == "non_finite"]
    return finding


def test_nan_in_the_inputs_is_reported_at_its_step_with_its_columns():
    (x, y), monitor = data(), ActivationMonitor(verbose=0)
    x = with_nan(x, (STEP * SAMPLES + 3, 2), (STEP * SAMPLES + 5, 4))
    small_model().fit(x, y, callbacks=[monitor], **OPTIONS)
    finding = the_finding(monitor)
    assert (finding.layer, finding.first_step, finding.value) == ("input", STEP, 2)
    assert "2 NaN or infinite values, in columns 2 and 4 of 6 (counted from 0)" in finding.cause
    assert f"the loss became nan at step {STEP}" in finding.cause
    assert finding.remedy.startswith("clean the data")
    assert steps_of(monitor) == [0, 1, 2, 3, 5, 8, 12, 20, 30]


def test_nan_in_the_targets_ends_training_at_its_step():
    x, y = data()
    y = with_nan(y, (STEP * SAMPLES, 1))
    model, monitor = small_model(), ActivationMonitor(verbose=0, on_finding="raise")
    with pytest.raises(FindingError, match=f"non_finite in 'target' at step {STEP}: .*column 1"):
        model.fit(x, y, callbacks=[monitor], **OPTIONS)
    assert int(model.optimizer.iterations) == STEP + 1


def test_nan_in_the_sample_weights_stops_training():
    (x, y), weights = data(), np.ones(40 * SAMPLES, "float32")
    weights = with_nan(weights, STEP * SAMPLES)
    model, monitor = small_model(), ActivationMonitor(verbose=0, on_finding="stop")
    model.fit(x, y, sample_weight=weights, callbacks=[monitor], **OPTIONS)
    assert int(model.optimizer.iterations) == STEP + 1
    assert the_finding(monitor).layer == "sample_weight"


def root_loss(y, outputs):
    """Return NaN for the batch whose targets are -1."""
    return keras.ops.mean((outputs - y) ** 2) + keras.ops.mean(keras.ops.sqrt(y[:, :1] + 1) * 0)


def test_a_loss_that_is_nan_for_finite_data():
    x, y = data()
    y = np.clip(y, -0.9, 5)
    y[STEP * SAMPLES] = -2
    monitor = ActivationMonitor(verbose=0)
    small_model(root_loss).fit(x, y, callbacks=[monitor], **OPTIONS)
    finding = the_finding(monitor)
    assert (finding.layer, finding.first_step) == ("loss", STEP)
    assert re.search(f"became nan at step {STEP}, which was not recorded, although", finding.cause)
    assert f"every=lambda step: step >= {STEP - 5}" in finding.remedy
    assert finding.details[0] == "recorded last: step 30"


def test_the_data_may_be_unknown():
    x, y = data()
    y = with_nan(y, (STEP * SAMPLES, 1))

    def batches():
        for start in range(0, len(x), SAMPLES):
            yield x[start : start + SAMPLES], y[start : start + SAMPLES]

    monitor = ActivationMonitor(verbose=0)
    small_model().fit(batches(), callbacks=[monitor], verbose=0, steps_per_epoch=40)
    finding = the_finding(monitor)
    assert finding.first_step == STEP
    if BACKEND == "tensorflow":
        # On TensorFlow the batch is not kept, and a generator cannot be read again.
        assert finding.layer == "loss"
        assert "the data of that step are unknown" in finding.cause
        assert "look for NaN and infinities in the data" in finding.remedy
    else:
        assert finding.layer == "target"


def test_a_loss_that_is_not_finite_at_a_recorded_step_is_reported_once():
    (x, y), monitor = data(), ActivationMonitor(verbose=0)
    x = with_nan(x, (30 * SAMPLES, 2))
    small_model().fit(x, y, callbacks=[monitor], **OPTIONS)
    findings = [finding for finding in monitor.findings if finding.rule == "non_finite"]
    assert [(finding.layer, finding.first_step) for finding in findings] == [("input", 30)]


def test_batches_are_kept_by_two_monitors_and_forgotten_after_training():
    x, y = data(7)
    model, monitors = small_model(), [ActivationMonitor(verbose=0), ActivationMonitor(every=3)]
    function = []
    watching = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: function.append(model.train_function)
    )
    model.fit(x, y, callbacks=[*monitors, watching], **OPTIONS)
    assert len(set(map(id, function))) == 1
    for monitor in monitors:
        assert not monitor._logged_loss.batches._batches


@pytest.mark.backend_independent
def test_values_that_are_not_finite_are_counted_by_columns():
    x = np.zeros((4, 3, 9), "float32")
    x[0, 0, :7], x[1, 1, 3] = np.nan, -np.inf
    y, weights = np.array([1, 2, 3, 4]), np.array([1, np.inf, 1, 1])
    found = non_finite_data([([np.arange(4), x], y, weights)])
    assert found == [
        NonFiniteData("input", 8, (0, 1, 2, 3, 4, 5, 6), 9),
        NonFiniteData("sample_weight", 1, (), 1),
    ]
    listing = "in columns 0, 1, 2, 3, 4 and 2 more of 9 (counted from 0)"
    assert str(found[0]) == f"8 NaN or infinite values, {listing}"
    assert str(found[1]) == "a NaN or infinite value"
