"""Faulty programs whose last layer does not fit the loss or the targets."""

import keras
from keras import Sequential, layers, ops
from keras.layers import LSTM, Activation, Conv2D, Dense, Embedding, Flatten, Input, MaxPooling2D
from keras.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from keras.optimizers import SGD, Adam

from diagnosis_cases.foreign import compiled, faulty_into
from diagnosis_cases.foreign_data import (
    changed,
    clusters,
    images,
    made,
    masks,
    regression,
    tokens,
    waves,
)

CASES = []
faulty = faulty_into(CASES)
TEN, HOT, BIT = made(clusters), made(clusters, targets="hot"), made(clusters, targets="bit")
SPARSE = "sparse_categorical_crossentropy"


def mlp(*ends, features=20):
    """Return the usual model: two hidden layers of 64 units, and the given last layers."""
    hidden = [Dense(64, activation="relu"), Dense(64, activation="relu")]
    return Sequential([Input((features,)), *hidden, *ends])


def mismatch(name, data, **options):
    return faulty("wrong loss", name, "loss_mismatch", data, **options)


@mismatch("softmax and from_logits=True", TEN)
def softmax_logits():
    model = mlp(Dense(10, activation="softmax"))
    return compiled(model, "adam", SparseCategoricalCrossentropy(from_logits=True))


@mismatch("Softmax layer of a CNN and categorical from_logits=True", made(images, targets="hot"))
def softmax_layer_logits():
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu"), MaxPooling2D()])
    model.add(Flatten())
    model.add(Dense(10))
    model.add(layers.Softmax())
    return compiled(model, "adam", CategoricalCrossentropy(from_logits=True))


@mismatch("keras.ops.softmax in a functional model and from_logits=True", TEN)
def softmax_operation_logits():
    inputs = Input((20,))
    x = Dense(64, activation="relu")(inputs)
    outputs = ops.softmax(Dense(10)(x))
    loss = SparseCategoricalCrossentropy(from_logits=True)
    return compiled(keras.Model(inputs, outputs), "adam", loss)


class SoftmaxModel(keras.Model):
    """A subclassed classifier that ends in a softmax."""

    def __init__(self):
        super().__init__()
        self.d1 = Dense(128, activation="relu")
        self.d2 = Dense(10, activation="softmax")

    def call(self, x):
        return self.d2(self.d1(x))


@mismatch("subclassed, softmax and from_logits=True", TEN)
def subclassed_softmax_logits():
    return compiled(SoftmaxModel(), "adam", SparseCategoricalCrossentropy(from_logits=True))


@mismatch("sigmoid and binary from_logits=True", BIT)
def sigmoid_logits():
    model = mlp(Dense(1, activation="sigmoid"))
    return compiled(model, "adam", BinaryCrossentropy(from_logits=True))


@mismatch("ten sigmoids and sparse from_logits=True", TEN)
def sigmoids_sparse_logits():
    model = mlp(Dense(10, activation="sigmoid"))
    return compiled(model, "adam", SparseCategoricalCrossentropy(from_logits=True))


@mismatch("linear and sparse categorical cross-entropy", TEN)
def linear_sparse():
    return compiled(mlp(Dense(10)), "adam", SPARSE, metrics=["accuracy"])


@mismatch("linear and categorical cross-entropy", HOT)
def linear_categorical():
    return compiled(mlp(Dense(10)), "adam", "categorical_crossentropy")


@mismatch("linear and binary cross-entropy", BIT)
def linear_binary():
    return compiled(mlp(Dense(1)), "adam", "binary_crossentropy", metrics=["accuracy"])


@mismatch("LSTM, linear and binary cross-entropy", made(tokens, targets="bit", length=8))
def lstm_linear_binary():
    model = Sequential([Input((8,)), Embedding(200, 16), LSTM(16), Dense(1)])
    return compiled(model, "adam", "binary_crossentropy")


@mismatch("softmax classes and binary cross-entropy", HOT)
def softmax_binary():
    model = mlp(Dense(10, activation="softmax"))
    return compiled(model, "adam", "binary_crossentropy", metrics=["accuracy"])


@mismatch(
    "CNN of two softmax classes and binary cross-entropy", made(images, classes=2, targets="hot")
)
def two_softmax_binary():
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu"), Flatten()])
    model.add(Dense(32, activation="relu"))
    model.add(Dense(2))
    model.add(Activation("softmax"))
    return compiled(model, "rmsprop", "binary_crossentropy")


@mismatch("ten sigmoids and categorical cross-entropy", HOT)
def sigmoid_categorical():
    model = mlp(Dense(10, activation="sigmoid"))
    return compiled(model, "adam", "categorical_crossentropy")


@mismatch("one sigmoid and categorical cross-entropy", BIT)
def one_sigmoid_categorical():
    model = mlp(Dense(1, activation="sigmoid"))
    return compiled(model, "adam", "categorical_crossentropy")


@mismatch("ReLU and sparse categorical cross-entropy", TEN)
def relu_sparse():
    return compiled(mlp(Dense(10, activation="relu")), "adam", SPARSE)


@mismatch("ReLU of a CNN and categorical cross-entropy", made(images, targets="hot"))
def relu_categorical():
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu"), MaxPooling2D()])
    model.add(Flatten())
    model.add(Dense(10, activation="relu"))
    return compiled(model, SGD(0.01), "categorical_crossentropy")


@mismatch("ReLU and binary cross-entropy", BIT)
def relu_binary():
    return compiled(mlp(Dense(1, activation="relu")), "adam", "binary_crossentropy")


@mismatch("tanh and binary cross-entropy", BIT)
def tanh_binary():
    return compiled(mlp(Dense(1, activation="tanh")), "adam", "binary_crossentropy")


@mismatch("linear and Kullback-Leibler divergence", HOT)
def linear_divergence():
    return compiled(mlp(Dense(10)), "adam", "kl_divergence")


def two_targets(x, y):
    return x, {"kind": y, "churn": (y[:, None] % 2).astype("float32")}


@mismatch(
    "one of two outputs linear before binary cross-entropy",
    changed(TEN, two_targets),
    mentions="churn",
)
def one_of_two():
    inputs = Input((20,))
    x = Dense(64, activation="relu")(inputs)
    outputs = {"kind": Dense(10, "softmax", name="kind")(x), "churn": Dense(1, name="churn")(x)}
    return compiled(
        keras.Model(inputs, outputs), "adam", {"kind": SPARSE, "churn": "binary_crossentropy"}
    )


def one_unit(name, data, **options):
    return faulty("one-unit softmax", name, "one_unit_softmax", data, **options)


@one_unit("dense layers and binary cross-entropy", BIT)
def softmax_bit():
    return compiled(mlp(Dense(1, activation="softmax")), "adam", "binary_crossentropy")


@one_unit("LSTM and binary cross-entropy", made(tokens, targets="bit", length=8))
def softmax_lstm():
    model = Sequential([Input((8,)), Embedding(200, 16), LSTM(16)])
    model.add(Dense(1, activation="softmax"))
    return compiled(model, "rmsprop", "binary_crossentropy")


@one_unit("regression and mse", regression)
def softmax_regression():
    return compiled(mlp(Dense(1, activation="softmax"), features=8), "adam", "mse")


@one_unit("mask of one channel", masks, batch=8)
def softmax_mask():
    model = Sequential([Input((16, 16, 1)), Conv2D(8, 3, padding="same", activation="relu")])
    model.add(Conv2D(1, 1, activation="softmax"))
    return compiled(model, "adam", "binary_crossentropy")


def twice(name, data):
    return faulty("double softmax", name, "double_softmax", data)


@twice("Dense with softmax, then Softmax", TEN)
def softmax_twice():
    model = mlp(Dense(10, activation="softmax"), layers.Softmax())
    return compiled(model, "adam", SPARSE)


@twice("functional LSTM with softmax, then Activation", made(waves, length=8))
def softmax_twice_lstm():
    inputs = Input((8, 2))
    x = Dense(3, activation="softmax")(LSTM(16)(inputs))
    outputs = Activation("softmax")(x)
    return compiled(keras.Model(inputs, outputs), Adam(3e-3), SPARSE)
