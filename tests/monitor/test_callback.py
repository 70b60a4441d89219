"""The monitor's manners: nothing is left behind, and what fails costs no training."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit, row, tiny
from support.scenarios import BACKEND, SERIES, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor.capture.switch import SingleCall

CALL = keras.layers.Layer.__call__


def test_a_model_compiled_anew_trains_with_its_new_optimizer():
    finals = []
    for callbacks in ([], [ActivationMonitor(every=1, statistics="mean")]):
        keras.utils.set_random_seed(0)
        model = tiny()
        fit(model, *callbacks)
        # Nothing but the compiled function knows of the bound.
        compiled(model, keras.optimizers.SGD(1.0, clipnorm=0.01))
        fit(model, *callbacks)
        finals.append(model.get_weights())
    for one, other in zip(*finals, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    assert [sample.step for sample in callbacks[0].history.records] == [0, 1, 2, 3]


class Fragile(layers.Layer):
    fails = False

    def call(self, x):
        if self.fails:
            raise ValueError("broken layer")
        return x


class AtEachBatch(keras.callbacks.Callback):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def on_train_batch_begin(self, batch, logs=None):
        self.act()


def test_nothing_is_left_after_an_exception():
    fragile = Fragile()
    model = compiled(keras.Sequential([keras.Input((6,)), layers.Dense(3, "relu"), fragile]))
    activation, monitor = model.layers[0].activation, ActivationMonitor(every=1, statistics="mean")
    breaks = AtEachBatch(lambda: setattr(fragile, "fails", True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="broken layer"):
            fit(model, monitor, breaks)
    assert keras.layers.Layer.__call__ is CALL
    assert model.layers[0].activation is activation
    for part in (model, model.optimizer):
        assert not {"train_step", "compute_loss", "apply", "stateless_apply"} & set(vars(part))


def test_nothing_is_left_after_an_interrupt():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics="mean")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, monitor, AtEachBatch(stop))
    assert keras.layers.Layer.__call__ is CALL
    monitor.on_train_begin()
    assert not isinstance(model.train_function, SingleCall)
    fit(model, monitor)
    assert not isinstance(model.train_function, SingleCall)
    assert [sample.step for sample in monitor.history.records] == [0, 1]


def test_a_layer_that_is_an_activation_is_built_by_the_model():
    rows = [layers.Dense(8, activation=layers.PReLU()), layers.Dense(3)]
    model, monitor = compiled(keras.Sequential(rows), "sgd"), ActivationMonitor(every=1)
    fit(model, monitor)
    assert tuple(rows[0].activation.alpha.shape) == (8,)
    assert len(monitor.history.records) == 2


def test_a_schedule_that_fails_ends_the_watch():
    message = "`ActivationMonitor` watches no more, training goes on. Received: KeyError: 1"
    monitor, model = (
        ActivationMonitor(every=lambda step: {0: True}[step], statistics="mean"),
        tiny(),
    )
    with pytest.warns(RuntimeWarning) as caught:
        fit(model, monitor)
    assert [str(one.message) for one in caught if one.category is RuntimeWarning] == [message]
    assert [sample.step for sample in monitor.history.records] == [0]
    assert int(model.optimizer.iterations) == 2


class OwnFunction(keras.Model):
    def make_train_function(self, force=False):
        return super().make_train_function(force)


def test_a_model_with_its_own_train_function():
    inputs = keras.Input((6,))
    model = compiled(OwnFunction(inputs, layers.Dense(3)(inputs)))
    monitor = ActivationMonitor()
    message = (
        "`ActivationMonitor` watches no more, training goes on. "
        "Received: TypeError: OwnFunction makes its own train function"
    )
    with pytest.warns(RuntimeWarning) as caught:
        fit(model, monitor)
    assert [str(one.message) for one in caught if one.category is RuntimeWarning] == [message]
    assert str(monitor) == "nothing was measured yet"


class Remat(layers.Layer):
    """Calls its layer where a tap cannot look."""

    def build(self, shape):
        self.dense = layers.Dense(6, "relu", name="inner")
        self.dense.build(shape)

    def call(self, x):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            loop = tf.while_loop(lambda i, _: i < 1, lambda i, x: (i + 1, self.dense(x)), [0, x])
            return loop[1]
        # A new function each time: JAX remembers how it traced the last one.
        return keras.remat(lambda x: self.dense(x))(x)


@pytest.mark.skipif(BACKEND == "torch", reason="torch runs everything in the open")
def test_what_cannot_be_seen_is_said_once():
    model = compiled(keras.Sequential([keras.Input((6,)), Remat(name="loop"), layers.Dense(3)]))
    monitor = ActivationMonitor(every=1, statistics="mean")
    fit(model, monitor, epochs=2)
    assert len(monitor.history.records) == 4
    (name,) = monitor.history.unseen
    assert name.endswith("inner")
    assert str(monitor).endswith(
        f"{name}: not seen, runs inside a scan, a loop, a checkpoint or a nested function"
    )


class Checkpoint(layers.Layer):
    """Calls its layer a second time when it comes to the gradient."""

    def build(self, shape):
        self.dense = layers.Dense(6, "relu", name="inner")
        self.dense.build(shape)

    def call(self, x):
        return keras.remat(self.dense)(x)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX traces what is in a checkpoint just once")
@pytest.mark.parametrize("eagerly", [False, True])
def test_what_a_checkpoint_runs_again_is_no_second_call(eagerly):
    rows = [keras.Input((6,)), Checkpoint(name="outer"), layers.Dense(3, name="last")]
    model = compiled(keras.Sequential(rows), "sgd", run_eagerly=eagerly)
    monitor = ActivationMonitor(every=1, statistics="mean")
    fit(model, monitor)
    first, _ = monitor.history.records
    assert list(first.layers) == ["outer/inner.pre", "outer/inner", "outer", "last"]
    assert not monitor.history.unseen


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow fails with it, torch runs it in the open")
def test_a_pre_activation_in_a_checkpoint_is_not_seen():
    with keras.RematScope(mode="activations"):
        hidden = layers.Dense(4, "tanh", name="hidden")
    model = compiled(keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3, name="last")]))
    monitor = ActivationMonitor(every=1, statistics=["mean", "saturated_share"])
    fit(model, monitor)
    assert list(monitor.history.records[0].layers) == ["hidden", "last"]
    assert list(monitor.history.unseen) == ["hidden.pre"]
    assert np.isnan(row(monitor.history.records[0], "hidden")["saturated_share"])


def inner_dense():
    return layers.TimeDistributed(layers.Dense(4, name="inner"), name="outer")


def cells():
    cells = layers.StackedRNNCells([layers.GRUCell(3, name="a"), layers.LSTMCell(2)], name="cells")
    return layers.RNN(cells, name="outer")


LOOPS = {
    "a layer over time": (inner_dense, None, ["outer/inner"]),
    "cells of one's own": (cells, None, ["outer/cells", "outer/cells/a", "outer/cells/lstm_cell"]),
    "a cell of Keras": (lambda: layers.LSTM(3, name="outer"), None, []),
    "the cell alone": (lambda: layers.LSTM(3, name="outer"), "*cell", ["outer/lstm_cell"]),
    "others alone": (inner_dense, "last", []),
    "by what cells lack": (cells, lambda layer: layer.input is not None, []),
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_runs_in_a_loop_over_time_is_named(name):
    make, chosen, inner = LOOPS[name]
    keras.utils.clear_session()
    parts = [keras.Input((5, 4)), make(), layers.Flatten(), layers.Dense(3, name="last")]
    model = compiled(keras.Sequential(parts, name="m"))
    monitor = ActivationMonitor(every=1, statistics="mean", layers=chosen)
    fit(model, monitor, x=SERIES, epochs=2)
    why = "runs in the loop of outer: watch that one"
    assert monitor.history.unseen == dict.fromkeys(inner, why)
    assert ("outer" in monitor.history.records[-1].layers) == (not isinstance(chosen, str))
    if inner:
        monitor.reset()
        assert len(monitor.history.unseen) == len(inner)
    notes = [f"{path}: not seen, {why}" for path in inner]
    assert [line for line in str(monitor).splitlines() if "not seen" in line] == notes


def test_layers_of_a_model_over_time_have_a_row_for_each_step():
    inner = keras.Sequential([layers.Dense(4, "relu", name="one"), layers.Dense(2, name="two")])
    parts = [keras.Input((5, 4)), layers.TimeDistributed(inner), layers.Flatten(), layers.Dense(3)]
    monitor = ActivationMonitor(every=1, statistics=["mean", "dead_share"], layers=["one", "two"])
    fit(compiled(keras.Sequential(parts)), monitor, x=SERIES)
    calls = [
        (row["layer"].rpartition("/")[2], row["call"])
        for row in monitor.history
        if row["step"] == 1 and row["statistic"] == "mean" and not row["layer"].endswith(".pre")
    ]
    assert calls == [(name, call) for call in range(1, 6) for name in ("one", "two")]
    assert monitor.history.unseen == {}


class Batches(keras.utils.PyDataset):
    """Series of these lengths, a batch of 8 each."""

    def __init__(self, lengths):
        super().__init__()
        rng = np.random.default_rng(0)
        self.data = [(rng.normal(size=(8, n, 4)), rng.normal(size=(8, 3))) for n in lengths]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, place):
        return self.data[place]


def test_series_may_be_of_any_length():
    series = keras.Input((None, 4))
    x = layers.MultiHeadAttention(2, 3)(series, layers.Dense(4, "tanh", name="wide")(series))
    x = layers.Softmax(name="weights")(layers.Dot((2, 2))([x, x]))
    x = layers.GlobalAveragePooling1D()(layers.Dot((2, 1))([x, series]))
    model = compiled(keras.Model(series, layers.Dense(3, name="last")(x)), "sgd")
    monitor = ActivationMonitor(every=1, statistics="all")
    lengths = (5, 7, 3)
    model.fit(Batches(lengths), shuffle=False, verbose=0, callbacks=[monitor])
    assert monitor.history.unseen == {}
    # One weight for each step of a series, and they add up to one.
    means = [row(sample, "weights")["mean"] for sample in monitor.history.records]
    assert means == pytest.approx([1 / length for length in lengths])
    _, gradients = monitor.history.curve("wide/kernel", "gradient_norm")
    assert gradients.shape == (3,)


def test_a_layer_over_time_is_found_dead_and_shows_its_gradient():
    off = keras.initializers.RandomUniform(-0.5, -0.1)
    inner = layers.Dense(8, "relu", kernel_initializer=off, name="inner")
    parts = [layers.TimeDistributed(inner, name="outer"), layers.LSTM(3, name="lstm")]
    model = keras.Sequential([keras.Input((5, 4)), *parts, layers.Dense(3)], name="m")
    monitor = ActivationMonitor(every=1, verbose=0)
    fit(compiled(model, "sgd"), monitor, x=np.abs(SERIES), epochs=3)
    assert row(monitor.history.records[-1], "outer")["dead_share"] == 1
    assert (monitor.findings[0].rule, monitor.findings[0].layer) == ("dead_units", "outer")
    assert "winit>he_normal" in monitor.findings[0].remedy
    last = monitor.history.records[-1]
    for name, path in (("outer", "inner/kernel"), ("lstm", "lstm_cell/kernel")):
        (line,) = (line for line in str(monitor).splitlines() if line.startswith(f"{name} "))
        place = last.variables.index(f"{name}/{path}")
        norm = last.variable_values[place, last.variable_statistics.index("gradient_norm")]
        assert line.split()[7] == f"{norm:.3g}"


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_a_step_that_cannot_be_traced_with_taps_trains_untapped():
    import jax

    class Micro(keras.Model):
        def train_step(self, state, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            split = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), (x, y))

            def one(state, part):
                logs, state = super(Micro, self).train_step(state, part)
                return state, logs

            state, logs = jax.lax.scan(one, tuple(map(list, state)), split)
            return jax.tree.map(lambda a: a[-1], logs), state

    finals = []
    for callbacks in ([], [ActivationMonitor(every=1, statistics="mean")]):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        model = compiled(Micro(inputs, layers.Dense(3)(inputs)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(model, *callbacks)
        assert int(model.optimizer.iterations) == 4
        finals.append(model.get_weights())
    for one, other in zip(*finals, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_with_nothing_to_train_lacks_nothing():
    model, monitor = tiny(), ActivationMonitor(every=1)
    model.trainable = False
    fit(compiled(model, "sgd"), monitor)
    assert len(monitor.history.records) == 2
    assert not monitor.history.unseen


class Empties(layers.Layer):
    def call(self, x):
        return x[:, :0]


def test_an_output_without_entries_is_no_matter_of_the_training():
    inputs = keras.Input((6,))
    none = Empties(name="none")(inputs)
    outputs = layers.Dense(3, name="last")(layers.concatenate([none, inputs]))
    model, monitor = (
        compiled(keras.Model(inputs, outputs)),
        ActivationMonitor(every=1, statistics="all"),
    )
    fit(model, monitor)
    assert "last" in monitor.history.records[0].layers
    assert monitor.history.unseen == {"none": "is empty"}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others have no tensors of this kind")
def test_ragged_outputs_are_said_to_be_so():
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


def test_strict_warnings_do_not_end_the_watch():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        fit(model, monitor)
    assert len(monitor.history.records) == 2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others have no tensors of this kind")
def test_sparse_inputs_are_said_to_be_so():
    import tensorflow as tf

    model = compiled(keras.Sequential([keras.Input((6,), sparse=True), layers.Dense(3)]), "sgd")
    monitor = ActivationMonitor(every=1)
    fit(model, monitor, x=tf.sparse.from_dense(np.eye(16, 6, dtype="float32")))
    assert monitor.history.unseen == {"input": "is sparse or ragged"}
