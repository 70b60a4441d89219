"""One monitor in several fits, with several models and beside others; the count of steps."""

import copy
import json
import pickle
import warnings
from contextlib import suppress

import keras
import numpy as np
import pytest
from keras import layers
from support import boards
from support.monitored import fit, steps_of, tiny
from support.scenarios import BACKEND, X, Y, compiled, numpy_of

from keras_winit import ActivationMonitor
from keras_winit.monitor import JsonLinesWriter, Rule, Violation, check
from keras_winit.monitor.capture.step_counter import updates_counter


class RepeatedUpdates(keras.Model):
    """A model that calls its optimizer a fixed number of times for each batch."""

    def __init__(self, updates):
        super().__init__()
        self.dense, self.updates = layers.Dense(3), updates

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dense(x)

    def train_step(self, *arguments):
        return self._jax_step(*arguments) if BACKEND == "jax" else self._step(*arguments)

    def _jax_step(self, state, data):
        trainable, others, optimizer, metrics = state
        gradients = [0 * value for value in trainable]
        for _ in range(self.updates):
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        self.stateless_call(trainable, others, data[0], training=True)
        return {"loss": 0.0}, (trainable, others, optimizer, metrics)

    def _step(self, data):
        self(data[0], training=True)
        for _ in range(self.updates):
            gradients = [0 * variable.value for variable in self.trainable_variables]
            self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": 0.0}


@pytest.mark.parametrize("updates", [0, 1, 2])
def test_steps_count_batches_not_updates(updates):
    model = RepeatedUpdates(updates)
    model.build((None, 6))
    compiled(model, "sgd")
    model.optimizer.build(model.trainable_variables)
    # Between the two records, the steps must be counted without a record.
    monitor = ActivationMonitor(every=lambda step: step in (0, 9), statistics=["mean"])
    fit(model, monitor, epochs=3)
    fit(model, monitor, epochs=2)
    assert int(updates_counter(model.optimizer)) == updates * 10
    assert steps_of(monitor) == [0, 9]
    assert monitor._steps.next == 10


def test_epochs_of_one_batch_without_updates():
    model = RepeatedUpdates(0)
    model.build((None, 6))
    compiled(model, "sgd")
    monitor = ActivationMonitor(every=lambda step: step == 3, statistics=["mean"])
    fit(model, monitor, epochs=5, batch_size=16)
    assert steps_of(monitor) == [3]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the training step is that of TensorFlow")
def test_several_steps_at_once_without_updates():
    model = RepeatedUpdates(0)
    model.build((None, 6))
    compiled(model, "sgd", steps_per_execution=2)
    monitor = ActivationMonitor(every=1, statistics=["mean"])
    fit(model, monitor, epochs=2, batch_size=4)
    assert steps_of(monitor) == [1, 3, 5, 7]


def test_steps_count_batches_while_gradients_accumulate():
    model = compiled(
        keras.Sequential([keras.Input((6,)), layers.Dense(3)]),
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=3),
    )
    monitor = ActivationMonitor(every=1, statistics=["mean"])
    fit(model, monitor, epochs=2)
    assert steps_of(monitor) == [0, 1, 2, 3]
    later = ActivationMonitor(every=1, statistics=["mean"])
    fit(model, later)
    assert steps_of(later) == [4, 5]


def test_steps_follow_a_loaded_state():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics=["mean"])
    fit(model, monitor)
    model.optimizer.iterations.assign(100)
    fit(model, monitor, epochs=2)
    assert steps_of(monitor) == [0, 1, 100, 101, 102, 103]


@pytest.mark.skipif(BACKEND == "torch", reason="torch runs steps one by one")
def test_several_steps_at_once_that_the_data_cut_short():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    compiled(model, "sgd", steps_per_execution=4)
    monitor = ActivationMonitor(every=1, statistics=["mean"])
    fit(model, monitor, epochs=2, batch_size=3)
    fit(model, monitor, batch_size=3)
    # The fourth and the last of the six batches of an epoch are recorded.
    assert steps_of(monitor) == [3, 5, 9, 11, 15, 17]


def test_an_error_of_the_model_does_not_end_monitoring():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics=["mean"])
    compiled(model, "sgd", "categorical_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(Exception, match=r"(?i)shape|size"):
            fit(model, monitor, y=Y[:, :2])
        compiled(model, "sgd", "mse")
        fit(model, monitor)
    assert len(steps_of(monitor)) == 2


def test_monitoring_that_ended_begins_again_with_the_next_fit():
    fails = True

    def every(step):
        if fails:
            raise KeyError(step)
        return True

    model, monitor = tiny(), ActivationMonitor(every=every, statistics=["mean"])
    with pytest.warns(RuntimeWarning, match="watches no more"):
        fit(model, monitor)
    assert steps_of(monitor) == []
    fails = False
    fit(model, monitor)
    assert steps_of(monitor) == [2, 3]


def rules_found(monitor):
    return [finding.rule for finding in monitor.findings]


def test_rules_apply_again_once_the_weights_are_finite_again():
    model = tiny()
    before = model.get_weights()
    monitor = ActivationMonitor(every=1, verbose=0)
    fit(model, monitor, x=np.full_like(X, np.nan))
    assert rules_found(monitor) == ["non_finite"]
    model.set_weights(before)
    fit(model, monitor, x=1000 + X)
    assert "input_scale" in rules_found(monitor)


def test_another_model_starts_an_empty_history():
    monitor = ActivationMonitor(every=1, verbose=0)
    fit(tiny(), monitor, x=1000 + X)
    assert "input_scale" in rules_found(monitor)
    with pytest.warns(RuntimeWarning, match="starts anew with another model; what it measured"):
        fit(tiny(), monitor)
    assert steps_of(monitor) == [0, 1]
    assert rules_found(monitor) == []


def test_another_model_starts_new_files(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = ActivationMonitor(tmp_path, every=1, verbose=0)
    fit(tiny(), monitor, x=1000 + X, epochs=3)
    with pytest.warns(RuntimeWarning, match="starts anew"):
        fit(tiny(), monitor)
    monitor.close()
    assert [record.step for record in monitor.writers[0]._album.records] == [0, 1]
    events = EventAccumulator(str(tmp_path / "winit")).Reload()
    assert [event.step for event in events.Scalars("winit/loss")] == [0, 1]
    assert events.Scalars("winit/layers_with_findings")[-1].value == 0
    assert events.Tensors("winit/findings")[-1].tensor_proto.string_val[0] == b"[]"


def steps_in_tensorboard(log_dir):
    """Return the steps in the files of each run."""
    events = boards.read("python", log_dir)
    return {
        run: [step for step, _ in curve]
        for (run, tag), curve in events.items()
        if tag == "winit/loss"
    }


def test_two_monitors_of_one_training_write_two_runs(tmp_path):
    first, second = (ActivationMonitor(tmp_path, every=n, verbose=0) for n in (1, 2))
    model = tiny()
    fit(model, first, second)
    fit(model, second)
    assert steps_in_tensorboard(tmp_path) == {"winit": [0, 1], "winit_2": [0, 2]}
    # The runs of a closed and of a deleted monitor are free for others.
    first.close()
    del second
    for _ in range(2):
        fit(tiny(), ActivationMonitor(tmp_path, every=1, verbose=0))
    assert steps_in_tensorboard(tmp_path).keys() == {"winit", "winit_2"}


def test_the_monitors_of_two_models_that_take_turns_write_two_runs(tmp_path):
    pairs = [(tiny(), ActivationMonitor(tmp_path, every=1, verbose=0)) for _ in range(2)]
    for _ in range(2):
        for model, monitor in pairs:
            fit(model, monitor)
    assert steps_in_tensorboard(tmp_path) == {"winit": [0, 1, 2, 3], "winit_2": [0, 1, 2, 3]}


def test_the_run_of_an_interrupted_training_is_free_for_another_monitor(tmp_path):
    class Interrupts(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    for _ in range(2):
        monitor = ActivationMonitor(tmp_path, every=1, verbose=0)
        with suppress(KeyboardInterrupt):
            fit(tiny(), monitor, Interrupts())
        del monitor
    assert {run for run, _ in boards.read("python", tmp_path)} == {"winit"}


def pickled(monitor):
    return pickle.loads(pickle.dumps(monitor))


@pytest.mark.parametrize("copy_of", [copy.deepcopy, pickled])
def test_a_copy_has_the_records_and_goes_on_by_itself(copy_of, tmp_path):
    path = tmp_path / "log.jsonl"
    monitor = ActivationMonitor(tmp_path, every=2, layers="*", writers=[JsonLinesWriter(path)])
    model = tiny()
    fit(model, monitor)
    copied = copy_of(monitor)
    assert [*copied.history] == [*monitor.history]
    assert str(copied) == str(monitor)
    monitor.close()
    fit(model, copied)
    copied.close()
    assert (steps_of(monitor), steps_of(copied)) == ([0], [0, 2])
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 2]
    assert steps_in_tensorboard(tmp_path) == {"winit": [0, 2]}


class AsciiStream:
    """A stream that takes only ASCII, as a file that Windows redirects the output to."""

    encoding = "ascii"

    def __init__(self):
        self.text = ""

    def write(self, text):
        text.encode(self.encoding)
        self.text += text


class NonAscii(Rule):
    """Finds the first layer, for a cause with letters beyond ASCII."""

    id = "non_ascii"
    cause = "Gr\u00f6\u00dfe"

    def check(self, view):
        yield Violation(view.outputs[0].layer, 1.0, 0)


def test_letters_that_a_stream_cannot_encode_are_replaced(monkeypatch):
    stream = AsciiStream()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    fit(tiny(), ActivationMonitor(every=1, verbose=1, rules=[NonAscii()]))
    # The text stands in the report of the finding and below the table.
    assert stream.text.count("Gr??e") == 2


class FullDisk(AsciiStream):
    def write(self, text):
        raise OSError(28, "No space left on device")


class ClosedStream(AsciiStream):
    def write(self, text):
        raise ValueError("I/O operation on closed file.")


@pytest.mark.parametrize("stream", [FullDisk(), ClosedStream(), None])
def test_a_stream_that_cannot_be_written_does_not_end_training(stream, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", stream)
    monitor = ActivationMonitor(every=1, rules=[NonAscii()])
    fit(tiny(), monitor)
    assert rules_found(monitor) == ["non_ascii"]
    assert capsys.readouterr().out == ""


def test_findings_do_not_depend_on_keep():
    findings = []
    for keep in (None, 1):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = tiny()
        monitor = ActivationMonitor(every=1, keep=keep, verbose=0)
        fit(model, monitor, epochs=3)
        fit(model, monitor, x=np.full_like(X, np.inf))
        findings.append(str(monitor.findings))
    assert findings[0] == findings[1]
    assert "from the start" not in findings[0]


def accumulating():
    return keras.optimizers.Adam(gradient_accumulation_steps=4)


def scaling():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())


@pytest.mark.parametrize("optimizer", [accumulating, scaling])
def test_a_check_leaves_the_optimizer_unchanged(optimizer):
    model = compiled(tiny(), optimizer())
    fit(model)
    before = numpy_of(model.optimizer.variables)
    for _ in range(2):
        check(model, X, Y)
    np.testing.assert_equal(numpy_of(model.optimizer.variables), before)


@pytest.mark.parametrize("metrics", [None, ["mae"]])
def test_a_fit_after_a_check_is_as_without_it(metrics):
    losses = []
    for checks in (False, True):
        keras.utils.set_random_seed(0)
        stack = [keras.Input((6,)), layers.Dense(4, "relu"), layers.Dropout(0.4), layers.Dense(3)]
        model = compiled(keras.Sequential(stack), "sgd", metrics=metrics)
        if checks:
            check(model, X, Y, steps=2)
        # Except on torch, Keras shuffles with other generators than those of the model.
        losses.append(fit(model, epochs=2, shuffle=BACKEND == "torch").history)
    assert losses[0] == losses[1]


def test_the_schedule_may_change_between_fits():
    model, monitor = tiny(), ActivationMonitor(every=2, statistics="mean")
    fit(model, monitor)
    monitor.every = 1
    fit(model, monitor)
    assert monitor.every == 1
    assert steps_of(monitor) == [0, 2, 3]
    with pytest.raises(ValueError, match="Received: every=0"):
        monitor.every = 0
