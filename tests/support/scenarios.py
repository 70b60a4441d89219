"""Models with their data, each to be trained with and without the monitor."""

import keras
import numpy as np
from keras import layers, ops

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6)).astype("float32")
Y = RNG.normal(size=(16, 3)).astype("float32")
IMAGES = RNG.normal(size=(16, 8, 8, 2)).astype("float32")
WORDS = RNG.integers(1, 12, (16, 7))
WORDS[:, 4:] = 0
SERIES = RNG.normal(size=(16, 5, 4)).astype("float32")


def numpy_of(variables):
    return {f"{i} {v.path}": ops.convert_to_numpy(v) for i, v in enumerate(variables)}


def compiled(model, optimizer="adam", loss="mse", **options):
    model.compile(optimizer, loss, **options)
    return model


def stack(dtype=None):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", dtype=dtype),
            layers.Dropout(0.3, dtype=dtype),
            layers.Dense(5, "tanh", dtype=dtype),
            layers.Dense(3, dtype="float32"),
        ]
    )


def sequential(**options):
    return compiled(stack(), metrics=["mae"], **options), (X, Y)


def normalized(**options):
    inputs = keras.Input((6,))
    x = layers.Dense(6)(inputs)
    x = layers.add([inputs, layers.BatchNormalization()(x)])
    x = layers.GaussianNoise(0.1)(layers.Activation("softplus")(x))
    return compiled(keras.Model(inputs, layers.Dense(3)(x)), **options), (X, Y)


def nested_and_shared():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, "elu", name="inside")], name="in")
    shared = layers.Dense(6, "relu", name="shared")
    inputs = keras.Input((6,))
    outputs = layers.Dense(3)(shared(inner(shared(inputs))))
    return compiled(keras.Model(inputs, outputs)), (X, Y)


def many_inputs_and_outputs():
    first, second = keras.Input((6,), name="first"), keras.Input((6,), name="second")
    x = layers.Dense(4, "gelu")(layers.concatenate([first, second]))
    outputs = {"a": layers.Dense(3, name="a")(x), "b": layers.Dense(1, name="b")(x)}
    model = keras.Model([first, second], outputs)
    losses = {"a": "mse", "b": "mae"}
    return compiled(model, loss=losses), ([X, X[::-1].copy()], {"a": Y, "b": Y[:, :1]})


class Residual(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.dense, self.dropout = layers.Dense(width, "relu"), layers.Dropout(0.2)

    def call(self, x, training=None):
        return x + self.dropout(self.dense(x), training=training)


class Subclassed(keras.Model):
    def __init__(self, block=Residual):
        super().__init__()
        self.blocks = [block(6), block(6)]
        self.head = layers.Dense(3)

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(x)


def subclassed():
    return compiled(Subclassed()), (X, Y)


class Drawing(keras.Model):
    """A model that draws and counts in its own `call`, as a variational model does."""

    def __init__(self):
        super().__init__()
        self.dense, self.generator = layers.Dense(3), keras.random.SeedGenerator(1)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        self.count.assign(self.count + 1.0)
        return self.dense(x + keras.random.normal((8, 6), seed=self.generator))


def drawing():
    model = Drawing()
    model.build((8, 6))
    return compiled(model), (X, Y)


def convolutions():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.SpatialDropout2D(0.2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    return compiled(model), (IMAGES, Y)


def attention():
    words = keras.Input((7,), dtype="int32")
    x = layers.Embedding(12, 8, mask_zero=True)(words)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x))
    x = layers.GlobalAveragePooling1D()(layers.Dense(8, "gelu", name="wide")(x))
    return compiled(keras.Model(words, layers.Dense(3)(x))), (WORDS, Y)


def recurrent():
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(12, 4, mask_zero=True),
            layers.LSTM(5, return_sequences=True, dropout=0.1),
            layers.GRU(3),
        ]
    )
    return compiled(model), (WORDS, Y)


def over_time():
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.TimeDistributed(layers.Dense(4, "relu")),
            layers.Bidirectional(layers.GRU(3)),
            layers.Dense(3),
        ]
    )
    return compiled(model), (SERIES, Y)


class Custom(keras.Model):
    """A model with its own training step for each backend, as in the guides of Keras."""

    def train_step(self, *arguments):
        return getattr(self, f"_{BACKEND}")(*arguments)

    def _tensorflow(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"my_loss": loss}

    def _jax(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data

        def loss_and_updates(trainable, others):
            prediction, others = self.stateless_call(trainable, others, x, training=True)
            return self.compute_loss(x, y, prediction), others

        compute = jax.value_and_grad(loss_and_updates, has_aux=True)
        (loss, others), gradients = compute(trainable, others)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"my_loss": loss}, (trainable, others, optimizer, metrics)

    def _torch(self, data):
        import torch

        x, y = data
        self.zero_grad()
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        loss.backward()
        with torch.no_grad():
            variables = list(self.trainable_weights)
            self.optimizer.apply([v.value.grad for v in variables], variables)
        return {"my_loss": loss}


def custom_step():
    inputs = keras.Input((6,))
    x = layers.Dropout(0.2)(layers.Dense(8, "relu")(inputs))
    return compiled(Custom(inputs, layers.Dense(3)(x))), (X, Y)


def mixed(policy):
    return lambda: (compiled(stack(policy)), (X, Y))


def accumulating():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    return compiled(stack(), optimizer), (X, Y)


def averaging():
    optimizer = keras.optimizers.AdamW(
        0.1, global_clipnorm=0.5, use_ema=True, ema_overwrite_frequency=2
    )
    return compiled(stack(), optimizer), (X, Y)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def from_dataset():
    return compiled(stack()), (Batches(),)


def from_generator():
    def batches():
        for start in range(0, 16, 4):
            yield X[start : start + 4], Y[start : start + 4]

    return compiled(stack()), (batches(),)


def with_embedding():
    words = keras.Input((7,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(12, 3)(words))
    x = layers.Dense(3)(layers.Dense(6, "relu")(x))
    return compiled(keras.Model(words, x), "sgd"), (WORDS, Y)


def frozen():
    model = stack()
    model.layers[0].trainable = False
    return compiled(model), (X, Y)


def last_batch_smaller(**options):
    model, (x, y) = sequential(**options)
    return model, (x[:12], y[:12])


SCENARIOS = {
    "last batch smaller": last_batch_smaller,
    "normalized": normalized,
    "nested and shared": nested_and_shared,
    "many inputs and outputs": many_inputs_and_outputs,
    "subclassed": subclassed,
    "drawing": drawing,
    "convolutions": convolutions,
    "attention": attention,
    "recurrent": recurrent,
    "over time": over_time,
    "custom step": custom_step,
    "float16": mixed("mixed_float16"),
    "bfloat16": mixed("mixed_bfloat16"),
    "accumulating": accumulating,
    "averaging": averaging,
    "PyDataset": from_dataset,
    "generator": from_generator,
    "frozen": frozen,
    "eager": lambda: sequential(run_eagerly=True),
}
if BACKEND != "torch":
    SCENARIOS["compiled"] = lambda: sequential(jit_compile=True)
    SCENARIOS["not compiled"] = lambda: sequential(jit_compile=False)
    SCENARIOS["several steps at once"] = lambda: last_batch_smaller(steps_per_execution=2)
