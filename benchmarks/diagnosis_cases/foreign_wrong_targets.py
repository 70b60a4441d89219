"""Faulty programs whose targets lie where the loss or the output cannot take them."""

import keras
import numpy as np
from keras import Sequential
from keras.layers import Conv2D, Dense, Flatten, Input
from keras.losses import BinaryCrossentropy
from keras.optimizers import SGD, Adam

from diagnosis_cases.foreign import LONG, compiled, faulty_into
from diagnosis_cases.foreign_data import changed, clusters, images, made, reconstruction, regression
from diagnosis_cases.foreign_wrong_outputs import mlp

CASES = []
faulty = faulty_into(CASES)
TEN, BIT = made(clusters), made(clusters, targets="bit")


def out_of_range(name, data, rules="target_range", **options):
    return faulty("targets out of range", name, rules, data, **options)


def as_column(x, y):
    return x, y[:, None].astype("float32")


@out_of_range("classes 0..9 and binary cross-entropy on logits", changed(TEN, as_column))
def classes_logits():
    return compiled(mlp(Dense(1)), "adam", BinaryCrossentropy(from_logits=True))


@out_of_range(
    "-1 and 1 and binary cross-entropy on logits", changed(BIT, lambda x, y: (x, 2 * y - 1))
)
def signs_binary():
    return compiled(mlp(Dense(1)), "adam", BinaryCrossentropy(from_logits=True))


def image_model(activation=None):
    model = Sequential([Input((12, 12, 1)), Conv2D(8, 3, padding="same", activation="relu")])
    model.add(Conv2D(1, 3, padding="same", activation=activation))
    return model


BRIGHT = changed(made(images), lambda x, y: (x, np.round(255 * x)))


@out_of_range("pixels 0..255 as targets of binary cross-entropy on logits", BRIGHT)
def pixels_logits():
    return compiled(image_model(), "adam", BinaryCrossentropy(from_logits=True))


def classes_binary():
    return compiled(mlp(Dense(1, activation="sigmoid")), "adam", "binary_crossentropy")


def pixels_binary():
    return compiled(image_model("sigmoid"), "adam", "binary_crossentropy")


# PyTorch itself refuses probabilities with such targets.
if keras.backend.backend() != "torch":
    one_and_two = changed(BIT, lambda x, y: (x, y + 1))
    out_of_range("classes 0..9 and binary cross-entropy", changed(TEN, as_column))(classes_binary)
    out_of_range("classes 1 and 2 and binary cross-entropy", one_and_two)(classes_binary)
    out_of_range("pixels 0..255 as targets of binary cross-entropy", BRIGHT)(pixels_binary)


PRICES = made(regression, mean=30.0, stddev=9.0)


@out_of_range(
    "prices of 30 ± 9 and a sigmoid with mse", PRICES, "target_range target_scale", **LONG
)
def sigmoid_prices():
    return compiled(mlp(Dense(1, activation="sigmoid"), features=8), "adam", "mse")


@out_of_range(
    "autoencoder of pixels 0..255 with tanh and mse",
    made(reconstruction, scale="0..255"),
    "target_range target_scale input_scale",
)
def tanh_pixels():
    return compiled(image_model("tanh"), "adam", "mse")


def below_zero(x, y):
    return x, y - 4


@faulty(
    "dead output",
    "negative targets and a ReLU at the end",
    "dead_output target_range",
    changed(regression, below_zero),
    **LONG,
)
def relu_below_zero():
    return compiled(mlp(Dense(1, activation="relu"), features=8), Adam(3e-3), "mse")


@faulty(
    "dead output",
    "one ReLU layer with weights below zero",
    "dead_output wrong_init_for_activation",
    made(images, size=6, targets="hot"),
)
def relu_off():
    start = keras.initializers.RandomUniform(-0.3, 0.0)
    model = Sequential([Input((6, 6, 1)), Flatten()])
    model.add(Dense(10, activation="relu", kernel_initializer=start))
    return compiled(model, "adam", "mse")


@faulty(
    "dead output",
    "ReLU with a bias of -5 at the end",
    "dead_output",
    changed(regression, lambda x, y: (x, abs(y))),
)
def relu_bias():
    model = mlp(
        Dense(1, activation="relu", bias_initializer=keras.initializers.Constant(-5.0)), features=8
    )
    return compiled(model, "adam", "mse")


def far_targets(name, data, **options):
    return faulty("unscaled targets", name, "target_scale", data, **options)


@far_targets("house prices of 2e5, Adam", made(regression, mean=2e5, stddev=8e4), **LONG)
def dollars():
    return compiled(mlp(Dense(1), features=8), "adam", "mse", metrics=["mae"])


@far_targets("revenue of 1e6, mae, RMSprop", made(regression, mean=0.0, stddev=1e6), **LONG)
def revenue():
    return compiled(mlp(Dense(1), features=8), "rmsprop", "mae")


@far_targets("targets of 1e4, SGD 0.01", made(regression, mean=1e4, stddev=3e3))
def diverging_targets():
    return compiled(mlp(Dense(1), features=8), SGD(0.01), "mse")


@far_targets("years of 2000 ± 10", made(regression, mean=2000.0, stddev=10.0), **LONG)
def years():
    return compiled(mlp(Dense(1), features=8), "adam", "mse")
