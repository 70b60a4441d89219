"""Describes the losses that a model was compiled with."""

import math
from typing import Any

import keras

losses = keras.losses
BINARY = (losses.BinaryCrossentropy, losses.binary_crossentropy)
CATEGORICAL = (
    losses.CategoricalCrossentropy,
    losses.categorical_crossentropy,
    losses.SparseCategoricalCrossentropy,
    losses.sparse_categorical_crossentropy,
)
REGRESSION = (
    losses.MeanSquaredError,
    losses.mean_squared_error,
    losses.MeanAbsoluteError,
    losses.mean_absolute_error,
    losses.Huber,
    losses.huber,
    losses.LogCosh,
    losses.log_cosh,
)


def is_regression(model: Any) -> bool:
    """Return whether each loss of a compiled model compares targets and outputs of equal size."""
    chosen = keras.tree.flatten(getattr(model, "loss", None))
    chosen = [losses.get(loss) if isinstance(loss, str) else loss for loss in chosen]
    return bool(chosen) and all(_is_any_of(loss, REGRESSION) for loss in chosen)


def expected_loss(model: Any) -> float | None:
    """Return the loss of a classifier that gives all classes equal probabilities.

    The loss is log(classes), in nats. It is None unless the model is compiled with a single
    cross-entropy and, for several classes, has a single output of known size.
    """
    loss = getattr(model, "loss", None)
    if isinstance(loss, str):
        loss = losses.get(loss)
    if _is_any_of(loss, BINARY):
        return math.log(2)
    if _is_any_of(loss, CATEGORICAL):
        shape = getattr(model, "output_shape", None)
        if isinstance(shape, tuple) and shape and isinstance(shape[-1], int) and shape[-1] > 1:
            return math.log(shape[-1])
    return None


def _is_any_of(loss: Any, known: Any) -> bool:
    """Whether a loss is one of some functions, or an instance of exactly one of some classes."""
    return any(loss is candidate or type(loss) is candidate for candidate in known)
