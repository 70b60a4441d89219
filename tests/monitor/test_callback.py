"""The callback leaves nothing behind, never ends training by a fault, and says what it misses."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit, row, steps_of, tiny, variable
from support.scenarios import BACKEND, SERIES, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor.capture.switch import SingleCall

CALL = keras.layers.Layer.__call__


def test_a_model_compiled_again_trains_with_its_new_optimizer():
    final_weights = []
    for callbacks in ([], [ActivationMonitor(every=1, statistics="mean")]):
        keras.utils.set_random_seed(0)
        model = tiny()
        fit(model, *callbacks)
        # The bound is known only to the compiled function.
        compiled(model, keras.optimizers.SGD(1.0, clipnorm=0.01))
        fit(model, *callbacks)
        final_weights.append(model.get_weights())
    for without, monitored in zip(*final_weights, strict=True):
        np.testing.assert_allclose(monitored, without, rtol=1e-6, atol=1e-6)
    assert steps_of(callbacks[0]) == [0, 1, 2, 3]


class Fragile(layers.Layer):
    """A layer that raises once `fails` is true."""

    fails = False

    def call(self, x):
        if self.fails:
            raise ValueError("broken layer")
        return x


def before_each_batch(function):
    return keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: function())


def test_an_exception_leaves_nothing_behind():
    fragile = Fragile()
    model = compiled(keras.Sequential([keras.Input((6,)), layers.Dense(3, "relu"), fragile]))
    activation, monitor = model.layers[0].activation, ActivationMonitor(every=1, statistics="mean")
    breaks = before_each_batch(lambda: setattr(fragile, "fails", True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="broken layer"):
            fit(model, monitor, breaks)
    assert keras.layers.Layer.__call__ is CALL
    assert model.layers[0].activation is activation
    for part in (model, model.optimizer):
        assert not {"train_step", "compute_loss", "apply", "stateless_apply"} & set(vars(part))


def test_an_interrupt_leaves_nothing_behind():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics="mean")

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, monitor, before_each_batch(interrupt))
    assert keras.layers.Layer.__call__ is CALL
    monitor.on_train_begin()
    assert not isinstance(model.train_function, SingleCall)
    fit(model, monitor)
    assert not isinstance(model.train_function, SingleCall)
    assert steps_of(monitor) == [0, 1]


def test_an_activation_that_is_a_layer_is_built_by_the_model():
    parts = [layers.Dense(8, activation=layers.PReLU()), layers.Dense(3)]
    model, monitor = compiled(keras.Sequential(parts), "sgd"), ActivationMonitor(every=1)
    fit(model, monitor)
    assert tuple(parts[0].activation.alpha.shape) == (8,)
    assert len(monitor.history.records) == 2


def runtime_warnings(model, monitor):
    """Train a model; return the messages of the warnings."""
    with pytest.warns(RuntimeWarning) as caught:
        fit(model, monitor)
    return [str(item.message) for item in caught if item.category is RuntimeWarning]


def test_a_schedule_that_raises_ends_monitoring():
    model = tiny()
    monitor = ActivationMonitor(every=lambda step: {0: True}[step], statistics="mean")
    assert runtime_warnings(model, monitor) == [
        "`ActivationMonitor` watches no more, training goes on. Received: KeyError: 1"
    ]
    assert steps_of(monitor) == [0]
    assert int(model.optimizer.iterations) == 2


class OwnFunction(keras.Model):
    def make_train_function(self, force=False):
        return super().make_train_function(force)


def test_a_model_with_its_own_train_function_is_not_monitored():
    inputs = keras.Input((6,))
    model = compiled(OwnFunction(inputs, layers.Dense(3)(inputs)))
    monitor = ActivationMonitor()
    assert runtime_warnings(model, monitor) == [
        "`ActivationMonitor` watches no more, training goes on. "
        "Received: TypeError: OwnFunction makes its own train function"
    ]
    assert str(monitor) == "nothing was measured yet"


class Hidden(layers.Layer):
    """A layer that calls another one in a loop or a checkpoint, where the monitor cannot see it."""

    def build(self, shape):
        self.dense = layers.Dense(6, "relu", name="inner")
        self.dense.build(shape)

    def call(self, x):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            loop = tf.while_loop(lambda i, _: i < 1, lambda i, x: (i + 1, self.dense(x)), [0, x])
            return loop[1]
        # Each call gets a new function, because JAX caches the trace of a function.
        return keras.remat(lambda x: self.dense(x))(x)


@pytest.mark.skipif(BACKEND == "torch", reason="on torch every layer is seen")
def test_a_layer_that_is_not_seen_is_named_once():
    model = compiled(keras.Sequential([keras.Input((6,)), Hidden(name="loop"), layers.Dense(3)]))
    monitor = ActivationMonitor(every=1, statistics="mean")
    fit(model, monitor, epochs=2)
    assert len(monitor.history.records) == 4
    (name,) = monitor.history.unseen
    assert name.endswith("inner")
    assert str(monitor).endswith(
        f"{name}: not seen, runs inside a scan, a loop, a checkpoint or a nested function"
    )


class Checkpoint(layers.Layer):
    """A layer that calls another one a second time for the gradient."""

    def build(self, shape):
        self.dense = layers.Dense(6, "relu", name="inner")
        self.dense.build(shape)

    def call(self, x):
        return keras.remat(self.dense)(x)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX traces a checkpoint only once")
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_layer_that_a_checkpoint_runs_again_has_one_row(eagerly):
    parts = [keras.Input((6,)), Checkpoint(name="outer"), layers.Dense(3, name="last")]
    model = compiled(keras.Sequential(parts), "sgd", run_eagerly=eagerly)
    monitor = ActivationMonitor(every=1, statistics="mean")
    fit(model, monitor)
    first, _ = monitor.history.records
    assert list(first.layers) == ["outer/inner.pre", "outer/inner", "outer", "last"]
    assert not monitor.history.unseen


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow fails here; on torch it is seen")
def test_a_pre_activation_in_a_checkpoint_is_not_seen():
    with keras.RematScope(mode="activations"):
        hidden = layers.Dense(4, "tanh", name="hidden")
    model = compiled(keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3, name="last")]))
    monitor = ActivationMonitor(every=1, statistics=["mean", "saturated_share"])
    fit(model, monitor)
    assert list(monitor.history.records[0].layers) == ["hidden", "last"]
    assert list(monitor.history.unseen) == ["hidden.pre"]
    assert np.isnan(row(monitor.history.records[0], "hidden")["saturated_share"])


def dense_over_time():
    return layers.TimeDistributed(layers.Dense(4, name="inner"), name="outer")


def stacked_cells():
    cells = layers.StackedRNNCells([layers.GRUCell(3, name="a"), layers.LSTMCell(2)], name="cells")
    return layers.RNN(cells, name="outer")


LOOPS = {
    "a layer over time": (dense_over_time, None, ["outer/inner"]),
    "cells in an RNN": (
        stacked_cells,
        None,
        ["outer/cells", "outer/cells/a", "outer/cells/lstm_cell"],
    ),
    "the cell of an LSTM": (lambda: layers.LSTM(3, name="outer"), None, []),
    "only the cell chosen": (lambda: layers.LSTM(3, name="outer"), "*cell", ["outer/lstm_cell"]),
    "only another layer chosen": (dense_over_time, "last", []),
    "a predicate that raises for cells": (
        stacked_cells,
        lambda layer: layer.input is not None,
        [],
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_layers_in_a_loop_over_time_are_named(name):
    build, chosen, inner = LOOPS[name]
    keras.utils.clear_session()
    parts = [keras.Input((5, 4)), build(), layers.Flatten(), layers.Dense(3, name="last")]
    model = compiled(keras.Sequential(parts, name="m"))
    monitor = ActivationMonitor(every=1, statistics="mean", layers=chosen)
    fit(model, monitor, x=SERIES, epochs=2)
    reason = "runs in the loop of outer: watch that one"
    assert monitor.history.unseen == dict.fromkeys(inner, reason)
    assert ("outer" in monitor.history.records[-1].layers) == (not isinstance(chosen, str))
    if inner:
        monitor.reset()
        assert len(monitor.history.unseen) == len(inner)
    notes = [f"{layer}: not seen, {reason}" for layer in inner]
    assert [line for line in str(monitor).splitlines() if "not seen" in line] == notes


def test_layers_of_a_model_over_time_have_a_row_for_each_timestep():
    inner = keras.Sequential([layers.Dense(4, "relu", name="one"), layers.Dense(2, name="two")])
    parts = [keras.Input((5, 4)), layers.TimeDistributed(inner), layers.Flatten(), layers.Dense(3)]
    monitor = ActivationMonitor(every=1, statistics=["mean", "dead_share"], layers=["one", "two"])
    fit(compiled(keras.Sequential(parts)), monitor, x=SERIES)
    calls = [
        (line["layer"].rpartition("/")[2], line["call"])
        for line in monitor.history
        if line["step"] == 1 and line["statistic"] == "mean" and not line["layer"].endswith(".pre")
    ]
    assert calls == [(name, call) for call in range(1, 6) for name in ("one", "two")]
    assert monitor.history.unseen == {}


class SeriesBatches(keras.utils.PyDataset):
    """One batch of 8 series for each of the given lengths."""

    def __init__(self, lengths):
        super().__init__()
        rng = np.random.default_rng(0)
        self.data = [(rng.normal(size=(8, n, 4)), rng.normal(size=(8, 3))) for n in lengths]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


def test_batches_may_have_series_of_different_lengths():
    series = keras.Input((None, 4))
    x = layers.MultiHeadAttention(2, 3)(series, layers.Dense(4, "tanh", name="wide")(series))
    x = layers.Softmax(name="weights")(layers.Dot((2, 2))([x, x]))
    x = layers.GlobalAveragePooling1D()(layers.Dot((2, 1))([x, series]))
    model = compiled(keras.Model(series, layers.Dense(3, name="last")(x)), "sgd")
    monitor = ActivationMonitor(every=1, statistics="all")
    lengths = (5, 7, 3)
    model.fit(SeriesBatches(lengths), shuffle=False, verbose=0, callbacks=[monitor])
    assert monitor.history.unseen == {}
    # The softmax weights of the timesteps add up to one.
    means = [row(record, "weights")["mean"] for record in monitor.history.records]
    assert means == pytest.approx([1 / length for length in lengths])
    _, gradients = monitor.history.curve("wide/kernel", "gradient_norm")
    assert gradients.shape == (3,)


def test_the_table_shows_gradients_and_dead_units_of_layers_over_time():
    negative = keras.initializers.RandomUniform(-0.5, -0.1)
    inner = layers.Dense(8, "relu", kernel_initializer=negative, name="inner")
    parts = [layers.TimeDistributed(inner, name="outer"), layers.LSTM(3, name="lstm")]
    model = keras.Sequential([keras.Input((5, 4)), *parts, layers.Dense(3)], name="m")
    monitor = ActivationMonitor(every=1, verbose=0)
    fit(compiled(model, "sgd"), monitor, x=np.abs(SERIES), epochs=3)
    last = monitor.history.records[-1]
    assert row(last, "outer")["dead_share"] == 1
    assert (monitor.findings[0].rule, monitor.findings[0].layer) == ("dead_units", "outer")
    assert "winit>he_normal" in monitor.findings[0].remedy
    for name, kernel in (("outer", "inner/kernel"), ("lstm", "lstm_cell/kernel")):
        (line,) = (line for line in str(monitor).splitlines() if line.startswith(f"{name} "))
        norm = variable(last, f"{name}/{kernel}")["gradient_norm"]
        assert line.split()[7] == f"{norm:.3g}"


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX has scan")
def test_a_step_that_cannot_be_traced_with_the_monitor_trains_without_it():
    import jax

    class TwoMicroBatches(keras.Model):
        def train_step(self, state, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            halves = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), (x, y))

            def train_on(state, half):
                logs, state = super(TwoMicroBatches, self).train_step(state, half)
                return state, logs

            state, logs = jax.lax.scan(train_on, tuple(map(list, state)), halves)
            return jax.tree.map(lambda a: a[-1], logs), state

    final_weights = []
    for callbacks in ([], [ActivationMonitor(every=1, statistics="mean")]):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        model = compiled(TwoMicroBatches(inputs, layers.Dense(3)(inputs)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(model, *callbacks)
        assert int(model.optimizer.iterations) == 4
        final_weights.append(model.get_weights())
    for without, monitored in zip(*final_weights, strict=True):
        np.testing.assert_array_equal(monitored, without)


def test_nothing_is_unseen_in_a_model_without_trainable_variables():
    model, monitor = tiny(), ActivationMonitor(every=1)
    model.trainable = False
    fit(compiled(model, "sgd"), monitor)
    assert len(monitor.history.records) == 2
    assert not monitor.history.unseen


class Empty(layers.Layer):
    def call(self, x):
        return x[:, :0]


def test_an_output_without_entries_is_unseen():
    inputs = keras.Input((6,))
    empty = Empty(name="empty")(inputs)
    outputs = layers.Dense(3, name="last")(layers.concatenate([empty, inputs]))
    model = compiled(keras.Model(inputs, outputs))
    monitor = ActivationMonitor(every=1, statistics="all")
    fit(model, monitor)
    assert "last" in monitor.history.records[0].layers
    assert monitor.history.unseen == {"empty": "is empty"}


def test_an_output_that_was_empty_once_is_seen_later():
    inputs = keras.Input((None, 6))
    dense = layers.Dense(3, name="dense")(inputs)
    pooled = layers.Lambda(lambda x: keras.ops.sum(x, axis=1), name="sum")(dense)
    model = compiled(keras.Model(inputs, pooled), "sgd", jit_compile=False)
    monitor = ActivationMonitor(every=1, layers=layers.Dense)
    none, some = np.zeros((8, 0, 6), "float32"), np.ones((8, 2, 6), "float32")
    for x in (none, some):
        fit(model, monitor, x=x, y=np.ones((8, 3), "float32"))
        expected = {} if x is some else {"dense": "is empty", "input": "is empty"}
        assert monitor.history.unseen == expected


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has ragged tensors")
def test_ragged_outputs_are_unseen():
    import tensorflow as tf

    class Ragged(layers.Layer):
        def call(self, x):
            return tf.RaggedTensor.from_tensor(x)

        def compute_output_shape(self, shape):
            return shape

    class Dense(layers.Layer):
        def call(self, x):
            return tf.ensure_shape(x.to_tensor(), (None, 6))

        def compute_output_shape(self, shape):
            return shape

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.ragged, self.dense = Ragged(name="ragged"), Dense(name="dense")
            self.last = layers.Dense(3, name="last")

        def call(self, x):
            return self.last(self.dense(self.ragged(x)))

    model, monitor = compiled(Model(), jit_compile=False), ActivationMonitor(every=1)
    fit(model, monitor)
    assert monitor.history.unseen == {"ragged": "is sparse or ragged"}


def test_deprecation_warnings_raised_as_errors_do_not_end_monitoring():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        fit(model, monitor)
    assert len(monitor.history.records) == 2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="uses sparse tensors of TensorFlow")
def test_sparse_inputs_are_unseen():
    import tensorflow as tf

    model = compiled(keras.Sequential([keras.Input((6,), sparse=True), layers.Dense(3)]), "sgd")
    monitor = ActivationMonitor(every=1)
    fit(model, monitor, x=tf.sparse.from_dense(np.eye(16, 6, dtype="float32")))
    assert monitor.history.unseen == {"input": "is sparse or ragged"}
