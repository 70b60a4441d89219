"""Trains small models with the monitor, and looks rows up in its records."""

import keras
import numpy as np
from keras import layers
from support.scenarios import X, Y, compiled

RNG = np.random.default_rng(0)


def fit(model, *callbacks, x=X, y=Y, **options):
    options = {"batch_size": 8, "epochs": 1, "verbose": 0, "shuffle": False, **options}
    return model.fit(x, y, callbacks=list(callbacks), **options)


def row(record, name):
    """Return the statistics of one layer output in a record."""
    return dict(zip(record.statistics, record.values[record.layers.index(name)], strict=True))


def variable(record, name):
    """Return the statistics of one variable in a record."""
    values = record.variable_values[record.variables.index(name)]
    return dict(zip(record.variable_statistics, values, strict=True))


def steps_of(monitor):
    return [record.step for record in monitor.history.records]


def tiny():
    return compiled(keras.Sequential([keras.Input((6,)), layers.Dense(3, "leaky_relu")]), "sgd")


def dense_pair():
    """Return a model of a layer with ReLU, named `one`, and a layer with tanh, named `two`."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, "relu", kernel_initializer="winit>large_normal", name="one"),
            layers.Dense(3, "tanh", kernel_initializer="winit>large_normal", name="two"),
        ],
        name="m",
    )
    model.layers[0].set_weights([RNG.normal(size=(6, 9)), RNG.normal(size=9) - 2])
    model.layers[1].set_weights([RNG.normal(size=(9, 3)), RNG.normal(size=3)])
    return compiled(model, keras.optimizers.SGD(0.1))
