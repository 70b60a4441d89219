"""Faulty programs with wrong scales, rates or values that are not finite."""

import keras
import numpy as np
from keras import Sequential, layers, ops
from keras.layers import GRU, LSTM, Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.optimizers import SGD, Adam, RMSprop, schedules

from diagnosis_cases.foreign import LONG, compiled, faulty_into
from diagnosis_cases.foreign_data import (
    changed,
    clusters,
    forecasts,
    images,
    made,
    pairs,
    regression,
)
from diagnosis_cases.foreign_images import fine_tuned
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


def non_finite(name, mentions, data=TEN, **options):
    return faulty("not finite", name, "non_finite", data, mentions=mentions, **options)


def with_gaps(value, first=0):
    """Set every seventh row of column 3 to a value, from row `first` on."""

    def change(x, y):
        x = x.copy()
        x[first::7, 3] = value
        return x, y

    return change


@non_finite("missing values in a column", r"\binput", changed(TEN, with_gaps(np.nan)))
def missing_values():
    return classifier("adam")


@non_finite("infinities in a column", r"\binput", changed(TEN, with_gaps(np.inf)))
def infinities():
    return classifier("rmsprop")


ORDERED = {"fit": {"shuffle": False}, "steps": 52, "epochs": 1}


@non_finite(
    "missing values from step 40 on", r"\binput", changed(TEN, with_gaps(np.nan, 1290)), **ORDERED
)
def late_missing_values():
    return classifier("adam")


@non_finite(
    "missing targets",
    r"\btarget",
    changed(regression, lambda x, y: (x, np.where(y > 1, np.nan, y))),
)
def missing_targets():
    return compiled(mlp(Dense(1), features=8), "adam", "mse")


def masked_mse(y_true, y_pred):
    """Error of positive targets, divided by their number, which may be zero."""
    present = ops.cast(y_true > 1.2, "float32")
    squares = ops.sum(present * ops.square(y_true - y_pred))
    return squares / ops.sum(present)


@non_finite("custom loss divides by a count of zero", r"\bloss", regression, batch=4)
def masked_loss():
    return compiled(mlp(Dense(1), features=8), "adam", masked_mse)


def divergence(y_true, y_pred):
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


@non_finite(
    "custom loss takes the log of a zero in the targets", r"\bloss", made(clusters, targets="hot")
)
def log_of_zero():
    return compiled(mlp(Dense(10, activation="softmax")), "adam", divergence)


def row_distance(y_true, y_pred):
    return ops.mean(ops.sqrt(ops.sum(ops.square(y_true - y_pred), axis=-1)))


def with_padding(x, y):
    x = np.where(np.arange(len(x))[:, None] % 5 == 0, 0, x).astype("float32")
    return x, x


@non_finite(
    "root of a zero error in a custom loss",
    r"\bloss|singular|sqrt|root",
    changed(TEN, with_padding),
)
def root_of_zero():
    hidden = Dense(16, activation="relu", use_bias=False)
    model = Sequential([Input((20,)), hidden, Dense(20, use_bias=False)])
    return compiled(model, "adam", row_distance)


@non_finite(
    "distance of equal rows in a siamese model", r"lambda|singular", made(pairs, equal=True)
)
def equal_pairs():
    encoder = Sequential([Input((16,)), Dense(32, activation="relu"), Dense(16)])
    left, right = Input((16,)), Input((16,))
    distance = layers.Lambda(
        lambda two: ops.sqrt(ops.sum(ops.square(two[0] - two[1]), axis=1, keepdims=True))
    )([encoder(left), encoder(right)])
    outputs = Dense(1, activation="sigmoid")(distance)
    return compiled(keras.Model([left, right], outputs), "adam", "binary_crossentropy")


class L2Normalize(layers.Layer):
    """Rows of length 1; a row of zeros is divided by zero."""

    def call(self, x):
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))


@non_finite(
    "rows of zeros divided by their length",
    "l2_normalize",
    changed(TEN, lambda x, y: with_padding(x, y)[:1] + (y,)),
)
def zero_length():
    model = Sequential([Input((20,)), L2Normalize(), Dense(32, "relu"), Dense(10, "softmax")])
    return compiled(model, "adam", SPARSE)


@non_finite(
    "log of counts with zeros",
    "lambda",
    changed(TEN, lambda x, y: (np.maximum(np.round(3 * x), 0), y)),
)
def log_of_counts():
    model = Sequential(
        [Input((20,)), layers.Lambda(ops.log), Dense(32, "relu"), Dense(10, "softmax")]
    )
    return compiled(model, "adam", SPARSE)


class MaskedMean(layers.Layer):
    """Mean of the positive values of each row, of which there may be none."""

    def call(self, x):
        present = ops.cast(x > 0.5, x.dtype)
        return ops.sum(x * present, axis=1, keepdims=True) / ops.sum(present, axis=1, keepdims=True)


@non_finite("mean of no value", "masked_mean", made(clusters, features=4, classes=3))
def mean_of_nothing():
    inputs = Input((4,))
    x = layers.concatenate([inputs, MaskedMean()(inputs)])
    outputs = Dense(3, activation="softmax")(Dense(16, activation="relu")(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)
