"""Finds kernels that start equal because their initializers draw the same numbers."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit.models.kernels import kernel_uses, kernel_variable

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
        if len(group) > 1:
            values = [(layer, ops.convert_to_numpy(variable)) for layer, variable in group]
            for (first, one), (second, other) in itertools.combinations(values, 2):
                if first is not second and _are_equal(one, other):
                    pairs.setdefault(id(second), (first, second))
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


def _are_equal(one: Any, other: Any) -> bool:
    """Return whether two kernels have the same entries, and not one constant."""
    return bool(np.array_equal(one, other) and one.size and np.ptp(one) > 0)
