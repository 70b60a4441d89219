"""Statistics of the targets of each recorded step."""

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit
from support.scenarios import BACKEND, X, Y, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.rules import View

FEW = ("mean", "stddev", "unit_stddev", "min", "max", "zero_share", "nonfinite", "norm")


def dense(loss="mse", units=3, **options):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(units)])
    return compiled(model, "sgd", loss, **options)


def statistics_of(target):
    """Return the statistics `FEW` of one target, from numpy."""
    values = np.asarray(target, np.float64)
    finite = values[np.isfinite(values)]
    units = values.reshape(-1, 1 if values.ndim == 1 else values.shape[-1])
    with np.errstate(invalid="ignore"):
        unit_stddev = np.mean([unit[np.isfinite(unit)].std() for unit in units.T])
    expected = (
        finite.mean(),
        finite.std(),
        unit_stddev,
        finite.min(),
        finite.max(),
        np.mean(values == 0),
        np.sum(~np.isfinite(values)),
        np.linalg.norm(finite),
    )
    return dict(zip(FEW, expected, strict=True))


def recorded_targets(model, y, x=X, plan=FEW, **options):
    """Return the statistics of each target by name, of one step with all samples."""
    monitor = ActivationMonitor(every=1, statistics=plan, **options)
    fit(model, monitor, x=x, y=y, batch_size=len(x))
    (record,) = monitor.history.records
    assert record.target_values.shape == (len(record.targets), len(record.statistics))
    rows = View([record], ModelFacts(parts={})).targets
    assert [(row.layer, row.order) for row in rows] == [(name, -1) for name in record.targets]
    return {row.layer: {**row.values} for row in rows}


def check_target(measured, target):
    assert measured == pytest.approx(statistics_of(target), rel=1e-5, abs=1e-6)


CLASSES = np.arange(16) % 3
TARGETS = {
    "floats": ("mse", 3, Y),
    "floats of rank 1": ("mse", 1, Y[:, 0]),
    "integers": ("sparse_categorical_crossentropy", 3, CLASSES),
    "bytes": ("sparse_categorical_crossentropy", 3, CLASSES.astype("uint8")[:, None]),
    "booleans": ("mse", 1, CLASSES[:, None] == 1),
    "classes out of range": ("mse", 1, (CLASSES * 300).astype("int32")),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_measured_as_float32(name):
    loss, units, target = TARGETS[name]
    measured = recorded_targets(dense(loss, units), target)
    assert list(measured) == ["target"]
    check_target(measured["target"], target)


def test_targets_are_measured_eagerly():
    measured = recorded_targets(dense(run_eagerly=True), Y)
    check_target(measured["target"], Y)


def test_targets_that_are_not_finite_are_counted():
    target = Y.copy()
    target[2, 1], target[3, 0] = np.nan, np.inf
    check_target(recorded_targets(dense(), target)["target"], target)


def test_several_targets_are_named_in_the_order_of_the_flattened_targets():
    inputs = keras.Input((6,))
    outputs = {"a": layers.Dense(3, name="a")(inputs), "b": layers.Dense(1, name="b")(inputs)}
    model = compiled(keras.Model(inputs, outputs), "sgd", {"a": "mse", "b": "mae"})
    measured = recorded_targets(model, {"b": CLASSES[:, None], "a": Y})
    assert list(measured) == ["target", "target:1"]
    check_target(measured["target"], Y)
    check_target(measured["target:1"], CLASSES)


def test_only_the_first_samples_of_the_targets_are_measured():
    check_target(recorded_targets(dense(), Y, samples=5)["target"], Y[:5])


def test_without_statistics_of_layers_no_target_is_measured():
    monitor = ActivationMonitor(every=1, statistics="update_norm")
    fit(dense(), monitor)
    assert monitor.history.records[0].targets == ()


class LossOfOutputs(keras.Model):
    """A model whose loss needs no target."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        outputs = self.dense(x)
        self.add_loss(keras.ops.mean(outputs**2))
        return outputs


def test_a_model_without_targets_has_no_row_for_them():
    model, monitor = compiled(LossOfOutputs(), "sgd", None), ActivationMonitor(every=1)
    model.fit(X, batch_size=8, verbose=0, callbacks=[monitor])
    record = monitor.history.records[0]
    assert record.inputs == ("input",)
    assert record.targets == ()
    assert record.target_values.shape == (0, len(record.statistics))
    assert monitor.history.unseen == {}


def test_targets_with_sample_weights_are_measured_as_they_are():
    monitor = ActivationMonitor(every=1, statistics=FEW)
    fit(dense(), monitor, sample_weight=np.linspace(0, 1, 16), batch_size=16)
    (record,) = monitor.history.records
    check_target(dict(zip(FEW, record.target_values[0], strict=True)), Y)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras repeats no step on torch")
def test_several_steps_per_execution_record_the_targets_of_the_last():
    model, monitor = dense(steps_per_execution=2), ActivationMonitor(every=1, statistics=FEW)
    fit(model, monitor)
    (record,) = monitor.history.records
    assert record.step == 1
    check_target(dict(zip(FEW, record.target_values[0], strict=True)), Y[8:])


def ragged_loss(y, outputs):
    return keras.ops.mean((y.to_tensor() - outputs) ** 2)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has ragged tensors")
def test_a_ragged_target_has_no_row():
    import tensorflow as tf

    target = tf.RaggedTensor.from_row_lengths(Y.ravel(), [3] * 16)
    model, monitor = dense(ragged_loss), ActivationMonitor(every=1)
    model.fit(tf.data.Dataset.from_tensor_slices((X, target)).batch(8), callbacks=[monitor])
    assert [record.targets for record in monitor.history.records] == [(), ()]
    assert monitor.history.unseen == {"target": "is sparse or ragged"}
