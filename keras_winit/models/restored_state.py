"""Contexts that restore, at their end, what their body changes in a model or in Keras."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_winit.models.variable_values import on_host

# Sets an attribute of an instance: the instance, the name and the value.
Put = Callable[[Any, str, Any], None]

ABSENT = object()


@contextlib.contextmanager
def attributes_restored() -> Iterator[Put]:
    """Restore the attributes that the body sets by the function that it is given.

    The function goes past `__setattr__`, with which Keras and torch track assignments.
    """
    originals: list[tuple[dict[str, Any], str, Any]] = []

    def put(target: Any, name: str, value: Any) -> None:
        attributes = target.__dict__
        originals.append((attributes, name, attributes.get(name, ABSENT)))
        attributes[name] = value

    try:
        yield put
    finally:
        for attributes, name, value in reversed(originals):
            if value is ABSENT:
                attributes.pop(name, None)
            else:
                attributes[name] = value


@contextlib.contextmanager
def values_restored(variables: Iterable[Any]) -> Iterator[None]:
    """Restore the values of variables, from copies on the host.

    Copies on the device would not do on JAX, where `fit` gives the memory of variables away.
    """
    before = [(variable, np.array(on_host(variable))) for variable in variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


@contextlib.contextmanager
def generators_restored() -> Iterator[None]:
    """Restore the state of the backend's global random generators."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng():
        yield


@contextlib.contextmanager
def loss_and_metrics_left_unbuilt(
    model: Any, backends: Sequence[str] = ("torch",)
) -> Iterator[None]:
    """Let a `fit` within the context build copies of the loss and the metrics, on PyTorch.

    The first `fit` after `compile` builds both, for which it takes one batch from the data and
    draws from the global random generator. The first `fit` after the context does so again, and
    its dropout draws the same numbers. Other backends compile the loss into the training step
    and draw from generators of the model.

    Args:
        model: Compiled model.
        backends: Backends on which copies are made. Defaults to PyTorch alone.
    """
    with attributes_restored() as put:
        if keras.backend.backend() in backends:
            for name in ("_compile_loss", "_compile_metrics"):
                # Set by Keras, the copies would be tracked as metrics of the model.
                put(model, name, _unbuilt_copy(vars(model).get(name)))
        yield


def _unbuilt_copy(part: Any) -> Any:
    if part is None or part.built:
        return part
    if hasattr(part, "_user_loss"):
        given: tuple[Any, ...] = (part._user_loss, part._user_loss_weights, part.reduction)
    else:
        given = part._user_metrics, part._user_weighted_metrics
    return type(part)(*given, output_names=part.output_names)
