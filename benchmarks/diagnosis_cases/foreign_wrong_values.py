"""Faulty programs whose data, layers or losses hold values that are not finite."""

import keras
import numpy as np
from keras import Sequential, layers, ops
from keras.layers import Dense, Input

from diagnosis_cases.foreign import compiled, faulty_into
from diagnosis_cases.foreign_data import changed, clusters, made, pairs, regression
from diagnosis_cases.foreign_wrong_numbers import classifier
from diagnosis_cases.foreign_wrong_outputs import mlp

CASES = []
faulty = faulty_into(CASES)
TEN = made(clusters)
SPARSE = "sparse_categorical_crossentropy"


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
    """Return the error of positive targets, divided by their number, which may be zero."""
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
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return compiled(keras.Model([left, right], Dense(1)(distance)), "adam", loss)


class L2Normalize(layers.Layer):
    """Rows of length 1; a row of zeros is divided by zero."""

    def call(self, x):
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))


@non_finite(
    "rows of zeros divided by their length",
    "l2_normalize",
    changed(TEN, lambda x, y: (*with_padding(x, y)[:1], y)),
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
