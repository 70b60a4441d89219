"""Reads the losses that a model was compiled with."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

losses = keras.losses

# Names of functions in `keras.losses`.
OF_BINARY = frozenset(("binary_crossentropy", "binary_focal_crossentropy"))
OF_CLASSES = frozenset(
    (
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
    )
)
# At equal probabilities these losses are the logarithm of the number of classes.
UNWEIGHTED = frozenset(("categorical_crossentropy", "sparse_categorical_crossentropy"))
# Losses that measure how far the outputs are from equal targets.
OF_REGRESSION = frozenset(("mean_squared_error", "mean_absolute_error", "huber", "log_cosh"))
# Losses that are never below zero, whatever the outputs and the targets that they can take.
NEVER_NEGATIVE = frozenset(
    (
        *(*OF_BINARY, *OF_CLASSES, "mean_squared_error", "mean_absolute_error"),
        *("mean_absolute_percentage_error", "mean_squared_logarithmic_error", "huber"),
        *("log_cosh", "hinge", "squared_hinge", "categorical_hinge"),
    )
)


@dataclass(frozen=True)
class LossSetup:
    """A loss of Keras, as an output of a model was compiled with it.

    Args:
        name: Name of its function in `keras.losses`, such as "binary_crossentropy".
        from_logits: Whether it takes logits. False for losses without that argument.
        ignored_class: Class that a sparse cross-entropy leaves out, or None.
        axis: Axis of the classes.
    """

    name: str
    from_logits: bool = False
    ignored_class: int | None = None
    axis: int = -1

    @property
    def is_binary(self) -> bool:
        """Whether it is a cross-entropy of independent probabilities."""
        return self.name in OF_BINARY

    @property
    def is_categorical(self) -> bool:
        """Whether it is a cross-entropy of classes that exclude each other."""
        return self.name in OF_CLASSES


def output_losses(model: Any, keys: Sequence[str | None] = (None,)) -> tuple[LossSetup | None, ...]:
    """Return the loss of each output of a compiled model.

    A loss is None where it is not one of Keras' own or cannot be told: in a model with its own
    `compute_loss`, for a custom function or subclass, and for "crossentropy", which Keras
    chooses by the targets.

    Args:
        model: Compiled model.
        keys: For each output, flattened, its key if the outputs are a dictionary.
    """
    loss = getattr(model, "loss", None)
    if loss is None or _computes_own_loss(model):
        return (None,) * len(keys)
    if isinstance(loss, dict):
        names = keys if None not in keys else (getattr(model, "output_names", None) or keys)
        return tuple(_loss_setup(loss.get(name)) for name in names[: len(keys)])
    if isinstance(loss, list | tuple):
        known = loss if len(loss) == len(keys) else [None] * len(keys)
        return tuple(_loss_setup(one) for one in known)
    return (_loss_setup(loss),) * len(keys)


def is_regression(model: Any) -> bool:
    """Return whether each loss of a compiled model compares targets with outputs as numbers."""
    chosen = [_loss_setup(loss) for loss in keras.tree.flatten(getattr(model, "loss", None))]
    return not _computes_own_loss(model) and all(
        loss is not None and loss.name in OF_REGRESSION for loss in chosen
    )


def _computes_own_loss(model: Any) -> bool:
    return not type(model).compute_loss.__module__.startswith("keras.")


def _loss_setup(loss: Any) -> LossSetup | None:
    if isinstance(loss, str):
        if loss.lower() in ("crossentropy", "ce"):
            return None
        loss = losses.get(loss)
    arguments: dict[str, Any] = {}
    if isinstance(loss, functools.partial) and not loss.args:
        loss, arguments = loss.func, loss.keywords
    elif isinstance(loss, losses.Loss) and type(loss).call is losses.MeanSquaredError.call:
        loss, arguments = getattr(loss, "fn", None), getattr(loss, "_fn_kwargs", {})
    name = getattr(loss, "__name__", "")
    if getattr(losses, name, None) is not loss:
        return None
    return LossSetup(
        name,
        from_logits=bool(arguments.get("from_logits", False)),
        ignored_class=arguments.get("ignore_class"),
        axis=arguments.get("axis", -1),
    )


def expected_loss(model: Any) -> float | None:
    """Return the loss of a classifier that gives all classes equal probabilities.

    The loss is log(classes), in nats. It is None unless the model is compiled with a single
    cross-entropy and, for several classes, has a single output of known size.
    """
    if isinstance(getattr(model, "loss", None), dict | list | tuple):
        return None
    (loss,) = output_losses(model)
    if loss is not None and loss.name == "binary_crossentropy":
        return math.log(2)
    if loss is not None and loss.name in UNWEIGHTED:
        shape = getattr(model, "output_shape", None)
        if isinstance(shape, tuple) and shape and isinstance(shape[-1], int) and shape[-1] > 1:
            return math.log(shape[-1])
    return None
