"""A monitor used again: other fits, other models, steps that the optimizer does not count."""

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
from support.monitored import fit, tiny
from support.scenarios import BACKEND, X, Y, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor import Rule, Violation, check
from keras_winit.monitor.capture.step_counter import updates_counter
from keras_winit.monitor.output.writers import JsonLinesWriter


def steps_of(monitor):
    return [sample.step for sample in monitor.history.records]


class Often(keras.Model):
    """Its optimizer has nothing to do, or twice as much as there are batches."""

    def __init__(self, times):
        super().__init__()
        self.dense, self.times = layers.Dense(3), times

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dense(x)


if BACKEND == "jax":

    class Counting(Often):
        def train_step(self, state, data):
            trainable, others, optimizer, metrics = state
            gradients = [0 * value for value in trainable]
            for _ in range(self.times):
                trainable, optimizer = self.optimizer.stateless_apply(
                    optimizer, gradients, trainable
                )
            self.stateless_call(trainable, others, data[0], training=True)
            return {"loss": 0.0}, (trainable, others, optimizer, metrics)

else:

    class Counting(Often):
        def train_step(self, data):
            self(data[0], training=True)
            for _ in range(self.times):
                gradients = [0 * variable.value for variable in self.trainable_variables]
                self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": 0.0}


@pytest.mark.parametrize("times", [0, 1, 2])
def test_steps_are_batches_whatever_the_optimizer_counts(times):
    model = Counting(times)
    model.build((None, 6))
    compiled(model, "sgd")
    model.optimizer.build(model.trainable_variables)
    # Nothing is due after the first step: there is no sample to count on from.
    monitor = ActivationMonitor(every=lambda step: step in (0, 9), statistics=["mean"])
    fit(model, monitor, epochs=3)
    fit(model, monitor, epochs=2)
    assert int(updates_counter(model.optimizer)) == times * 10
    assert steps_of(monitor) == [0, 9]
    assert monitor._steps.next == 10


def test_epochs_of_one_batch_that_the_optimizer_does_not_count():
    model = Counting(0)
    model.build((None, 6))
    compiled(model, "sgd")
    monitor = ActivationMonitor(every=lambda step: step == 3, statistics=["mean"])
    fit(model, monitor, epochs=5, batch_size=16)
    assert steps_of(monitor) == [3]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's own train step")
def test_blocks_that_the_optimizer_does_not_count():
    model = Counting(0)
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


def test_steps_follow_a_state_that_was_loaded():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics=["mean"])
    fit(model, monitor)
    model.optimizer.iterations.assign(100)
    fit(model, monitor, epochs=2)
    assert steps_of(monitor) == [0, 1, 100, 101, 102, 103]


@pytest.mark.skipif(BACKEND == "torch", reason="torch has no blocks")
def test_blocks_that_the_data_cut_short():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    compiled(model, "sgd", steps_per_execution=4)
    monitor = ActivationMonitor(every=1, statistics=["mean"])
    fit(model, monitor, epochs=2, batch_size=3)
    fit(model, monitor, batch_size=3)
    # Six batches an epoch, of which the fourth and the last are seen.
    assert steps_of(monitor) == [3, 5, 9, 11, 15, 17]


def test_an_error_of_the_model_s_own_does_not_end_the_watch():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics=["mean"])
    compiled(model, "sgd", "categorical_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(Exception, match=r"(?i)shape|size"):
            fit(model, monitor, y=Y[:, :2])
        compiled(model, "sgd", "mse")
        fit(model, monitor)
    assert len(steps_of(monitor)) == 2


def test_a_watch_that_ended_begins_again_with_the_next_fit():
    broken = [True]

    def every(step):
        if broken[0]:
            raise KeyError(step)
        return True

    model, monitor = tiny(), ActivationMonitor(every=every, statistics=["mean"])
    with pytest.warns(RuntimeWarning, match="watches no more"):
        fit(model, monitor)
    assert steps_of(monitor) == []
    broken.clear()
    broken.append(False)
    fit(model, monitor)
    assert steps_of(monitor) == [2, 3]


def rules_of(monitor):
    return [finding.rule for finding in monitor.findings]


def test_rules_apply_again_once_the_weights_are_right():
    model = tiny()
    before, bad = model.get_weights(), X.copy()
    bad[:] = np.nan
    monitor = ActivationMonitor(every=1, verbose=0)
    fit(model, monitor, x=bad)
    assert rules_of(monitor) == ["non_finite"]
    model.set_weights(before)
    fit(model, monitor, x=1000 + X)
    assert "input_scale" in rules_of(monitor)


def test_another_model_starts_anew():
    monitor = ActivationMonitor(every=1, verbose=0)
    fit(tiny(), monitor, x=1000 + X)
    assert "input_scale" in rules_of(monitor)
    other = tiny()
    with pytest.warns(RuntimeWarning, match="starts anew with another model; what it measured"):
        fit(other, monitor)
    assert steps_of(monitor) == [0, 1]
    assert rules_of(monitor) == []


def test_files_of_another_model_start_anew(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = ActivationMonitor(tmp_path, every=1, verbose=0)
    fit(tiny(), monitor, x=1000 + X, epochs=3)
    with pytest.warns(RuntimeWarning, match="starts anew"):
        fit(tiny(), monitor)
    monitor.close()
    assert [one.step for one in monitor.writers[0]._album.records] == [0, 1]
    events = EventAccumulator(str(tmp_path / "winit")).Reload()
    assert [event.step for event in events.Scalars("winit/loss")] == [0, 1]
    assert events.Scalars("winit/layers_with_findings")[-1].value == 0
    (_, *_, last) = [None, *events.Tensors("winit/findings")]
    assert last.tensor_proto.string_val[0] == b"[]"


def test_two_monitors_of_one_training_do_not_hide_each_other(tmp_path):
    first, second = (ActivationMonitor(tmp_path, every=n, verbose=0) for n in (1, 2))
    model = tiny()
    fit(model, first, second)
    fit(model, second)
    found = boards.read("python", tmp_path)
    both = {run: [step for step, _ in found[run, "winit/loss"]] for run in ("winit", "winit_2")}
    assert both == {"winit": [0, 1], "winit_2": [0, 2]}
    # What is closed, or nobody has any more, leaves its run, as does a program that ends.
    first.close()
    del second
    for _ in range(2):
        fit(tiny(), ActivationMonitor(tmp_path, every=1, verbose=0))
    assert {run for run, _ in boards.read("python", tmp_path)} == {"winit", "winit_2"}


def test_monitors_of_two_models_that_take_turns(tmp_path):
    both = [(tiny(), ActivationMonitor(tmp_path, every=1, verbose=0)) for _ in range(2)]
    for _ in range(2):
        for model, monitor in both:
            fit(model, monitor)
    found = boards.read("python", tmp_path)
    for run in ("winit", "winit_2"):
        assert [step for step, _ in found[run, "winit/loss"]] == [0, 1, 2, 3]


def test_an_interrupted_training_is_over(tmp_path):
    class Impatient(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    for _ in range(2):
        monitor = ActivationMonitor(tmp_path, every=1, verbose=0)
        with suppress(KeyboardInterrupt):
            fit(tiny(), monitor, Impatient())
        del monitor
    assert {run for run, _ in boards.read("python", tmp_path)} == {"winit"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_what_was_measured_and_goes_on_by_itself(copied, tmp_path):
    file = tmp_path / "log.jsonl"
    monitor = ActivationMonitor(tmp_path, every=2, layers="*", writers=[JsonLinesWriter(file)])
    model = tiny()
    fit(model, monitor)
    twin = copied(monitor)
    assert [*twin.history] == [*monitor.history]
    assert str(twin) == str(monitor)
    monitor.close()
    fit(model, twin)
    twin.close()
    assert (steps_of(monitor), steps_of(twin)) == ([0], [0, 2])
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 2]
    found = boards.read("python", tmp_path)
    assert [step for step, _ in found["winit", "winit/loss"]] == [0, 2]


class Narrow:
    """A stream of few characters, as where Windows writes into a file."""

    encoding = "ascii"

    def __init__(self):
        self.text = ""

    def write(self, text):
        text.encode(self.encoding)
        self.text += text


class Wide(Rule):
    id = "wide"
    cause = "Gr\u00f6\u00dfe"

    def check(self, view):
        yield Violation(view.outputs[0].layer, 1.0, 0)


def test_words_that_a_stream_cannot_take_are_printed_all_the_same(monkeypatch):
    stream = Narrow()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    fit(tiny(), ActivationMonitor(every=1, verbose=1, rules=[Wide()]))
    # As it is found, and below the table.
    assert stream.text.count("Gr??e") == 2


class Gone(Narrow):
    """A stream that nobody reads any more, or on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


class Closed(Narrow):
    def write(self, text):
        raise ValueError("I/O operation on closed file.")


@pytest.mark.parametrize("stream", [Gone(), Closed(), None])
def test_words_that_nobody_can_read_do_not_end_training(stream, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", stream)
    monitor = ActivationMonitor(every=1, rules=[Wide()])
    fit(tiny(), monitor)
    assert rules_of(monitor) == ["wide"]
    assert capsys.readouterr().out == ""


def test_few_samples_in_memory_do_not_change_what_rules_say():
    found = []
    for keep in (None, 1):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = tiny()
        monitor = ActivationMonitor(every=1, keep=keep, verbose=0)
        fit(model, monitor, epochs=3)
        fit(model, monitor, x=np.full_like(X, np.inf))
        found.append(str(monitor.findings))
    assert found[0] == found[1]
    assert "from the start" not in found[0]


def accumulating():
    return keras.optimizers.Adam(gradient_accumulation_steps=4)


def scaling():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())


@pytest.mark.parametrize("optimizer", [accumulating, scaling])
def test_a_check_leaves_any_optimizer_as_it_was(optimizer):
    model = compiled(tiny(), optimizer())
    fit(model)
    variables = model.optimizer.variables
    before = [np.array(variable) for variable in variables]
    for _ in range(2):
        check(model, X, Y)
    assert [variable.path for variable in model.optimizer.variables] == [v.path for v in variables]
    for variable, value in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
