"""The monitor with other callbacks and with a second monitor in the same `fit`."""

import contextlib
import csv
import gc
import json
import warnings
import weakref

import keras
import numpy as np
import pytest
from support import boards
from support.comparison import differences, exact_graphs, train
from support.monitored import steps_of
from support.scenarios import X, Y, compiled, sequential, stack

from keras_winit import ActivationMonitor
from keras_winit.monitor import CsvWriter, JsonLinesWriter

FEW = ("mean", "stddev", "gradient_norm", "update_norm")


@pytest.fixture(scope="module", autouse=True)
def _exact_graphs():
    with exact_graphs():
        yield


class ExperimentTracker(keras.callbacks.Callback):
    """A callback that reads everything from the model and sets attributes of it."""

    def __init__(self):
        super().__init__()
        self.events = []

    def on_train_begin(self, logs=None):
        self.model.tracker, self.model.tracked = self, {"run": 1}

    def on_train_batch_begin(self, batch, logs=None):
        self.events.append(("begin", batch, int(self.model.optimizer.iterations)))

    def on_train_batch_end(self, batch, logs=None):
        weights = b"".join(w.tobytes() for w in self.model.get_weights())
        rate = float(self.model.optimizer.learning_rate)
        self.events.append((batch, dict(logs), weights, rate, type(self.model.layers)))
        if batch == 0:
            evaluated = self.model.evaluate(X, Y, verbose=0, return_dict=True)
            predicted = self.model.predict(X, verbose=0).tobytes()
            self.events.append((evaluated, predicted))


def other_callbacks(path):
    callbacks = keras.callbacks
    return [
        callbacks.TensorBoard(str(path / "logs"), histogram_freq=1, update_freq="batch"),
        callbacks.ModelCheckpoint(path / "{epoch}.keras"),
        callbacks.ModelCheckpoint(
            path / "{epoch}.{batch}.weights.h5", "loss", save_freq=1, save_weights_only=True
        ),
        callbacks.BackupAndRestore(path / "backup", save_freq=1, delete_checkpoint=False),
        callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=10.0),
        callbacks.CSVLogger(path / "log.csv"),
        ExperimentTracker(),
    ]


def train_with_other_callbacks(path, before=(), after=()):
    """Train with callbacks before and after the others; return the outcome."""
    path.mkdir()
    callbacks = other_callbacks(path)
    options = {"validation_data": (X, Y), "epochs": 3}
    _, outcome = train(sequential, [*before, *callbacks, *after], **options)
    outcome["events"] = callbacks[-1].events
    outcome["log"] = (path / "log.csv").read_text()
    outcome["files"] = sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if "logs" not in file.parts
    )
    return outcome


@pytest.fixture(scope="module")
def without_monitor(tmp_path_factory):
    return train_with_other_callbacks(tmp_path_factory.mktemp("without") / "run")


@pytest.mark.parametrize("order", ["before", "after"])
def test_other_callbacks_work_as_without_the_monitor(order, without_monitor, tmp_path):
    path = tmp_path / "run"
    writers = [JsonLinesWriter(tmp_path / "monitor.jsonl"), CsvWriter(tmp_path / "monitor.csv")]
    monitor = ActivationMonitor(path / "logs", every=2, statistics=FEW, writers=writers)
    outcome = train_with_other_callbacks(path, **{order: [monitor]})
    monitor.close()
    assert differences(without_monitor, outcome) == []
    assert monitor.history.unseen == {}
    assert steps_of(monitor) == [0, 2, 4]
    check_files_of_monitor(path / "logs", tmp_path, steps=[0, 2, 4])
    check_files_of_other_callbacks(path)


def check_files_of_monitor(log_dir, path, steps):
    events = boards.read("python", log_dir)
    assert {run for run, _ in events} == {"train", "validation", "winit"}
    assert [step for step, _ in events["winit", "winit/loss"]] == steps
    assert [step for step, _ in events["train", "epoch_loss"]] == [0, 1, 2]
    assert [step for step, _ in events["validation", "epoch_loss"]] == [0, 1, 2]
    lines = (path / "monitor.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, lines) if "layers" in line] == steps
    with (path / "monitor.csv").open(newline="") as file:
        assert sorted({int(row["step"]) for row in csv.DictReader(file)}) == steps


def check_files_of_other_callbacks(path):
    with (path / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    from_model = keras.models.load_model(path / "3.keras")
    from_weights = compiled(stack())
    from_weights.load_weights(path / "3.2.weights.h5")
    pairs = zip(from_model.get_weights(), from_weights.get_weights(), strict=True)
    for weight, expected in pairs:
        np.testing.assert_array_equal(weight, expected)


def test_a_resumed_run_goes_on_counting_steps(tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    def recorded_steps(*callbacks):
        monitor = ActivationMonitor(every=1, statistics="mean")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        with contextlib.suppress(KeyboardInterrupt):
            train(sequential, [monitor, backup, *callbacks], epochs=3)
        return steps_of(monitor)

    assert recorded_steps(keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)) == [0, 1]
    assert recorded_steps() == [2, 3, 4, 5]


@pytest.fixture(scope="module")
def single_monitor():
    """Return the outcome and the records of training with one monitor at every step."""
    monitor = ActivationMonitor(every=1, statistics=FEW, rules=())
    _, outcome = train(sequential, [monitor], epochs=7)
    return outcome, monitor.history.records


@pytest.mark.parametrize("order", [1, -1])
def test_two_monitors_record_what_one_monitor_records(order, single_monitor):
    expected_outcome, expected_records = single_monitor
    all_layers = ActivationMonitor(statistics=FEW, rules=())
    one_layer = ActivationMonitor(every=2, layers="dense", statistics="mean", rules=())
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        _, outcome = train(sequential, [all_layers, one_layer][::order], epochs=7)
    assert differences(expected_outcome, outcome) == []
    assert steps_of(all_layers) == [0, 1, 2, 3, 5, 8, 12]
    assert steps_of(one_layer) == [0, 2, 4, 6, 8, 10, 12]
    # The graphs differ, and may add up in a different order.
    for record in all_layers.history.records:
        expected = expected_records[record.step]
        assert record.layers == expected.layers
        np.testing.assert_allclose(record.values, expected.values, rtol=1e-6)
        np.testing.assert_allclose(record.variable_values, expected.variable_values, rtol=1e-6)
    for record in one_layer.history.records:
        assert record.layers == ("dense.pre", "dense")
        means = expected_records[record.step].values[:2, 0]
        np.testing.assert_allclose(record.values[:, 0], means, rtol=1e-6)
        assert record.variables == ()


def test_a_monitor_that_fails_does_not_affect_another_monitor():
    def broken(layer):
        raise LookupError("no such layer")

    failing = ActivationMonitor(every=1, layers=broken, rules=())
    working = ActivationMonitor(every=1, statistics="mean", rules=())
    with pytest.warns(RuntimeWarning, match="LookupError: no such layer"):
        train(sequential, [failing, working])
    assert steps_of(working) == [0, 1, 2, 3]
    assert steps_of(failing) == []


def test_discarded_monitors_are_freed(monkeypatch):
    monkeypatch.setattr("keras_winit.monitor.capture.switch.MAX_FUNCTIONS", 2)
    model, permanent = compiled(stack()), ActivationMonitor(every=1, statistics="mean")
    references = []
    for _ in range(4):
        monitor = ActivationMonitor(every=1, statistics="mean")
        model.fit(X, Y, verbose=0, callbacks=[monitor, permanent])
        references.append(weakref.ref(monitor))
        del monitor
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 2
