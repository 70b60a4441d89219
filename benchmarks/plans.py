"""What `diagnosis.py` trains: a model with its data and its optimizer, healthy or not."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
from nets import attention, cnn, mlp, recurrent, residual


def adam(rate=1e-3):
    return partial(keras.optimizers.Adam, rate)


def sgd(rate, momentum=0.0):
    return partial(keras.optimizers.SGD, rate, momentum)


@dataclass(frozen=True)
class Plan:
    """A model to train, healthy or not.

    `layers` are those in which a fault may be found, none if it belongs to all; `rules` those
    that name it rightly; `spoil` changes the data; a `trained` model is trained before.
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
    spoil: Callable | None = None
    trained: bool = False


PLANS = []
DATA = {mlp: "flat", residual: "flat", cnn: "image", recurrent: "rows", attention: "words"}
SETTINGS = ("data", "optimizer", "policy", "spoil", "loss", "trained")


def plant(kind, name, where, rules, build, /, **options):
    """Layers and rules as words; what is no setting of the plan goes to the model."""
    settings = {name: options.pop(name) for name in SETTINGS if name in options}
    model = partial(build, **options)
    settings.setdefault("data", DATA[build])
    PLANS.append(Plan(kind, name, model, tuple(where.split()), tuple(rules.split()), **settings))
