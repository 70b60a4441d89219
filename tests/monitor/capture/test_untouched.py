"""Models that look at themselves, draw at random or run beside others train as without it."""

import threading

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.scenarios import BACKEND, X, Y, compiled, numpy_of

from keras_winit import ActivationMonitor

FEW = ("mean", "saturated_share", "gradient_norm", "update_norm")
CALL = keras.layers.Layer.__call__


def sequential(*parts):
    return keras.Sequential([keras.Input((6,)), *parts, layers.Dense(3, name="last")])


def trained(make, *monitors, **options):
    """The weights and the logs of a model after a few steps."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = compiled(make(), "sgd", **options)
    log = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=list(monitors))
    return list(numpy_of(model.variables).values()), log.history


def same_with_and_without(make, **options):
    """Train both ways; gives the monitor."""
    monitor = ActivationMonitor(every=1, statistics=FEW, verbose=0)
    (weights, log), (watched, watched_log) = (
        trained(make, *monitors, **options) for monitors in ((), (monitor,))
    )
    np.testing.assert_equal(watched, weights)
    assert watched_log == log
    assert len(monitor.history.records) == 4
    assert keras.layers.Layer.__call__ is CALL
    return monitor


class Swish:
    """An activation with more to it than a call."""

    __hash__ = None
    beta = 2.0

    def __eq__(self, other):
        return self is other

    def __call__(self, x):
        return x * ops.sigmoid(self.beta * x)

    def scaled(self, x):
        return 3.0 * self(x)


class Asks(layers.Layer):
    """Does one thing if its activation is ReLU itself, and another if it is anything else."""

    def __init__(self, activation):
        super().__init__()
        self.activation, self.dense = activation, layers.Dense(5)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        x = self.dense(x)
        if isinstance(self.activation, Swish):
            return self.activation.scaled(x)
        return self.activation(x) if self.activation is keras.activations.relu else -x


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("activation", [Swish(), keras.activations.relu])
def test_a_layer_that_looks_at_its_activation(activation, eagerly):
    monitor = same_with_and_without(
        lambda: sequential(Asks(activation)), run_eagerly=eagerly, jit_compile=False
    )
    assert monitor.history.records[0].layers == ("asks/dense", "asks", "last")


def test_an_activation_that_is_an_object():
    monitor = same_with_and_without(lambda: sequential(layers.Dense(5, Swish(), name="d")))
    assert monitor.history.records[0].layers == ("d.pre", "d", "last")
    assert monitor.history.records[0].values[1, 1] >= 0


def test_cells_keep_their_activations():
    # By which Keras chooses between two ways to compute them.
    seen, lstm = [], layers.LSTM(4)

    class Looks(layers.Layer):
        def call(self, x):
            seen.append(lstm.cell.activation is keras.activations.tanh)
            return x

    series = keras.Sequential([keras.Input((6,)), layers.Reshape((3, 2)), lstm, Looks()])
    series.add(layers.Dense(3))
    seen.clear()
    compiled(series).fit(X, Y, verbose=0, callbacks=[ActivationMonitor(every=1, statistics=FEW)])
    assert seen
    assert all(seen)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX does not let activations draw")
def test_an_activation_that_draws():
    def noisy(x):
        return x * keras.random.uniform(ops.shape(x))

    same_with_and_without(lambda: sequential(layers.Dense(5, noisy)))


@pytest.mark.skipif(BACKEND != "torch", reason="of torch")
def test_an_activation_that_draws_by_itself():
    import torch

    same_with_and_without(lambda: sequential(layers.Dense(5, lambda x: x * torch.rand_like(x))))


def test_an_activation_that_reads_a_variable():
    class Own(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.beta = self.add_weight(shape=(), initializer="ones", name="beta")
            self.activation = lambda x: x * ops.sigmoid(self.beta * x)

    model = compiled(sequential(Own(5, "relu", name="own")), "sgd")
    for _ in range(2):
        monitor = ActivationMonitor(every=1, statistics=FEW)
        model.fit(X, Y, verbose=0, callbacks=[monitor])
        assert monitor.history.records[0].layers == ("own.pre", "own", "last")
        assert "own/beta" in monitor.history.records[0].variables
        model.compile("sgd", "mse")


class ByName(keras.Model):
    """A training step that names what it gives to the optimizer."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="dense")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dense(x)

    def train_step(self, *arguments):
        if BACKEND == "jax":
            return self.jax_step(*arguments)
        x, y = arguments[0]
        if BACKEND == "torch":
            self.zero_grad()
            loss = self.compute_loss(x, y, self(x))
            loss.backward()
            variables = list(self.trainable_weights)
            grads = [variable.value.grad for variable in variables]
            import torch

            with torch.no_grad():
                self.optimizer.apply(grads=grads, trainable_variables=variables)
            return {"loss": loss.detach()}
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        variables = self.trainable_variables
        grads = tape.gradient(loss, variables)
        self.optimizer.apply(grads=grads, trainable_variables=variables)
        return {"loss": loss}

    def jax_step(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data

        def loss_of(trainable):
            output, after = self.stateless_call(
                trainable_variables=trainable, non_trainable_variables=others, training=True, x=x
            )
            loss, _ = self.stateless_compute_loss(
                trainable_variables=trainable,
                non_trainable_variables=after,
                metrics_variables=metrics,
                x=x,
                y=y,
                y_pred=output,
            )
            return loss, after

        (loss, after), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(
            optimizer_variables=optimizer, grads=grads, trainable_variables=trainable
        )
        return {"loss": loss}, (trainable, after, optimizer, metrics)


@pytest.mark.parametrize("eagerly", [False, True])
def test_arguments_by_name(eagerly):
    monitor = same_with_and_without(ByName, run_eagerly=eagerly, jit_compile=False)
    assert monitor.history.records[0].layers[-1] == "dense"
    assert monitor.history.records[0].variables == ("dense/kernel", "dense/bias")


def test_models_on_threads_of_their_own():
    ready = threading.Barrier(3)

    def train(monitor, number):
        model = compiled(sequential(layers.Dense(5, "relu", name=f"d{number}")), "sgd")
        ready.wait()
        model.fit(X, Y, batch_size=2, verbose=0, callbacks=[monitor])

    monitors = [ActivationMonitor(every=1, statistics=FEW, verbose=0) for _ in range(3)]
    threads = [
        threading.Thread(target=train, args=(monitor, number))
        for number, monitor in enumerate(monitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keras.layers.Layer.__call__ is CALL
    for number, monitor in enumerate(monitors):
        rows = {sample.layers for sample in monitor.history.records}
        assert rows == {(f"d{number}.pre", f"d{number}", "last")}
        assert len(monitor.history.records) == 8
        assert monitor.history.unseen == {}


def test_low_rank_updates_are_measured():
    def make():
        model = sequential(layers.Dense(5, name="d"))
        model.layers[0].enable_lora(2)
        return model

    monitor = same_with_and_without(make)
    assert {"d/lora_kernel_a", "d/lora_kernel_b"} <= set(monitor.history.records[0].variables)
    assert monitor.history.unseen == {}


def test_a_loss_that_nobody_told_is_none():
    class Own(ByName):
        def train_step(self, *arguments):
            if BACKEND == "jax":
                return {"other": ops.ones(())}, arguments[0]
            return {"other": 1.0}

    monitor = ActivationMonitor(every=1, statistics=FEW)
    model = compiled(Own(), "sgd", run_eagerly=True)
    model.build((None, 6))
    model.fit(X, Y, verbose=0, callbacks=[monitor])
    assert [sample.loss for sample in monitor.history.records] == [None]
    assert "loss" not in {row["statistic"] for row in monitor.history}


def test_a_metric_of_any_name():
    metric = keras.metrics.MeanSquaredError(name="winit0")
    model = sequential()
    model.compile("sgd", "mse", metrics=[metric])
    monitor = ActivationMonitor(every=1, statistics=FEW)
    log = model.fit(X, Y, verbose=0, callbacks=[monitor]).history
    assert set(log) == {"loss", "winit0"}
    assert monitor.history.records


def test_names_of_what_is_made_later():
    def after(*monitors):
        keras.utils.clear_session()
        inputs = keras.Input((6, 4))
        hidden = layers.MultiHeadAttention(2, 3, dropout=0.1)(inputs, inputs)
        model = compiled(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden))))
        model.fit(np.ones((8, 6, 4)), Y[:8], verbose=0, callbacks=list(monitors))
        inputs = keras.Input((6,))
        return [one.name for one in keras.Model(inputs, layers.Dense(3)(inputs * 2.0)).operations]

    assert after(ActivationMonitor(every=1)) == after()


@pytest.mark.skipif(BACKEND == "jax", reason="its steps have the model's own optimizer")
def test_what_another_optimizer_does_is_not_seen_and_said():
    class Other(ByName):
        def compile(self, *args, **kwargs):
            super().compile(*args, **kwargs)
            self.other, self.own = keras.optimizers.SGD(0.1), self.optimizer

        def train_step(self, data):
            self.optimizer = self.other
            try:
                return super().train_step(data)
            finally:
                self.optimizer = self.own

    monitor = ActivationMonitor(every=1, statistics=FEW)
    compiled(Other(), "sgd", run_eagerly=True).fit(X, Y, verbose=0, callbacks=[monitor])
    assert "others than the model's own are not watched" in monitor.history.unseen["optimizer"]
    assert "optimizer: not seen, was not called" in str(monitor)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
class TestOfTensorFlow:
    def test_variables_of_its_own(self):
        import tensorflow as tf

        class Raw(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(3, name="dense")

            def build(self, shape):
                self.dense.build(shape)
                self.scale = tf.Variable(tf.ones(3), name="scale")

            def call(self, x):
                return self.scale * self.dense(x)

            def train_step(self, data):
                x, y = data
                with tf.GradientTape() as tape:
                    loss = self.compute_loss(x, y, self(x, training=True))
                variables = [*(v.value for v in self.dense.trainable_variables), self.scale]
                grads = tape.gradient(loss, variables)
                self.optimizer.apply_gradients(zip(grads, variables, strict=True))
                return {"loss": loss}

        def make():
            model = Raw()
            model.build((None, 6))
            return model

        for eagerly in (False, True):
            monitor = same_with_and_without(make, run_eagerly=eagerly)
            assert len(monitor.history.records[0].variables) == 3

    def test_what_is_written_down_for_one_sample_has_no_row(self):
        class OneByOne(layers.Layer):
            def __init__(self):
                super().__init__(name="each")
                self.inner = layers.Dense(4, name="inner")

            def build(self, shape):
                self.inner.build((None, shape[-1]))

            def call(self, x):
                return ops.vectorized_map(lambda row: self.inner(row[None])[0], x)

        monitor = ActivationMonitor(every=1, statistics=FEW)
        compiled(sequential(OneByOne())).fit(X, Y, verbose=0, callbacks=[monitor])
        assert monitor.history.records[0].layers == ("each", "last")
        assert "runs inside" in monitor.history.unseen["each/inner"]

    def test_a_step_within_a_function_that_was_traced_before(self):
        import tensorflow as tf

        class Traced(keras.Sequential):
            def train_step(self, data):
                return self.inner_step(data)

            @tf.function
            def inner_step(self, data):
                return super().train_step(data)

        model = Traced([keras.Input((6,)), layers.Dense(3)])
        monitor = ActivationMonitor(every=lambda step: step > 0, statistics=FEW)
        compiled(model, jit_compile=False).fit(X, Y, batch_size=8, verbose=0, callbacks=[monitor])
        assert "traced before" in monitor.history.unseen["layers"]

    def test_an_output_of_unknown_rank(self):
        import tensorflow as tf

        class Unknown(layers.Layer):
            def call(self, x):
                return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], tf.float32), None)

            def compute_output_shape(self, shape):
                return shape

        class Known(layers.Layer):
            def call(self, x):
                return tf.ensure_shape(x, (None, 6))

        model = sequential(Unknown(name="unknown"), Known(name="known"))
        monitor = ActivationMonitor(every=1, statistics=FEW)
        compiled(model, jit_compile=False).fit(X, Y, verbose=0, callbacks=[monitor])
        assert monitor.history.records[0].layers == ("known", "last")

    def test_complex_variables_have_no_row(self):
        import tensorflow as tf

        class Turns(layers.Layer):
            def build(self, shape):
                self.turn = self.add_weight(
                    shape=(shape[-1],), dtype="complex64", initializer="ones", name="turn"
                )

            def call(self, x):
                return tf.math.real(tf.cast(x, tf.complex64) * self.turn)

        monitor = ActivationMonitor(every=1, statistics=FEW)
        model = compiled(sequential(Turns(name="turns")), keras.optimizers.SGD(0.1))
        model.fit(X, Y, verbose=0, callbacks=[monitor])
        assert monitor.history.records[0].variables == ("last/kernel", "last/bias")
        assert monitor.history.unseen == {"turns/turn": "is complex"}


# A net whose last bit XLA rounds in another way if it may fuse across the tapped layer.
FUSED = """
import os, sys
os.environ["XLA_FLAGS"] = sys.argv[1]
import keras, numpy as np
from keras import layers
from keras_winit import ActivationMonitor

x, y = (np.random.default_rng(0).normal(size=(21, width)) for width in (12, 3))

def weights(*callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    hidden = [layers.Dense(15, "silu"), layers.GaussianNoise(0.1)]
    model = keras.Sequential([keras.Input((12,)), *hidden, layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=8, epochs=30, verbose=0, callbacks=list(callbacks))
    return np.concatenate([weight.ravel() for weight in model.get_weights()])

monitor = ActivationMonitor(every=1, statistics=["mean", "gradient_norm"], verbose=0)
print(np.abs(weights(monitor) - weights()).max())
"""


@pytest.mark.skipif(BACKEND != "jax", reason="a switch of XLA")
def test_without_fusion_watched_steps_are_equal_to_the_last_bit(fresh_process):
    assert fresh_process(FUSED, "--xla_disable_hlo_passes=fusion").strip() == "0.0"
