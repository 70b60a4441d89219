"""Numbers of kernels, gradients and updates."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit.statistics.graph import as_matrix, backend_is, cond, is_traced_by_jax, traced_once

# The squares of entries between these bounds neither over- nor underflow in a sum.
LEAST, MOST = 1e-12, 1e18

# Factor by which JAX multiplies entries before it squares them. A power of two rounds nothing.
SCALE = 2.0**40


def distinct_units(kernel: Any, tolerance: float = 1e-6) -> int:
    """How many columns of a kernel, its units, differ from each other.

    Args:
        kernel: Any shape with the units on the last axis.
        tolerance: Columns are equal if no entry differs by more than this share of the
            kernel's largest entry.
    """
    values = ops.convert_to_numpy(kernel).astype(np.float64)
    columns: npt.NDArray[np.float64] = values.reshape(-1, values.shape[-1]).T
    finite = np.abs(columns[np.isfinite(columns)])
    apart = tolerance * finite.max(initial=0.0)
    count = 0
    while len(columns):
        same = np.isclose(columns, columns[0], rtol=0, atol=apart, equal_nan=True).all(axis=1)
        columns = columns[~same]
        count += 1
    return count


def unit_sums(kernel: Any, unit_axes: Sequence[int]) -> Any:
    """One sum over each unit of a kernel, always with the same random weights.

    Units with equal weights have equal sums, and hardly any others.

    Args:
        kernel: A float32 tensor.
        unit_axes: That tell its units apart.

    Returns:
        A tensor of a number for each of the U units.
    """
    rank, axes = len(kernel.shape), tuple(unit_axes)
    rest = tuple(axis for axis in range(rank) if axis not in axes)
    if rest + axes != tuple(range(rank)):
        kernel = ops.transpose(kernel, rest + axes)
    if rank != 2 or len(axes) != 1:
        kernel = as_matrix(kernel, math.prod(kernel.shape[len(rest) :]))
    return _weighted_sums(_weights(kernel.shape[0]), kernel)


@functools.lru_cache(maxsize=64)
def _weights(count: int) -> npt.NDArray[np.float32]:
    normal = np.random.Generator(np.random.Philox(0)).normal(size=count)
    return normal.astype(np.float32)


def _weighted_sums(weights: npt.NDArray[np.float32], matrix: Any) -> Any:
    """Return `weights @ matrix`, in float32 also where a GPU would round it more coarsely."""
    if backend_is("torch"):
        import torch

        return torch.from_numpy(weights).to(matrix.device) @ matrix
    if backend_is("tensorflow"):
        import tensorflow as tf

        if not tf.config.list_logical_devices("GPU"):
            return tf.matmul(weights[None], matrix)[0]
    # XLA compiles this ten times as fast as a product with a vector.
    return ops.sum(weights[:, None] * matrix, axis=0)


def repeated_share(
    sums: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], norms: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Share of units that are like another one: 1 - (distinct - 1) / (units - 1).

    1 if all are alike, as in a kernel of zeros; NaN if there is just one, or an entry is
    not finite. Two that differ by less than a millionth of the root mean square of the
    kernel's entries count as alike, as would, rarely, two whose sums agree by chance.

    Args:
        sums: What `unit_sums` gave, of one of K kernels after the other, of shape (..., U).
            Sorted in place.
        starts: Where the sums of each kernel start; each has at least one.
        norms: Of each kernel, of shape (..., K).

    Returns:
        An array of shape (..., K).
    """
    ends = [*starts[1:], sums.shape[-1]]
    for start, end in zip(starts, ends, strict=True):
        sums[..., start:end].sort(axis=-1)
    sizes = ends - starts
    alike = np.zeros(sums.shape, bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = np.repeat(1e-6 * norms / np.sqrt(sizes), sizes, axis=-1)
        np.less_equal(np.diff(sums), near[..., 1:], out=alike[..., 1:])
        # The first of a kernel has none before it.
        alike[..., starts] = False
        share = np.add.reduceat(alike, starts, axis=-1, dtype=np.int64) / (sizes - 1)
        known = np.logical_and.reduceat(np.isfinite(sums), starts, axis=-1) & np.isfinite(norms)
    return np.where(known & (sizes > 1), share, np.nan)


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
        return *_careful(tensors()), True
    quick = tensors()
    lengths = _quick_norms(quick)
    if is_traced_by_jax(lengths):
        return lengths, ops.zeros_like(lengths), ops.all(ops.isfinite(lengths))
    sound = ops.logical_and(lengths > LEAST, lengths < MOST)
    if not backend_is("torch"):
        exact = cond(
            ops.all(sound),
            lambda: (lengths, ops.zeros_like(lengths)),
            lambda: _careful(tensors()),
        )
        return *exact, True
    nonfinite = ops.zeros_like(lengths)
    for place in ops.nonzero(ops.logical_not(sound))[0].tolist():
        lengths[place], nonfinite[place] = _careful_norm(quick[place])
    return lengths, nonfinite, True


def _quick_norms(tensors: Sequence[Any]) -> Any:
    """Return the norms in one pass, wrong where squares over- or underflow."""
    if backend_is("torch"):
        import torch

        return torch.stack(torch._foreach_norm(list(tensors)))
    if backend_is("tensorflow"):
        import tensorflow as tf

        return tf.sqrt(2 * tf.stack([tf.nn.l2_loss(values) for values in tensors]))
    # Scaled, because a norm of zero must be one of zeros: a second reduction that tells an
    # underflow from zeros would double the time to compile.
    groups, squares = _alike(tensors), []
    for places in groups:
        stacked = ops.stack([tensors[place] for place in places])
        axes = tuple(range(1, len(stacked.shape)))
        squares.append(ops.sum(ops.square(SCALE * stacked), axis=axes))
    order = np.argsort(np.concatenate(groups))
    return ops.sqrt(ops.take(ops.concatenate(squares), order)) / SCALE


def _alike(tensors: Sequence[Any]) -> list[list[int]]:
    """Return groups of places: vectors of one length together, all other tensors alone.

    XLA compiles one reduction of many vectors far faster than many reductions of one.
    """
    groups: dict[Any, list[int]] = {}
    for place, tensor in enumerate(tensors):
        is_vector = len(tensor.shape) == 1
        groups.setdefault(tensor.shape[0] if is_vector else (place,), []).append(place)
    return [*groups.values()]


def _careful(tensors: Sequence[Any]) -> tuple[Any, Any]:
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
