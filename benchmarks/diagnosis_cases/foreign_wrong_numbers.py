"""Faulty programs with unscaled inputs or a wrong learning rate."""

import numpy as np
from keras import Sequential, layers
from keras.layers import GRU, LSTM, Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.optimizers import SGD, Adam, RMSprop, schedules

from diagnosis_cases.foreign import LONG, compiled, faulty_into
from diagnosis_cases.foreign_data import (
    changed,
    clusters,
    forecasts,
    images,
    made,
    regression,
)
from diagnosis_cases.foreign_fine_tuning import fine_tuned
from diagnosis_cases.foreign_wrong_outputs import mlp

CASES = []
faulty = faulty_into(CASES)
TEN, PIXELS = made(clusters), made(images)
SPARSE = "sparse_categorical_crossentropy"


def unscaled(name, data, rules="input_scale", **options):
    return faulty("unscaled inputs", name, rules, data, **options)


def times(factor, offset=0.0):
    return lambda x, y: (x * factor + offset, y)


@unscaled("images 0..255, CNN", made(images, channels=3, scale="0..255"))
def raw_images():
    model = Sequential([Input((12, 12, 3)), Conv2D(16, 3, activation="relu"), MaxPooling2D()])
    model.add(Conv2D(32, 3, activation="relu"))
    model.add(Flatten())
    model.add(Dense(64, activation="relu"))
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@unscaled("images 0..255, dense layers, SGD 0.01", made(images, scale="0..255"))
def raw_images_dense():
    model = Sequential([Input((12, 12, 1)), Flatten(), Dense(128, activation="relu")])
    model.add(Dense(10, activation="softmax"))
    return compiled(model, SGD(0.01), SPARSE)


SALARIES = np.array([1, 4e4, 1, 1e3, 10, 1, 5, 2, 40, 1, 1, 2000, 1, 1, 1, 1, 3, 1, 1, 1])


@unscaled("columns such as salary and age", changed(TEN, times(SALARIES, SALARIES)))
def raw_columns():
    return compiled(mlp(Dense(10, activation="softmax")), "adam", SPARSE)


@unscaled("sensors around 700 ± 20, tanh", changed(TEN, times(20.0, 700.0)))
def sensors():
    model = Sequential(
        [Input((20,)), Dense(32, activation="tanh"), Dense(10, activation="softmax")]
    )
    return compiled(model, "adam", SPARSE)


@unscaled("values of 1e-6", changed(made(regression), times(1e-6)))
def tiny_inputs():
    return compiled(mlp(Dense(1), features=8), "adam", "mse")


@unscaled("pixels 0..1 rescaled twice", PIXELS, "input_scale vanishing_forward")
def rescaled_twice():
    model = Sequential([Input((12, 12, 1)), layers.Rescaling(1 / 255), layers.Rescaling(1 / 255)])
    model.add(Conv2D(16, 3, activation="relu"))
    model.add(Flatten())
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@unscaled("an array that was never filled", changed(TEN, times(0.0)), "input_scale constant_output")
def never_filled():
    return compiled(mlp(Dense(10, activation="softmax")), "adam", SPARSE)


@unscaled(
    "stock prices around 3000, LSTM",
    made(forecasts, low=2500, high=3500),
    "input_scale target_scale",
)
def stock_prices():
    model = Sequential([Input((10, 1)), LSTM(32), Dense(1)])
    return compiled(model, "adam", "mean_squared_error")


def rate(name, rules="update_too_large", data=TEN, **options):
    return faulty("rate", name, rules, data, **options)


def classifier(optimizer):
    return compiled(mlp(Dense(10, activation="softmax")), optimizer, SPARSE)


@rate("SGD 10")
def sgd_10():
    return classifier(SGD(10.0))


@rate("Adam 1")
def adam_1():
    return classifier(Adam(1.0))


@rate("RMSprop 0.5, GRU", data=made(forecasts, length=8))
def rmsprop_gru():
    return compiled(Sequential([Input((8, 1)), GRU(16), Dense(1)]), RMSprop(0.5), "mse")


@rate("SGD 2 with momentum 0.9, CNN", data=PIXELS)
def momentum_cnn():
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu"), MaxPooling2D()])
    model.add(Flatten())
    model.add(Dense(10, activation="softmax"))
    return compiled(model, SGD(2.0, momentum=0.9), SPARSE)


@rate("regression that diverges with SGD 0.5 and momentum 0.9", data=regression)
def diverging_regression():
    return compiled(mlp(Dense(1), features=8), SGD(0.5, momentum=0.9), "mse")


@rate("fine-tuning with Adam 0.5", data=made(images, channels=3, scale="standardized"))
def fine_tuning():
    return fine_tuned(base_trains=True, rate=0.5)


@rate("SGD -0.01", "learning_rate")
def negative_rate():
    return classifier(SGD(-0.01))


@rate("Adam -1, images 0..1", "learning_rate", data=PIXELS)
def negative_adam():
    model = Sequential([Input((12, 12, 1)), Flatten(), Dense(64, "relu"), Dense(10, "softmax")])
    return compiled(model, Adam(-1.0), SPARSE)


@rate("Adam 0", "learning_rate")
def zero_rate():
    return classifier(Adam(0.0))


@rate("Adam 1e-8", "nothing_learns", **LONG)
def tiny_adam():
    return classifier(Adam(1e-8))


@rate("SGD 1e-6, CNN", "nothing_learns", data=PIXELS, **LONG)
def tiny_sgd():
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu"), Flatten()])
    model.add(Dense(10, activation="softmax"))
    return compiled(model, SGD(1e-6), SPARSE)


@rate("decay by 10 at every step", "nothing_learns learning_rate", **LONG)
def decayed_rate():
    return classifier(Adam(schedules.ExponentialDecay(1e-3, 1, 0.1)))
