"""The monitor leaves training unchanged for models that inspect themselves, draw or use threads."""

import threading

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.scenarios import BACKEND, X, Y, compiled, numpy_of

from keras_winit import ActivationMonitor

FEW = ("mean", "saturated_share", "gradient_norm", "update_norm")
CALL = keras.layers.Layer.__call__


def sequential(*hidden_layers):
    return keras.Sequential([keras.Input((6,)), *hidden_layers, layers.Dense(3, name="last")])


def train(build, *monitors, **options):
    """Return the weights and the logs of a new model after four steps."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = compiled(build(), "sgd", **options)
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=list(monitors))
    return list(numpy_of(model.variables).values()), history.history


def check_training_is_the_same(build, **options):
    """Train a model with and without a monitor; return the monitor."""
    monitor = ActivationMonitor(every=1, statistics=FEW, verbose=0)
    weights, logs = train(build, **options)
    monitored_weights, monitored_logs = train(build, monitor, **options)
    np.testing.assert_equal(monitored_weights, weights)
    assert monitored_logs == logs
    assert len(monitor.history.records) == 4
    assert keras.layers.Layer.__call__ is CALL
    return monitor


class Swish:
    """An activation with an attribute, a method and an `==` of its own, but no hash."""

    __hash__ = None
    beta = 2.0

    def __eq__(self, other):
        return self is other

    def __call__(self, x):
        return x * ops.sigmoid(self.beta * x)

    def scaled(self, x):
        return 3.0 * self(x)


class Inspecting(layers.Layer):
    """A layer whose output depends on the type and the identity of its activation."""

    def __init__(self, activation):
        super().__init__(name="inspecting")
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
def test_a_layer_that_inspects_its_activation(activation, eagerly):
    monitor = check_training_is_the_same(
        lambda: sequential(Inspecting(activation)), run_eagerly=eagerly, jit_compile=False
    )
    assert monitor.history.records[0].layers == ("inspecting/dense", "inspecting", "last")


def test_an_activation_that_is_an_object():
    monitor = check_training_is_the_same(lambda: sequential(layers.Dense(5, Swish(), name="d")))
    assert monitor.history.records[0].layers == ("d.pre", "d", "last")
    assert monitor.history.records[0].values[1, 1] >= 0


def test_recurrent_cells_keep_their_activations():
    # Keras chooses between two implementations by the identity of the activation.
    is_kept, lstm = [], layers.LSTM(4)

    class Look(layers.Layer):
        def call(self, x):
            is_kept.append(lstm.cell.activation is keras.activations.tanh)
            return x

    parts = [keras.Input((6,)), layers.Reshape((3, 2)), lstm, Look(), layers.Dense(3)]
    model = compiled(keras.Sequential(parts))
    is_kept.clear()
    model.fit(X, Y, verbose=0, callbacks=[ActivationMonitor(every=1, statistics=FEW)])
    assert is_kept
    assert all(is_kept)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX does not let activations draw")
def test_an_activation_that_draws_with_keras():
    def noisy(x):
        return x * keras.random.uniform(ops.shape(x))

    check_training_is_the_same(lambda: sequential(layers.Dense(5, noisy)))


@pytest.mark.skipif(BACKEND != "torch", reason="draws with torch")
def test_an_activation_that_draws_with_torch():
    import torch

    check_training_is_the_same(
        lambda: sequential(layers.Dense(5, lambda x: x * torch.rand_like(x)))
    )


def test_an_activation_that_reads_a_variable():
    class LearnedSwish(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.beta = self.add_weight(shape=(), initializer="ones", name="beta")
            self.activation = lambda x: x * ops.sigmoid(self.beta * x)

    model = compiled(sequential(LearnedSwish(5, "relu", name="d")), "sgd")
    for _ in range(2):
        monitor = ActivationMonitor(every=1, statistics=FEW)
        model.fit(X, Y, verbose=0, callbacks=[monitor])
        assert monitor.history.records[0].layers == ("d.pre", "d", "last")
        assert "d/beta" in monitor.history.records[0].variables
        model.compile("sgd", "mse")


class KeywordStep(keras.Model):
    """A model whose own training step passes arguments by keyword."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="dense")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dense(x)

    def train_step(self, *arguments):
        if BACKEND == "jax":
            return self._jax_step(*arguments)
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

    def _jax_step(self, state, data):
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
def test_a_training_step_that_passes_arguments_by_keyword(eagerly):
    monitor = check_training_is_the_same(KeywordStep, run_eagerly=eagerly, jit_compile=False)
    assert monitor.history.records[0].layers[-1] == "dense"
    assert monitor.history.records[0].variables == ("dense/kernel", "dense/bias")


def test_models_that_train_on_several_threads():
    barrier = threading.Barrier(3)

    def train_one(monitor, number):
        model = compiled(sequential(layers.Dense(5, "relu", name=f"d{number}")), "sgd")
        barrier.wait()
        model.fit(X, Y, batch_size=2, verbose=0, callbacks=[monitor])

    monitors = [ActivationMonitor(every=1, statistics=FEW, verbose=0) for _ in range(3)]
    threads = [
        threading.Thread(target=train_one, args=(monitor, number))
        for number, monitor in enumerate(monitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keras.layers.Layer.__call__ is CALL
    for number, monitor in enumerate(monitors):
        row_names = {record.layers for record in monitor.history.records}
        assert row_names == {(f"d{number}.pre", f"d{number}", "last")}
        assert len(monitor.history.records) == 8
        assert monitor.history.unseen == {}


def test_the_variables_of_lora_are_measured():
    def build():
        model = sequential(layers.Dense(5, name="d"))
        model.layers[0].enable_lora(2)
        return model

    monitor = check_training_is_the_same(build)
    assert {"d/lora_kernel_a", "d/lora_kernel_b"} <= set(monitor.history.records[0].variables)
    assert monitor.history.unseen == {}


def test_the_loss_is_none_if_the_training_step_computes_none():
    class NoLoss(KeywordStep):
        def train_step(self, *arguments):
            if BACKEND == "jax":
                return {"other": ops.ones(())}, arguments[0]
            return {"other": 1.0}

    monitor = ActivationMonitor(every=1, statistics=FEW)
    model = compiled(NoLoss(), "sgd", run_eagerly=True)
    model.build((None, 6))
    model.fit(X, Y, verbose=0, callbacks=[monitor])
    assert [record.loss for record in monitor.history.records] == [None]
    assert "loss" not in {row["statistic"] for row in monitor.history}


def test_a_metric_may_have_any_name():
    metric = keras.metrics.MeanSquaredError(name="winit0")
    model = sequential()
    model.compile("sgd", "mse", metrics=[metric])
    monitor = ActivationMonitor(every=1, statistics=FEW)
    logs = model.fit(X, Y, verbose=0, callbacks=[monitor]).history
    assert set(logs) == {"loss", "winit0"}
    assert monitor.history.records


def test_names_of_later_operations_are_unchanged():
    def names_after_training(*monitors):
        keras.utils.clear_session()
        inputs = keras.Input((6, 4))
        hidden = layers.MultiHeadAttention(2, 3, dropout=0.1)(inputs, inputs)
        model = compiled(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden))))
        model.fit(np.ones((8, 6, 4)), Y[:8], verbose=0, callbacks=list(monitors))
        inputs = keras.Input((6,))
        later = keras.Model(inputs, layers.Dense(3)(inputs * 2.0))
        return [operation.name for operation in later.operations]

    assert names_after_training(ActivationMonitor(every=1)) == names_after_training()


@pytest.mark.skipif(BACKEND == "jax", reason="a step on JAX has only the model's own optimizer")
def test_updates_by_another_optimizer_are_reported_as_unseen():
    class TwoOptimizers(KeywordStep):
        def compile(self, *args, **kwargs):
            super().compile(*args, **kwargs)
            self.compiled_optimizer, self.other = self.optimizer, keras.optimizers.SGD(0.1)

        def train_step(self, data):
            self.optimizer = self.other
            try:
                return super().train_step(data)
            finally:
                self.optimizer = self.compiled_optimizer

    monitor = ActivationMonitor(every=1, statistics=FEW)
    compiled(TwoOptimizers(), "sgd", run_eagerly=True).fit(X, Y, verbose=0, callbacks=[monitor])
    assert "others than the model's own are not watched" in monitor.history.unseen["optimizer"]
    assert "optimizer: not seen, was not called" in str(monitor)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="uses TensorFlow")
class TestTensorFlow:
    def test_variables_of_tensorflow(self):
        import tensorflow as tf

        class WithVariable(keras.Model):
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

        def build():
            model = WithVariable()
            model.build((None, 6))
            return model

        for eagerly in (False, True):
            monitor = check_training_is_the_same(build, run_eagerly=eagerly)
            assert len(monitor.history.records[0].variables) == 3

    def test_a_layer_in_a_vectorized_map_has_no_row(self):
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

    def test_a_step_in_a_function_that_was_traced_before_is_unseen(self):
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

    def test_an_output_of_unknown_rank_has_no_row(self):
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

        class Rotation(layers.Layer):
            def build(self, shape):
                self.factor = self.add_weight(
                    shape=(shape[-1],), dtype="complex64", initializer="ones", name="factor"
                )

            def call(self, x):
                return tf.math.real(tf.cast(x, tf.complex64) * self.factor)

        monitor = ActivationMonitor(every=1, statistics=FEW)
        model = compiled(sequential(Rotation(name="rotation")), keras.optimizers.SGD(0.1))
        model.fit(X, Y, verbose=0, callbacks=[monitor])
        assert monitor.history.records[0].variables == ("last/kernel", "last/bias")
        assert monitor.history.unseen == {"rotation/factor": "is complex"}


# The last bits of this model's weights change if XLA may fuse operations across a measured layer.
FUSED = """
import os, sys
os.environ["XLA_FLAGS"] = sys.argv[1]
import keras, numpy as np
from keras import layers
from keras_winit import ActivationMonitor

x, y = (np.random.default_rng(0).normal(size=(21, width)) for width in (12, 3))

def train(*callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    hidden = [layers.Dense(15, "silu"), layers.GaussianNoise(0.1)]
    model = keras.Sequential([keras.Input((12,)), *hidden, layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=8, epochs=30, verbose=0, callbacks=list(callbacks))
    return np.concatenate([weight.ravel() for weight in model.get_weights()])

monitor = ActivationMonitor(every=1, statistics=["mean", "gradient_norm"], verbose=0)
print(np.abs(train(monitor) - train()).max())
"""


@pytest.mark.skipif(BACKEND != "jax", reason="sets an option of XLA")
def test_without_fusion_the_weights_are_equal_to_the_last_bit(fresh_process):
    assert fresh_process(FUSED, "--xla_disable_hlo_passes=fusion").strip() == "0.0"
