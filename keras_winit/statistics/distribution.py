"""Histograms and quantiles of a layer's output."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit.statistics.graph import INF, finite

# Edges of the histogram's bins: equal steps in log10 on both sides of one bin around zero.
EDGES = np.concatenate([-np.logspace(3, -4, 22), np.logspace(-4, 3, 22)])


def histogram(values: Any, counts: Any) -> Any:
    """Return the number of finite entries in each bin between two neighbors of `EDGES`.

    A bin includes its lower edge. The first and the last bin also count entries beyond them.

    Args:
        values: Float32 tensor of shape (samples, units), as from `flatten`.
        counts: Boolean tensor of the same shape: which entries count. None: all.

    Returns:
        A float32 tensor with an entry for each of the `len(EDGES) - 1` bins.
    """
    valid = finite(values, counts)
    inner_edges = ops.convert_to_tensor(EDGES[1:-1], "float32")
    values = ops.reshape(ops.where(valid, values, 0.0), (-1,))
    bins = ops.searchsorted(inner_edges, values, side="right")
    ones = ops.reshape(ops.cast(valid, "float32"), (-1,))
    return ops.segment_sum(ones, bins, num_segments=len(EDGES) - 1)


@functools.lru_cache(maxsize=64)
def _largest_coprimes(width: int) -> npt.NDArray[np.int32]:
    """Return for each n < width the largest number in [0, n] coprime to width; -1 if none is."""
    numbers = np.arange(width, dtype=np.int32)
    return np.maximum.accumulate(np.where(np.gcd(numbers, width) == 1, numbers, -1))


def quantiles(values: Any, counts: Any, shares: Sequence[float]) -> Any:
    """Return quantiles of the finite entries of a subset of at least 512 entries.

    The subset is all entries if there are fewer. Otherwise its entries lie a fixed number of
    entries apart, which is coprime to the number of units, so that the subset contains entries
    of every unit.

    Args:
        values: Float32 tensor of shape (samples, units), as from `flatten`.
        counts: Boolean tensor of the same shape: which entries count. None: all.
        shares: Q shares in [0, 1], such as 0.5 for the median.

    Returns:
        A float32 tensor of shape (Q,); NaN if no entry of the subset is finite.
    """
    valid = ops.reshape(finite(values, counts), (-1,))
    width = values.shape[-1]
    spacing = ops.shape(valid)[0] // 512
    # A multiple of the width, plus a number that is coprime to it.
    coprimes = _largest_coprimes(width)
    if isinstance(spacing, int):
        stride = max(spacing // width * width + int(coprimes[spacing % width]), 1)
    else:
        remainder = ops.take(coprimes, spacing % width)
        stride = ops.maximum(spacing // width * width + remainder, 1)
    subset, valid = ops.reshape(values, (-1,))[::stride], valid[::stride]
    # The padding is there because an empty tensor has no first entry to take.
    ascending = ops.pad(ops.sort(ops.where(valid, subset, INF)), [[0, 1]])
    last = ops.sum(ops.cast(valid, "int32")) - 1
    positions = ops.convert_to_tensor(shares, "float32") * ops.cast(last, "float32")
    lower = ops.maximum(ops.cast(ops.floor(positions), "int32"), 0)
    upper = ops.minimum(lower + 1, ops.maximum(last, 0))
    low, high = ops.take(ascending, lower), ops.take(ascending, upper)
    interpolated = low + (high - low) * (positions - ops.cast(lower, "float32"))
    return ops.where(last < 0, float("nan"), interpolated)
