"""Statistics of the samples of a batch: how much alike a layer's outputs for them are."""

import math
from typing import Any

from keras import ops

from keras_winit.statistics.graph import float32

# The cosine is taken over at most about this many entries of a sample: of random ones, its
# standard error is then 0.004.
MOST_ENTRIES = 2**16


def mean_cosine(values: Any) -> Any:
    """Return the mean cosine between the outputs for two different samples.

    It is 1 if the outputs for all samples point the same way. Samples whose outputs are all
    zero are left out. Of many entries a subset counts, evenly spaced over all units.

    Args:
        values: Tensor with the samples on the first axis.

    Returns:
        A float32 scalar: NaN with fewer than two samples, or if a value is not finite.
    """
    samples = ops.shape(values)[0]
    rows = ops.reshape(values, (samples, -1))
    rows = float32(rows[:, :: _spacing(tuple(values.shape[1:]))])
    # The division by the largest entry comes first: the squares of tiny entries would be zero.
    largest = ops.max(ops.abs(rows), axis=1, keepdims=True)
    rows = rows / ops.where(largest > 0, largest, 1.0)
    lengths = ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))
    directions = rows / ops.where(lengths > 0, lengths, 1.0)
    count = ops.sum(ops.cast(lengths != 0, "float32"))
    # The squared length of the sum holds the cosines of all pairs, and a 1 for each sample.
    cosines = ops.sum(ops.square(ops.sum(directions, axis=0))) - count
    pairs = count * (count - 1)
    return ops.where(pairs > 0, cosines / ops.where(pairs > 0, pairs, 1.0), float("nan"))


def _spacing(shape: tuple[int | None, ...]) -> int:
    """Return the distance of the entries to take, without a common divisor with any axis."""
    sizes = [size for size in shape if size is not None]
    spacing = math.prod(sizes) // MOST_ENTRIES
    while spacing > 1 and any(math.gcd(spacing, size) > 1 for size in sizes):
        spacing += 1
    return max(spacing, 1)
