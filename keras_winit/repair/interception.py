"""Lets layers run otherwise for a while: with another `call` or without their activation."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.src.backend.common.variables import AutocastScope

from keras_winit.models.restored_state import attributes_restored

# Takes the layer's own `call` and the arguments of the call.
Replacement = Callable[..., Any]


@contextlib.contextmanager
def intercepted(replacements: Mapping[Any, Replacement]) -> Iterator[None]:
    """Turn each call of some layers into `replacement(call, *args, **kwargs)`.

    Around it Keras still does all that it does around `call`: it casts, checks and masks.

    Args:
        replacements: Layers that are built, each with what replaces its `call`.
    """
    with attributes_restored() as put:
        for layer, replacement in replacements.items():
            put(layer, "call", _with_own_call(replacement, layer.call))
        yield


@contextlib.contextmanager
def activation_removed(layer: Any) -> Iterator[Any]:
    """Take the activation from a layer, and give it to the body: a function, or None."""
    activation = getattr(layer, "activation", None)
    with attributes_restored() as put:
        put(layer, "activation", None)
        yield activation


def variables_as_stored() -> Any:
    """Return a context in which variables have their own dtype, also within a 16-bit layer.

    Within such a layer Keras gives casts of the variables; on PyTorch it assigns to the cast.
    """
    return AutocastScope(None)


def call_all_times_at_once(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """Call a `TimeDistributed` layer with its times as further samples of the batch."""
    ops, inner = keras.ops, layer.layer
    leading = tuple(ops.shape(inputs)[:2])
    options = {}
    if mask is not None and inner._call_has_mask_arg:
        options["mask"] = ops.reshape(mask, (-1, *mask.shape[2:]))
    if inner._call_has_training_arg:
        options["training"] = training
    outputs = inner.call(ops.reshape(inputs, (-1, *inputs.shape[2:])), **options)
    return ops.reshape(outputs, (*leading, *outputs.shape[1:]))


def _with_own_call(replacement: Replacement, call: Any) -> Replacement:
    return lambda *args, **kwargs: replacement(call, *args, **kwargs)
