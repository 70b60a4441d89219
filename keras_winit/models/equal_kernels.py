"""Finds kernels that start equal because their initializers draw the same numbers."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_winit.models.kernels import kernel_uses, kernel_variable
from keras_winit.models.variable_values import on_host

layers = keras.layers

# The attributes that hold the initializers of kernels, by the names of the kernels.
INITIALIZERS = {
    "kernel": "kernel_initializer",
    "recurrent_kernel": "recurrent_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
    "embeddings": "embeddings_initializer",
}


def equal_kernels(hidden: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return pairs of layers of one class whose trainable kernels are equal.

    An initializer with an int as its seed draws the same numbers whenever it is called, and one
    without a seed that several layers share does too. Only kernels of such initializers are
    compared; kernels of constants and other schemes that draw nothing are not. Each layer is
    listed at most once as the second of a pair.

    Args:
        hidden: Layers whose output another kernel takes.
    """
    groups: dict[Any, list[tuple[Any, Any]]] = {}
    for layer, initializer, variable in _seeded_kernels(hidden):
        key = (type(layer), tuple(variable.shape), type(initializer), initializer.seed)
        groups.setdefault(key, []).append((layer, variable))
    pairs: dict[int, tuple[Any, Any]] = {}
    for group in groups.values():
        # The first two layers that hold each content: at least one of the two is not the layer
        # that is compared with them.
        holders: dict[bytes, list[Any]] = {}
        for layer, variable in group if len(group) > 1 else ():
            content = _content(on_host(variable))
            known = holders.setdefault(content, []) if content else []
            first = next((holder for holder in known if holder is not layer), None)
            if first is not None:
                pairs.setdefault(id(layer), (first, layer))
            if len(known) < 2 and layer not in known:
                known.append(layer)
    return list(pairs.values())


def _seeded_kernels(hidden: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield layer, initializer and variable of each kernel that a number as a seed decides."""
    seen: set[int] = set()
    for layer in hidden:
        owner = layer.cell if isinstance(layer, layers.RNN) else layer
        for name in kernel_uses(owner) or ():
            initializer = getattr(owner, INITIALIZERS.get(name, ""), None)
            variable = kernel_variable(owner, name)
            is_seeded = type(getattr(initializer, "seed", None)) is int
            is_used = variable is not None and variable.trainable and id(variable) not in seen
            if is_seeded and is_used:
                seen.add(id(variable))
                yield layer, initializer, variable


def _content(kernel: Any) -> bytes:
    """Return a digest of a kernel's entries; empty if they are one constant or not numbers."""
    if not kernel.size or not np.ptp(kernel) > 0:
        return b""
    # Adding zero makes -0 and 0 the same bytes.
    return hashlib.blake2b(np.ascontiguousarray(kernel + 0).tobytes()).digest()
