"""Records wait on the device to be read together, without a visible effect."""

import math
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit, steps_of, tiny
from support.scenarios import BACKEND, X, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor import Finding, Writer, recording

# Number of batches in an epoch of `fit`.
BATCHES = len(X) // 8


@pytest.fixture
def read_counts(monkeypatch):
    """Let records wait without a limit; return how many records each read took."""
    monkeypatch.setattr(recording, "MAX_DELAY", math.inf)
    counts, read = [], recording.read

    def counting_read(layout, steps, packed):
        counts.append(len(steps))
        return read(layout, steps, packed)

    monkeypatch.setattr(recording, "read", counting_read)
    return counts


def after_each_batch(function):
    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: function(batch))


def trained_monitor():
    keras.utils.set_random_seed(0)
    monitor = ActivationMonitor(every=1, statistics="all")
    parts = [keras.Input((6,), name="in"), layers.Dense(3, "relu", name="dense")]
    fit(compiled(keras.Sequential(parts, name="m"), "sgd"), monitor, epochs=2)
    return monitor


def test_records_read_together_equal_records_read_one_by_one(read_counts, monkeypatch):
    together = trained_monitor()
    assert read_counts == [BATCHES, BATCHES]
    monkeypatch.setattr(recording, "MAX_DELAY", -1.0)
    one_by_one = trained_monitor()
    assert read_counts[2:] == [1] * (2 * BATCHES)
    pairs = zip(together.history.records, one_by_one.history.records, strict=True)
    for record, expected in pairs:
        for name in ("step", "layers", "statistics", "variables", "loss", "inputs"):
            assert getattr(record, name) == getattr(expected, name)
        for name in ("values", "variable_values", "counts", "input_values"):
            np.testing.assert_array_equal(getattr(record, name), getattr(expected, name))
    assert str(together.findings) == str(one_by_one.findings)


def test_no_record_waits_longer_than_the_limit(read_counts, monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    def tick(batch):
        clock.now += 0.04

    clock = Clock()
    monkeypatch.setattr(recording, "time", clock)
    monkeypatch.setattr(recording, "MAX_DELAY", 0.1)
    monitor = ActivationMonitor(every=1, statistics="mean")
    fit(tiny(), after_each_batch(tick), monitor, batch_size=1)
    # The oldest of three records has waited 0.04, 0.08, then 0.12 seconds.
    assert read_counts == [3, 3, 3, 3, 3, 1]


@pytest.mark.usefixtures("read_counts")
def test_the_history_has_the_record_of_the_last_step():
    steps = []
    monitor = ActivationMonitor(every=1, statistics="mean", verbose=0)
    look = after_each_batch(lambda batch: steps.append(monitor.history.records[-1].step))
    fit(tiny(), monitor, look)
    assert steps == list(range(BATCHES))


@pytest.mark.usefixtures("read_counts")
def test_writers_get_each_record_at_its_step():
    class StepsWriter(Writer):
        def write(self, record):
            steps.append(record.step)

    def check(batch):
        assert steps == list(range(batch + 1))

    steps = []
    monitor = ActivationMonitor(every=1, statistics="mean", writers=[StepsWriter()])
    fit(tiny(), monitor, after_each_batch(check))
    assert len(steps) == BATCHES


def symmetric_layer():
    """Return a layer of equal units, which are found at the second step."""
    return layers.Dense(4, "tanh", kernel_initializer="zeros")


@pytest.mark.usefixtures("read_counts")
def test_on_finding_is_called_at_the_step_of_the_finding():
    calls = []
    model = compiled(keras.Sequential([keras.Input((6,)), symmetric_layer(), layers.Dense(3)]))
    monitor = ActivationMonitor(every=1, verbose=0, on_finding=calls.append)
    fit(model, monitor, after_each_batch(calls.append))
    assert calls[-1] == BATCHES - 1
    assert isinstance(calls[-2], Finding)


@pytest.mark.usefixtures("read_counts")
def test_an_interrupt_loses_no_record():
    def interrupt(batch):
        if batch == 1:
            raise KeyboardInterrupt

    monitor = ActivationMonitor(every=1, statistics="mean")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), monitor, after_each_batch(interrupt))
    assert steps_of(monitor) == [0, 1]


@pytest.mark.usefixtures("read_counts")
def test_findings_are_reported_before_the_error_of_a_step(capsys):
    # The last of eight steps fails, or the seventh on JAX, where the loss is tried out first.
    def loss(target, output):
        calls.append(0)
        if len(calls) > 7:
            raise ArithmeticError("too much")
        return keras.ops.mean(output - target)

    calls, hidden = [], symmetric_layer()
    model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3)])
    model.compile("sgd", loss, run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ArithmeticError, match="too much"):
            fit(model, ActivationMonitor(every=1), batch_size=2)
    assert hidden.name in capsys.readouterr().err


def test_an_interrupt_while_reading_leaves_the_other_records(read_counts, monkeypatch):
    def diagnose(self, record, facts):
        if record.step == 0:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(recording.Diagnosis, "__call__", diagnose)
    monitor = ActivationMonitor(every=1, statistics="mean")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), monitor)
    assert steps_of(monitor) == list(range(BATCHES))
    assert read_counts == [BATCHES, BATCHES - 1]


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_steps_with_different_layers_are_read_apart(read_counts):
    class Fork(keras.Model):
        def __init__(self):
            super().__init__()
            self.left, self.right = layers.Dense(3, name="left"), layers.Dense(3, name="right")

        def build(self, shape):
            self.left.build(shape)
            self.right.build(shape)

        def call(self, x):
            return self.left(x) if len(x) == 8 else self.right(x)

    model, monitor = Fork(), ActivationMonitor(every=1, statistics="mean")
    model.compile("sgd", "mse", run_eagerly=BACKEND == "tensorflow")
    x, y = np.ones((20, 6), "float32"), np.ones((20, 3), "float32")
    fit(model, monitor, x=x, y=y)
    assert read_counts == [2, 1]
    names = [record.layers[0].split("/")[-1] for record in monitor.history.records]
    assert names == ["left", "left", "right"]
