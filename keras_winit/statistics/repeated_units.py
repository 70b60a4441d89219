"""Finds units of a kernel that are equal, and stay equal in training because of it."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit.statistics.graph import as_matrix, backend_is


def distinct_units(kernel: Any, tolerance: float = 1e-6) -> int:
    """Return the number of different units of a kernel.

    Args:
        kernel: Tensor of any shape with the units on the last axis.
        tolerance: Units are equal if no weight differs by more than this share of the
            kernel's largest absolute weight. Defaults to 1e-6.
    """
    values = ops.convert_to_numpy(kernel).astype(np.float64)
    units: npt.NDArray[np.float64] = values.reshape(-1, values.shape[-1]).T
    finite = np.abs(units[np.isfinite(units)])
    atol = tolerance * finite.max(initial=0.0)
    count = 0
    while len(units):
        equal = np.isclose(units, units[0], rtol=0, atol=atol, equal_nan=True).all(axis=1)
        units = units[~equal]
        count += 1
    return count


def unit_sums(kernel: Any, unit_axes: Sequence[int]) -> Any:
    """Return for each unit the sum of its weights times fixed random factors.

    Units with equal weights have equal sums; other units hardly ever do.

    Args:
        kernel: Float32 tensor.
        unit_axes: Axes that tell the units apart.

    Returns:
        A float32 tensor of shape (U,), for U units.
    """
    rank, unit_axes = len(kernel.shape), tuple(unit_axes)
    weight_axes = tuple(axis for axis in range(rank) if axis not in unit_axes)
    if weight_axes + unit_axes != tuple(range(rank)):
        kernel = ops.transpose(kernel, weight_axes + unit_axes)
    if rank != 2 or len(unit_axes) != 1:
        kernel = as_matrix(kernel, math.prod(kernel.shape[len(weight_axes) :]))
    return _product(_random_factors(kernel.shape[0]), kernel)


@functools.lru_cache(maxsize=64)
def _random_factors(count: int) -> npt.NDArray[np.float32]:
    normal = np.random.Generator(np.random.Philox(0)).normal(size=count)
    return normal.astype(np.float32)


def _product(vector: npt.NDArray[np.float32], matrix: Any) -> Any:
    """Return `vector @ matrix`, in float32 also where a GPU would round it more coarsely."""
    if backend_is("torch"):
        import torch

        return torch.from_numpy(vector).to(matrix.device) @ matrix
    if backend_is("tensorflow"):
        import tensorflow as tf

        if not tf.config.list_logical_devices("GPU"):
            return tf.matmul(vector[None], matrix)[0]
    # XLA compiles this ten times as fast as a product with a vector.
    return ops.sum(vector[:, None] * matrix, axis=0)


def repeated_share(
    sums: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], norms: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return the share of repeated units in each of K kernels: 1 - (distinct - 1) / (units - 1).

    The share is 1 if all units are equal, as in a kernel of zeros, and 0 if all differ. Units
    count as equal if their sums differ by at most 1e-6 * norm / sqrt(units), which rarely
    happens by chance.

    Args:
        sums: Results of `unit_sums`, one kernel after the other, of shape (..., U). They are
            sorted in place.
        starts: Index of each kernel's first sum, of length K. Every kernel has at least one.
        norms: Euclidean norm of each kernel, of shape (..., K).

    Returns:
        An array of shape (..., K). NaN for a kernel with a single unit or with a weight that
        is not finite.
    """
    ends = [*starts[1:], sums.shape[-1]]
    for start, end in zip(starts, ends, strict=True):
        sums[..., start:end].sort(axis=-1)
    sizes = ends - starts
    is_repeated = np.zeros(sums.shape, bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        tolerance = np.repeat(1e-6 * norms / np.sqrt(sizes), sizes, axis=-1)
        np.less_equal(np.diff(sums), tolerance[..., 1:], out=is_repeated[..., 1:])
        # The sum before the first sum of a kernel belongs to another kernel.
        is_repeated[..., starts] = False
        share = np.add.reduceat(is_repeated, starts, axis=-1, dtype=np.int64) / (sizes - 1)
        known = np.logical_and.reduceat(np.isfinite(sums), starts, axis=-1) & np.isfinite(norms)
    return np.where(known & (sizes > 1), share, np.nan)
