"""Euclidean norms of kernels, gradients and updates."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_winit.statistics.graph import backend_is, cond, is_traced_by_jax, traced_once

# The squares of entries between these bounds neither over- nor underflow in a sum.
LEAST, MOST = 1e-12, 1e18

# Factor by which JAX multiplies entries before it squares them. A power of two rounds nothing.
SCALE = 2.0**40


def norms(tensors: Callable[[], Sequence[Any]], careful: bool = False) -> tuple[Any, Any, Any]:
    """Return the Euclidean norm of each tensor and its number of non-finite entries.

    On JAX, norms below 1e-31 may be zero.

    Args:
        tensors: Returns N float32 tensors of any shape. It is called again for the careful
            measure, since keeping the result of an operation costs more than repeating it.
        careful: Whether to take the careful measure at once, which holds for entries whose
            squares leave the range of float32, or that are not finite.

    Returns:
        Two float32 tensors of shape (N,), and a boolean: whether they are exact. If not, the
        careful measure is needed; a function that JAX traces leaves that to the caller, as in
        `join_units`.
    """
    if careful:
        return *_careful_norms(tensors()), True
    quick = tensors()
    lengths = _quick_norms(quick)
    if is_traced_by_jax(lengths):
        return lengths, ops.zeros_like(lengths), ops.all(ops.isfinite(lengths))
    sound = ops.logical_and(lengths > LEAST, lengths < MOST)
    if not backend_is("torch"):
        exact = cond(
            ops.all(sound),
            lambda: (lengths, ops.zeros_like(lengths)),
            lambda: _careful_norms(tensors()),
        )
        return *exact, True
    nonfinite = ops.zeros_like(lengths)
    for index in ops.nonzero(ops.logical_not(sound))[0].tolist():
        lengths[index], nonfinite[index] = _careful_norm(quick[index])
    return lengths, nonfinite, True


def _quick_norms(tensors: Sequence[Any]) -> Any:
    """Return the norms in one pass, wrong where squares over- or underflow."""
    if backend_is("torch"):
        import torch

        return torch.stack(torch._foreach_norm(list(tensors)))
    if backend_is("tensorflow"):
        import tensorflow as tf

        return tf.sqrt(2 * tf.stack([tf.nn.l2_loss(values) for values in tensors]))
    # The factor makes sure that a norm of zero means zeros and no underflow: a second reduction
    # that distinguishes them would double the time to compile.
    groups, squares = _groups_of_equal_length(tensors), []
    for indices in groups:
        stacked = ops.stack([tensors[index] for index in indices])
        axes = tuple(range(1, len(stacked.shape)))
        squares.append(ops.sum(ops.square(SCALE * stacked), axis=axes))
    order = np.argsort(np.concatenate(groups))
    return ops.sqrt(ops.take(ops.concatenate(squares), order)) / SCALE


def _groups_of_equal_length(tensors: Sequence[Any]) -> list[list[int]]:
    """Return groups of indices: vectors of one length together, all other tensors alone.

    XLA compiles one reduction of many vectors far faster than many reductions of one.
    """
    groups: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        is_vector = len(tensor.shape) == 1
        groups.setdefault(tensor.shape[0] if is_vector else (index,), []).append(index)
    return [*groups.values()]


def _careful_norms(tensors: Sequence[Any]) -> tuple[Any, Any]:
    pairs = [_careful_norm(tensor) for tensor in tensors]
    lengths, nonfinite = zip(*pairs, strict=True)
    return ops.stack(lengths), ops.stack(nonfinite)


@traced_once
def _careful_norm(values: Any) -> tuple[Any, Any]:
    largest = ops.max(ops.abs(values))
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    length = scale * ops.sqrt(ops.sum(ops.square(values / scale)))
    is_finite = ops.cast(ops.isfinite(values), "float32")
    return length, ops.sum(1 - is_finite)
