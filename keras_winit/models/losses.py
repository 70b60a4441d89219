"""What a classifier loses as long as it knows nothing."""

import math
from typing import Any

import keras

losses = keras.losses
BINARY = (losses.BinaryCrossentropy, losses.binary_crossentropy)
MANY = (
    losses.CategoricalCrossentropy,
    losses.categorical_crossentropy,
    losses.SparseCategoricalCrossentropy,
    losses.sparse_categorical_crossentropy,
)


def expected_loss(model: Any) -> float | None:
    """The loss of equal chances, log(classes); None if the loss is no single cross-entropy."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, str):
        loss = losses.get(loss)
    if _is_one_of(loss, BINARY):
        return math.log(2)
    if _is_one_of(loss, MANY):
        shape = getattr(model, "output_shape", None)
        if isinstance(shape, tuple) and shape and isinstance(shape[-1], int) and shape[-1] > 1:
            return math.log(shape[-1])
    return None


def _is_one_of(loss: Any, known: Any) -> bool:
    return any(loss is one or type(loss) is one for one in known)
