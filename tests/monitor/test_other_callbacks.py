"""The monitor among other callbacks, and a second monitor, in one `fit`."""

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
from support.scenarios import X, Y, compiled, differences, exact_graphs, sequential, stack, train

from keras_winit import ActivationMonitor
from keras_winit.monitor.output.writers import CsvWriter, JsonLinesWriter

FEW = ("mean", "stddev", "gradient_norm", "update_norm")


@pytest.fixture(scope="module", autouse=True)
def _exact_graphs():
    with exact_graphs():
        yield


class Experiment(keras.callbacks.Callback):
    """Looks at everything, as trackers of experiments do, and leaves things at the model."""

    def __init__(self):
        super().__init__()
        self.saw = []

    def on_train_begin(self, logs=None):
        self.model.tracker, self.model.tracked = self, {"run": 1}

    def on_train_batch_begin(self, batch, logs=None):
        self.saw.append(("begin", batch, int(self.model.optimizer.iterations)))

    def on_train_batch_end(self, batch, logs=None):
        weights = b"".join(w.tobytes() for w in self.model.get_weights())
        rate = float(self.model.optimizer.learning_rate)
        self.saw.append((batch, dict(logs), weights, rate, type(self.model.layers)))
        if batch == 0:
            evaluated = self.model.evaluate(X, Y, verbose=0, return_dict=True)
            predicted = self.model.predict(X, verbose=0).tobytes()
            self.saw.append((evaluated, predicted))


def company(path):
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
        Experiment(),
    ]


def run(path, *around):
    """Train in the company of all; gives what to compare."""
    path.mkdir()
    callbacks = company(path)
    before, after = around or ((), ())
    options = {"validation_data": (X, Y), "epochs": 3}
    model, outcome = train(sequential, [*before, *callbacks, *after], **options)
    outcome["saw"] = callbacks[-1].saw
    outcome["log"] = (path / "log.csv").read_text()
    outcome["files"] = sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if "logs" not in file.parts
    )
    return model, outcome


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone") / "run")[1]


@pytest.mark.parametrize("place", ["first", "last"])
def test_all_callbacks_have_their_way(place, alone, tmp_path):
    path = tmp_path / "run"
    writers = [JsonLinesWriter(tmp_path / "our.jsonl"), CsvWriter(tmp_path / "our.csv")]
    monitor = ActivationMonitor(path / "logs", every=2, statistics=FEW, writers=writers)
    model, outcome = run(path, *(((monitor,), ()) if place == "first" else ((), (monitor,))))
    monitor.close()
    assert differences(alone, outcome) == []
    assert monitor.history.unseen == {}
    watched = [0, 2, 4]
    assert [sample.step for sample in monitor.history.records] == watched
    read_back(path, tmp_path, model, watched)


def read_back(path, ours, model, watched):
    found = boards.read("python", path / "logs")
    assert {run for run, _ in found} == {"train", "validation", "winit"}
    assert [step for step, _ in found["winit", "winit/loss"]] == watched
    assert [step for step, _ in found["train", "epoch_loss"]] == [0, 1, 2]
    assert [step for step, _ in found["validation", "epoch_loss"]] == [0, 1, 2]
    lines = (ours / "our.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, lines) if "layers" in line] == watched
    with (ours / "our.csv").open(newline="") as file:
        assert sorted({int(row["step"]) for row in csv.DictReader(file)}) == watched
    with (path / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    final = keras.models.load_model(path / "3.keras")
    twin = compiled(stack())
    twin.load_weights(path / "3.2.weights.h5")
    for one, other in zip(final.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_resumes_goes_on_with_its_steps(tmp_path):
    def stop(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    def watched(*others):
        monitor = ActivationMonitor(every=1, statistics="mean")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        with contextlib.suppress(KeyboardInterrupt):
            train(sequential, [monitor, backup, *others], epochs=3)
        return [sample.step for sample in monitor.history.records]

    assert watched(keras.callbacks.LambdaCallback(on_epoch_begin=stop)) == [0, 1]
    assert watched() == [2, 3, 4, 5]


@pytest.fixture(scope="module")
def by_itself():
    """A monitor of all layers at every step, and what came of the training."""
    monitor = ActivationMonitor(every=1, statistics=FEW, rules=())
    return train(sequential, [monitor], epochs=7)[1], monitor.history.records


@pytest.mark.parametrize("place", ["first", "last"])
def test_two_monitors_see_the_same_steps(place, by_itself):
    of_all = ActivationMonitor(statistics=FEW, rules=())
    of_one = ActivationMonitor(every=2, layers="dense", statistics="mean", rules=())
    both = [of_all, of_one] if place == "first" else [of_one, of_all]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        _, outcome = train(sequential, both, epochs=7)
    assert differences(by_itself[0], outcome) == []
    assert [sample.step for sample in of_all.history.records] == [0, 1, 2, 3, 5, 8, 12]
    assert [sample.step for sample in of_one.history.records] == [0, 2, 4, 6, 8, 10, 12]
    for sample in of_all.history.records:
        right = by_itself[1][sample.step]
        assert sample.layers == right.layers
        # Of another graph, which may add up in another order.
        np.testing.assert_allclose(sample.values, right.values, rtol=1e-6)
        np.testing.assert_allclose(sample.variable_values, right.variable_values, rtol=1e-6)
    for sample in of_one.history.records:
        assert sample.layers == ("dense.pre", "dense")
        right = by_itself[1][sample.step].values[:2, 0]
        np.testing.assert_allclose(sample.values[:, 0], right, rtol=1e-6)
        assert sample.variables == ()


def test_a_monitor_that_fails_leaves_the_other_one_alone():
    def broken(layer):
        raise LookupError("whom?")

    sound = ActivationMonitor(every=1, statistics="mean", rules=())
    monitors = [ActivationMonitor(every=1, layers=broken, rules=()), sound]
    with pytest.warns(RuntimeWarning, match="LookupError: whom"):
        train(sequential, monitors)
    assert [sample.step for sample in sound.history.records] == [0, 1, 2, 3]
    assert monitors[0].history.records == []


def test_monitors_that_come_and_go_are_not_kept(monkeypatch):
    monkeypatch.setattr("keras_winit.monitor.capture.switch.MAX_FUNCTIONS", 2)
    model, stays = compiled(stack()), ActivationMonitor(every=1, statistics="mean")
    gone = []
    for _ in range(4):
        monitor = ActivationMonitor(every=1, statistics="mean")
        model.fit(X, Y, verbose=0, callbacks=[monitor, stays])
        gone.append(weakref.ref(monitor))
        del monitor
    gc.collect()
    assert sum(one() is not None for one in gone) <= 2
