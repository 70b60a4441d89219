"""Numbers of kernels, gradients and updates."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit.statistics.graph import backend_is, cond, groups, in_a_row, matrix


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
        kernel = matrix(kernel, math.prod(kernel.shape[len(rest) :]))
    return _product(_weights(kernel.shape[0]), kernel)[0]


@functools.lru_cache(maxsize=64)
def _weights(count: int) -> npt.NDArray[np.float32]:
    normal = np.random.Generator(np.random.Philox(0)).normal(size=(1, count))
    return normal.astype(np.float32)


def _product(left: npt.NDArray[np.float32], right: Any) -> Any:
    """Of matrices, in float32 also where a GPU would round it more coarsely."""
    if backend_is("torch"):
        import torch

        return torch.from_numpy(left).to(right.device) @ right
    if backend_is("jax"):
        import jax

        return jax.numpy.matmul(left, right, precision="highest")
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return tf.reduce_sum(left.T * right, axis=0, keepdims=True)
    return tf.matmul(left, right)


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


def norms(tensors: Callable[[], Sequence[Any]]) -> tuple[Any, Any]:
    """Roots of the sums of squares, and how many entries are not finite, of each tensor.

    Args:
        tensors: Gives N of any shape, float32. Called again if some need care, as keeping
            the results of an operation would cost more than repeating it.

    Returns:
        Two tensors of shape (N,), float32.
    """
    first = tensors()
    lengths = _plain_lengths(first)
    # No square has over- or underflowed.
    sound = ops.logical_and(ops.min(lengths) > 1e-12, ops.max(lengths) < 1e18)
    sizes = [math.prod(tensor.shape) for tensor in first]

    def closer() -> tuple[Any, Any]:
        again = tensors()
        found = [_closer(again[group]) for group in groups(sizes)]
        return tuple(map(ops.concatenate, zip(*found, strict=True)))

    found, nonfinite = cond(sound, lambda: (lengths, ops.zeros_like(lengths)), closer)
    return found, nonfinite


def _plain_lengths(tensors: Sequence[Any]) -> Any:
    """In one pass, wrong where squares over- or underflow."""
    if backend_is("torch"):
        import torch

        return torch.stack(torch._foreach_norm(list(tensors)))
    if backend_is("tensorflow"):
        import tensorflow as tf

        return tf.sqrt(2 * tf.stack([tf.nn.l2_loss(values) for values in tensors]))
    return ops.stack([ops.norm(ops.reshape(values, (-1,))) for values in tensors])


def _closer(tensors: Sequence[Any]) -> tuple[Any, Any]:
    """Length and count of what is not finite, of entries of any size."""
    if len(tensors) == 1:
        return _closer_at_one(tensors[0])
    flat, own, _ = in_a_row(tensors)
    largest = own.most(ops.abs(flat))
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    lengths = scale * ops.sqrt(own.add(ops.square(flat / own.each(scale))))
    infinite = ops.logical_not(ops.isfinite(flat))
    return lengths, own.add(ops.cast(infinite, "float32"))


def _closer_at_one(values: Any) -> tuple[Any, Any]:
    """The same of a large one, without a copy."""
    largest = ops.max(ops.abs(values))
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    length = scale * ops.sqrt(ops.sum(ops.square(values / scale)))
    infinite = ops.sum(ops.cast(ops.logical_not(ops.isfinite(values)), "float32"))
    return ops.reshape(length, (1,)), ops.reshape(infinite, (1,))
