"""Switches off what a backend records for gradients."""

import contextlib
from typing import Any

import keras


def no_gradients() -> contextlib.AbstractContextManager[Any]:
    """Return a context within which nothing is recorded for gradients."""
    if keras.backend.backend() == "torch":
        import torch

        context: contextlib.AbstractContextManager[Any] = torch.no_grad()
        return context
    return contextlib.nullcontext()
