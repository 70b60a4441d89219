"""Keeps a model's loss and metrics as they were compiled, on PyTorch."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras


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
    names = ("_compile_loss", "_compile_metrics")
    originals = {name: vars(model).get(name) for name in names}
    if keras.backend.backend() in backends:
        # This goes past `__setattr__`, which would track the copies as metrics of the model.
        vars(model).update({name: _unbuilt_copy(part) for name, part in originals.items()})
    try:
        yield
    finally:
        vars(model).update({name: part for name, part in originals.items() if part is not None})


def _unbuilt_copy(part: Any) -> Any:
    if part is None or part.built:
        return part
    if hasattr(part, "_user_loss"):
        given: tuple[Any, ...] = (part._user_loss, part._user_loss_weights, part.reduction)
    else:
        given = part._user_metrics, part._user_weighted_metrics
    return type(part)(*given, output_names=part.output_names)
