"""Healthy regressions, also of sorted data."""

import keras
import numpy as np
from keras import Sequential, layers
from keras.layers import Dense, Input
from keras.optimizers import SGD, Adam

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import changed, made, regression

CASES = []
healthy = healthy_into(CASES)


@healthy("regression", "scaled targets, Dense 64 twice, batch 32", regression)
def scaled_regression():
    model = Sequential([Input((8,)), Dense(64, "relu"), Dense(64, "relu"), Dense(1)])
    return compiled(model, "adam", "mse", metrics=["mae"])


HOUSES = made(regression, features=13, mean=22.0, stddev=9.0)


@healthy("regression", "house prices of 22 ± 9, RMSprop, batch 16", HOUSES, batch=16)
def house_prices():
    model = Sequential([Input((13,)), Dense(64, activation="relu"), Dense(64, activation="relu")])
    model.add(Dense(1))
    return compiled(model, "rmsprop", "mse", metrics=["mae"])


@healthy(
    "regression",
    "mpg of 23 ± 8 with mae, Adam 0.003, batch 32",
    made(regression, mean=23, stddev=8),
)
def fuel_economy():
    model = Sequential([Input((8,)), Dense(64, activation="relu"), Dense(64, activation="relu")])
    model.add(Dense(1))
    return compiled(model, Adam(3e-3), "mean_absolute_error")


@healthy(
    "regression",
    "four values to -3..3 with Huber, batch 128",
    made(regression, outputs=4),
    batch=128,
)
def q_network():
    model = Sequential([Input((8,)), Dense(24, "relu"), Dense(24, "relu"), Dense(4)])
    return compiled(model, Adam(5e-3), keras.losses.Huber())


def with_units(x, y):
    return (x * [1, 10, 1000, 0.01, 5, 3, 200, 1] + [0, 50, 3000, 0, 9, 0, 0, 40]), y


@healthy(
    "regression",
    "raw columns behind a Normalization layer, batch 64",
    changed(regression, with_units),
    batch=64,
)
def normalized_inputs():
    mean = [0, 50, 3000, 0, 9, 0, 0, 40]
    variance = np.square([1, 10, 1000, 0.01, 5, 3, 200, 1])
    normalize = layers.Normalization(mean=mean, variance=variance)
    model = Sequential([Input((8,)), normalize, Dense(32, "relu"), Dense(32, "relu"), Dense(1)])
    return compiled(model, Adam(3e-3), "mse")


def line(rng, rows):
    x = rng.normal(size=(rows, 1))
    return x.astype("float32"), (2.5 * x - 1 + 0.1 * rng.normal(size=x.shape)).astype("float32")


@healthy("regression", "a line from one feature, SGD 0.05, batch 8", line, batch=8)
def linear_regression():
    model = Sequential()
    model.add(Input((1,)))
    model.add(Dense(1))
    return compiled(model, SGD(0.05), "mean_squared_error")


def sorted_curve(rng, rows):
    """Return a curve over a standardized, sorted axis."""
    x = np.linspace(-1.7, 1.7, rows)[:, None]
    y = np.sin(3 * x) + 0.05 * rng.normal(size=x.shape)
    return x.astype("float32"), y.astype("float32")


ORDERED = {"fit": {"shuffle": False}}


@healthy(
    "sorted data",
    "a sine without shuffling, last batch of 6 rows",
    sorted_curve,
    steps=96,
    epochs=16,
    extra_rows=6,
    **ORDERED,
)
def sorted_regression():
    hidden = [Dense(64, activation="tanh"), Dense(64, activation="tanh")]
    return compiled(Sequential([Input((1,)), *hidden, Dense(1)]), Adam(3e-3), "mse")


def by_day(rng, rows):
    """Return a standardized feature that grows with the row, and seven that do not."""
    x, y = regression(rng, rows, features=8)
    drift = np.linspace(-1.7, 1.7, rows, dtype="float32")
    x[:, 0] = drift
    return x, y + drift[:, None]


@healthy("sorted data", "a standardized time column without shuffling, batch 32", by_day, **ORDERED)
def time_column():
    model = Sequential([Input((8,)), Dense(32, "relu"), Dense(16, "relu"), Dense(1)])
    return compiled(model, Adam(3e-3), "mse")


def counts(rng, rows):
    x, y = regression(rng, rows)
    return x, rng.poisson(np.exp(0.7 + 0.8 * y)).astype("float32")


@healthy(
    "regression",
    "counts with exponential outputs and Poisson loss, batch 32",
    counts,
    falls_to=0.97,
)
def poisson_regression():
    model = Sequential(
        [Input((8,)), Dense(32, activation="relu"), Dense(1, activation="exponential")]
    )
    return compiled(model, Adam(5e-3), "poisson")
