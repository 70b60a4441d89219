"""Samples wait on the device to be read together; nobody may notice."""

import math
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit, tiny
from support.scenarios import BACKEND, X, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor import Finding, recording
from keras_winit.monitor.output.writers import Writer

# Of `fit`: batches in an epoch.
BATCHES = len(X) // 8


@pytest.fixture
def patience(monkeypatch):
    """How many samples each read took; each waits as long as it is let."""
    monkeypatch.setattr(recording, "MAX_DELAY", math.inf)
    counts, read = [], recording.read

    def counted(layout, steps, packed):
        counts.append(len(steps))
        return read(layout, steps, packed)

    monkeypatch.setattr(recording, "read", counted)
    return counts


def at_the_end(act):
    """Of each batch."""
    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: act(batch))


def watched():
    keras.utils.set_random_seed(0)
    monitor = ActivationMonitor(every=1, statistics="all")
    parts = [keras.Input((6,), name="in"), layers.Dense(3, "relu", name="dense")]
    fit(compiled(keras.Sequential(parts, name="m"), "sgd"), monitor, epochs=2)
    return monitor


def test_samples_read_together_are_those_read_one_by_one(patience, monkeypatch):
    together = watched()
    assert patience == [BATCHES, BATCHES]
    monkeypatch.setattr(recording, "MAX_DELAY", -1.0)
    one_by_one = watched()
    assert patience[2:] == [1] * (2 * BATCHES)
    pairs = zip(together.history.records, one_by_one.history.records, strict=True)
    for one, other in pairs:
        for name in ("step", "layers", "statistics", "variables", "loss", "inputs"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("values", "variable_values", "counts", "input_values"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert str(together.findings) == str(one_by_one.findings)


def test_no_sample_waits_long(patience, monkeypatch):
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
    fit(tiny(), at_the_end(tick), monitor, batch_size=1)
    # After .04, .08 and .12 seconds.
    assert patience == [3, 3, 3, 3, 3, 1]


@pytest.mark.usefixtures("patience")
def test_who_looks_sees_all():
    seen = []
    monitor = ActivationMonitor(every=1, statistics="mean", verbose=0)
    looks = at_the_end(lambda batch: seen.append(monitor.history.records[-1].step))
    fit(tiny(), monitor, looks)
    assert seen == list(range(BATCHES))


@pytest.mark.usefixtures("patience")
def test_writers_and_functions_do_not_wait():
    class Keeps(Writer):
        def write(self, sample):
            steps.append(sample.step)

    def check(batch):
        assert steps == list(range(batch + 1))

    steps = []
    fit(tiny(), ActivationMonitor(every=1, statistics="mean", writers=[Keeps()]), at_the_end(check))
    assert len(steps) == BATCHES
    told = []
    hidden = layers.Dense(4, "tanh", kernel_initializer="zeros")
    model = compiled(keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3)]))
    fit(
        model,
        ActivationMonitor(every=1, verbose=0, on_finding=told.append),
        at_the_end(told.append),
    )
    assert told[-1] == BATCHES - 1
    assert isinstance(told[-2], Finding)


@pytest.mark.usefixtures("patience")
def test_an_interrupt_loses_nothing():
    def interrupt(batch):
        if batch == 1:
            raise KeyboardInterrupt

    monitor = ActivationMonitor(every=1, statistics="mean")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), monitor, at_the_end(interrupt))
    assert [sample.step for sample in monitor.history.records] == [0, 1]


@pytest.mark.usefixtures("patience")
def test_a_step_that_fails_lets_it_speak_first(capsys):
    # The last of eight steps fails, or the seventh on JAX, which tries out the loss first.
    def loss(target, output):
        calls.append(0)
        if len(calls) > 7:
            raise ArithmeticError("too much")
        return keras.ops.mean(output - target)

    calls = []
    hidden = layers.Dense(4, "tanh", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3)])
    model.compile("sgd", loss, run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ArithmeticError, match="too much"):
            fit(model, ActivationMonitor(every=1), batch_size=2)
    assert hidden.name in capsys.readouterr().err


def test_an_interrupt_while_reading_leaves_the_rest(patience, monkeypatch):
    def diagnose(self, record, facts):
        if record.step == 0:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(recording.Diagnosis, "__call__", diagnose)
    monitor = ActivationMonitor(every=1, statistics="mean")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), monitor)
    assert [sample.step for sample in monitor.history.records] == list(range(BATCHES))
    assert patience == [BATCHES, BATCHES - 1]


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_steps_that_measure_something_else_are_told_apart(patience):
    class Fork(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = layers.Dense(3, name="one"), layers.Dense(3, name="other")

        def build(self, shape):
            self.one.build(shape)
            self.other.build(shape)

        def call(self, x):
            return self.one(x) if len(x) == 8 else self.other(x)

    model, monitor = Fork(), ActivationMonitor(every=1, statistics="mean")
    model.compile("sgd", "mse", run_eagerly=BACKEND == "tensorflow")
    x, y = np.ones((20, 6), "float32"), np.ones((20, 3), "float32")
    fit(model, monitor, x=x, y=y)
    assert patience == [2, 1]
    names = [sample.layers[0].split("/")[-1] for sample in monitor.history.records]
    assert names == ["one", "one", "other"]
