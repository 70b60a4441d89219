"""Healthy programs on tables: regression, classes, schedules, custom models and steps."""

import keras
import numpy as np
from keras import Sequential, layers, ops
from keras.layers import BatchNormalization, Dense, Dropout, Input, LayerNormalization
from keras.optimizers import SGD, Adam, AdamW, RMSprop, schedules

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import clusters, encoded, made, regression
from diagnosis_cases.foreign_steps import ModelWithOwnStep

CASES = []
healthy = healthy_into(CASES)
SPARSE = "sparse_categorical_crossentropy"
TEN, TWO = made(clusters), made(clusters, classes=6, targets="bit")


def exclusive_or(rng, rows):
    x = rng.integers(0, 2, (rows, 2)).astype("float32")
    return x, (x.sum(1, keepdims=True) == 1).astype("float32")


@healthy("small batch", "exclusive or, tanh, Adam 0.05, batch 8", exclusive_or, batch=8)
def xor():
    model = Sequential([Input((2,)), Dense(8, activation="tanh"), Dense(1, activation="sigmoid")])
    return compiled(model, Adam(0.05), "binary_crossentropy", metrics=["accuracy"])


@healthy(
    "small batch",
    "iris, Dense 10 twice, batch 8",
    made(clusters, features=4, classes=3, targets="hot"),
    batch=8,
)
def iris():
    model = Sequential([Input((4,)), Dense(10, activation="relu"), Dense(10, activation="relu")])
    model.add(Dense(3, activation="softmax"))
    return compiled(model, Adam(1e-2), "categorical_crossentropy")


def with_rare_positives(rng, rows):
    x, y = clusters(rng, rows, classes=20)
    return x, (y == 0)[:, None].astype("float32")


RARE = {"batch": 128, "fit": {"class_weight": {0: 0.5, 1: 10.0}}}


@healthy("imbalance", "5 % positives with class weights, batch 128", with_rare_positives, **RARE)
def fraud():
    model = Sequential([Input((20,)), Dense(64, activation="relu"), Dropout(0.3)])
    model.add(Dense(1, activation="sigmoid"))
    return compiled(model, Adam(3e-3), "binary_crossentropy", metrics=["AUC"])


@healthy(
    "imbalance", "5 % positives with a bias to match, batch 256", with_rare_positives, batch=256
)
def biased_output():
    bias = keras.initializers.Constant(np.log(0.05 / 0.95))
    model = Sequential([Input((20,)), Dense(32, activation="relu")])
    model.add(Dense(1, activation="sigmoid", bias_initializer=bias))
    return compiled(model, Adam(1e-2), "binary_crossentropy")


def several_labels(rng, rows):
    x, y = clusters(rng, rows, classes=32)
    return x, ((y[:, None] >> np.arange(5)) & 1).astype("float32")


@healthy("multi-label", "five sigmoids, batch 64", several_labels, batch=64)
def multi_label():
    model = Sequential(
        [Input((20,)), Dense(128, activation="relu"), Dense(5, activation="sigmoid")]
    )
    return compiled(model, Adam(5e-3), "binary_crossentropy")


@healthy("batch norm", "dense layers with L2, batch 256", TEN, batch=256)
def regularized():
    model = Sequential([Input((20,))])
    for _ in range(2):
        model.add(Dense(64, kernel_regularizer=keras.regularizers.L2(1e-4)))
        model.add(BatchNormalization())
        model.add(layers.Activation("relu"))
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@healthy("MLP", "SELU with AlphaDropout, batch 32", TEN)
def self_normalizing():
    selu = {"activation": "selu", "kernel_initializer": "lecun_normal"}
    model = Sequential([Input((20,)), Dense(64, **selu), layers.AlphaDropout(0.1)])
    model.add(Dense(64, **selu))
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


class TabularModel(keras.Model):
    """A subclassed classifier, not built before `fit`."""

    def __init__(self):
        super().__init__()
        self.dense1 = Dense(64, activation="relu")
        self.dropout = Dropout(0.2)
        self.dense2 = Dense(10)

    def call(self, inputs, training=False):
        x = self.dense1(inputs)
        return self.dense2(self.dropout(x, training=training))


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@healthy("subclassed", "two dense layers and dropout, batch 32", TEN)
def subclassed():
    return compiled(TabularModel(), Adam(3e-3), LOGITS, metrics=["accuracy"])


@healthy("custom step", "a train_step as in the guides, batch 32", regression)
def custom_step():
    inputs = Input((8,))
    x = Dense(64, activation="relu")(inputs)
    return compiled(ModelWithOwnStep(inputs, Dense(1)(x)), Adam(3e-3), "mse")


class OneCycle(schedules.LearningRateSchedule):
    """A rate that rises to `peak` in a third of the steps, and falls to zero."""

    def __init__(self, peak, steps):
        self.peak, self.steps = peak, steps

    def __call__(self, step):
        share = ops.cast(step, "float32") / self.steps
        return self.peak * ops.maximum(ops.minimum(share * 3, (1 - share) * 1.5), 0.01)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}


@healthy("schedule", "one cycle to SGD 0.3 with momentum, batch 64", TEN, batch=64)
def one_cycle():
    model = Sequential([Input((20,)), Dense(64, "relu"), Dense(64, "relu"), Dense(10, "softmax")])
    return compiled(model, SGD(OneCycle(0.3, 104), momentum=0.9), SPARSE)


@healthy("schedule", "one cycle to Adam 0.01, layer norm, batch 32", TEN)
def one_cycle_adam():
    model = Sequential([Input((20,)), Dense(64), LayerNormalization(), layers.ReLU()])
    model.add(Dense(10, activation="softmax"))
    return compiled(model, Adam(OneCycle(1e-2, 104)), SPARSE)


@healthy("schedule", "AdamW with warm-up and cosine decay, residual MLP, batch 64", TEN, batch=64)
def residual_mlp():
    inputs = Input((20,))
    x = Dense(64)(inputs)
    for _ in range(3):
        y = LayerNormalization()(x)
        y = Dense(128, activation="gelu")(y)
        x = layers.add([x, Dropout(0.1)(Dense(64)(y))])
    outputs = Dense(10, activation="softmax")(LayerNormalization()(x))
    rate = schedules.CosineDecay(0.0, 100, warmup_target=3e-3, warmup_steps=20)
    return compiled(keras.Model(inputs, outputs), AdamW(rate, weight_decay=1e-2), SPARSE)


def halve_each_epoch():
    return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5**epoch)]


@healthy(
    "schedule", "RMSprop 0.005, halved by a callback, batch 32", TEN, callbacks=halve_each_epoch
)
def halved_rate():
    model = Sequential([Input((20,)), Dense(48, "tanh"), Dense(48, "tanh"), Dense(10, "softmax")])
    return compiled(model, RMSprop(5e-3), SPARSE)


@healthy("momentum", "PReLU, Nesterov and clipping, batch 32", TEN)
def clipped_momentum():
    model = Sequential([Input((20,)), Dense(64), layers.PReLU(), Dense(64), layers.PReLU()])
    model.add(Dense(10, activation="softmax"))
    return compiled(model, SGD(0.02, momentum=0.9, nesterov=True, clipnorm=1.0), SPARSE)


def mixed_columns(rng, rows):
    """Return a category, numbers, and a class that depends on both."""
    x, y = clusters(rng, rows, features=10, classes=4)
    shop = rng.integers(0, 20, (rows, 1))
    return {"shop": shop, "numbers": x}, encoded(y + shop[:, 0] % 2, 6, "bit")


@healthy("wide and deep", "an embedded category with numbers, batch 256", mixed_columns, batch=256)
def wide_and_deep():
    shop = Input((1,), dtype="int32", name="shop")
    numbers = Input((10,), name="numbers")
    embedded = layers.Flatten()(layers.Embedding(20, 8)(shop))
    x = layers.concatenate([embedded, numbers])
    x = Dense(64, activation="relu")(x)
    x = Dense(32, activation="relu")(x)
    outputs = Dense(1, activation="sigmoid")(x)
    model = keras.Model({"shop": shop, "numbers": numbers}, outputs)
    return compiled(model, Adam(1e-2), "binary_crossentropy")


@healthy("zero head", "last kernel of zeros, accumulated gradients, batch 16", TEN, batch=16)
def zero_head():
    model = Sequential([Input((20,)), Dense(64, "relu"), Dense(64, "relu")])
    model.add(Dense(10, activation="softmax", kernel_initializer="zeros"))
    return compiled(model, Adam(1e-2, gradient_accumulation_steps=2), SPARSE)
