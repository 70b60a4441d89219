"""How the entries of a tensor are spread."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit.statistics.graph import INF, finite

# Ends of the histogram's bins: even in log10 on both sides of a bin around zero.
EDGES = np.concatenate([-np.logspace(3, -4, 22), np.logspace(-4, 3, 22)])


def histogram(values: Any, counts: Any) -> Any:
    """How many finite entries lie in each bin of `EDGES`; the outer two hold what is beyond.

    A bin holds its lower end.
    """
    valid = finite(values, counts)
    inner = ops.convert_to_tensor(EDGES[1:-1], "float32")
    values = ops.reshape(ops.where(valid, values, 0.0), (-1,))
    bins = ops.searchsorted(inner, values, side="right")
    ones = ops.reshape(ops.cast(valid, "float32"), (-1,))
    return ops.segment_sum(ones, bins, num_segments=len(EDGES) - 1)


@functools.lru_cache(maxsize=64)
def _coprime(width: int) -> npt.NDArray[np.int32]:
    """For each remainder the largest number up to it without a divisor in common; or -1."""
    numbers = np.arange(width, dtype=np.int32)
    return np.maximum.accumulate(np.where(np.gcd(numbers, width) == 1, numbers, -1))


def quantiles(values: Any, counts: Any, shares: Sequence[float]) -> Any:
    """Quantiles of the finite entries among at least 512, or among all if there are fewer.

    They lie a fixed number of entries apart that has no divisor in common with the number
    of units, so that every unit has its turn.
    """
    valid = ops.reshape(finite(values, counts), (-1,))
    width = values.shape[-1]
    apart = ops.shape(valid)[0] // 512
    prime = _coprime(width)
    if isinstance(apart, int):
        stride = max(apart // width * width + int(prime[apart % width]), 1)
    else:
        stride = ops.maximum(apart // width * width + ops.take(prime, apart % width), 1)
    chosen, valid = ops.reshape(values, (-1,))[::stride], valid[::stride]
    # One more, as there may be none at all.
    chosen = ops.pad(ops.sort(ops.where(valid, chosen, INF)), [[0, 1]])
    last = ops.sum(ops.cast(valid, "int32")) - 1
    places = ops.convert_to_tensor(shares, "float32") * ops.cast(last, "float32")
    lower = ops.maximum(ops.cast(ops.floor(places), "int32"), 0)
    upper = ops.minimum(lower + 1, ops.maximum(last, 0))
    low, high = ops.take(chosen, lower), ops.take(chosen, upper)
    found = low + (high - low) * (places - ops.cast(lower, "float32"))
    return ops.where(last < 0, float("nan"), found)
