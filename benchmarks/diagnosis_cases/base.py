"""A case of the benchmark: a model with its data, its optimizer, and the expected findings."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import keras

from diagnosis_cases.networks import attention, cnn, mlp, recurrent, residual

DATA = {mlp: "flat", residual: "flat", cnn: "image", recurrent: "rows", attention: "words"}


def adam(rate=1e-3):
    return partial(keras.optimizers.Adam, rate)


def sgd(rate, momentum=0.0):
    return partial(keras.optimizers.SGD, rate, momentum)


@dataclass(frozen=True)
class Case:
    """A model to train, healthy or with a planted fault.

    Args:
        kind: Kind of fault, "healthy" or "sensitivity".
        name: Description of the case.
        build: Function that returns the model, not compiled.
        layers: Names of the layers in which the fault may be found. Empty: any layer.
        rules: Ids of the rules that name the fault rightly.
        data: Kind of data, see `networks.data`.
        optimizer: Function that returns the optimizer.
        loss: Loss of the model.
        policy: Dtype policy of the model.
        change_data: Function of inputs and targets that returns those to train on. None: no
            change.
        pretrained: Whether the model is trained before the monitored run.
    """

    kind: str
    name: str
    build: Callable
    layers: tuple = ()
    rules: tuple = ()
    data: str = "flat"
    optimizer: Callable = keras.optimizers.Adam
    loss: str = "sparse_categorical_crossentropy"
    policy: str = "float32"
    change_data: Callable | None = None
    pretrained: bool = False


# The fields with defaults, which `case` takes by name.
SETTINGS = {field.name for field in fields(Case)[5:]}


def case(kind, name, layers, rules, build, /, **options):
    """Return a case of one of the networks in `DATA`.

    Layers and rules are words in one string. Options that are not in `SETTINGS` are passed to
    `build`.
    """
    settings = {key: options.pop(key) for key in SETTINGS & set(options)}
    settings.setdefault("data", DATA[build])
    network = partial(build, **options)
    return Case(kind, name, network, tuple(layers.split()), tuple(rules.split()), **settings)
