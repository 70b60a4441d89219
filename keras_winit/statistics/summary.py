"""Layer statistics, aggregated from the statistics of units on the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_winit.statistics.units import Units

# Statistics that cost little, in the order of `summary`.
SUMMARY = (
    "mean",
    "stddev",
    "unit_stddev",
    "min",
    "max",
    "zero_share",
    "dead_share",
    "dead_units",
    "nonfinite",
    "norm",
)


def summary(units: Units, starts: Sequence[int] = (0,)) -> dict[str, Any]:
    """Return the statistics of `SUMMARY` for each of L layers.

    They are computed on the host in float64: it is little work, which would take many
    operations in a graph.

    Args:
        units: Joined units of all layers, one layer after the other: float64 arrays of shape
            (..., P, U) or (..., P, L) with a row for each of P parts of the batch, which hold
            different samples of the same units.
        starts: Index of each layer's first unit, of length L. Every layer has at least one unit.

    Returns:
        A dictionary from the name of each statistic to an array of shape (..., L). NaN where
        a layer has no finite entry; the counts `dead_units` and `nonfinite` are never NaN.
    """
    widths = np.diff([*starts, units.low.shape[-1]])
    counts = np.repeat(units.samples, widths, axis=-1) - units.missing
    low, high, counts, mean, stddev = _merge_parts(units, counts)
    is_live = counts > 0
    is_dead = is_live & (high <= 0)
    columns = np.array([counts, is_live, counts * mean, stddev, is_dead])
    with np.errstate(invalid="ignore"):
        entries, live_units, sums, stddev_sums, dead_units = np.add.reduceat(
            columns, starts, axis=-1
        )
        layer_mean = sums / entries
        deviation = mean - np.repeat(layer_mean, widths, axis=-1)
        squares = counts * (stddev * stddev + deviation * deviation)
        variance = np.add.reduceat(squares, starts, axis=-1) / entries
        nan_if_empty = 0 * layer_mean
        return {
            "mean": layer_mean,
            "stddev": np.sqrt(variance),
            "unit_stddev": stddev_sums / live_units,
            "min": np.minimum.reduceat(low, starts, axis=-1) + nan_if_empty,
            "max": np.maximum.reduceat(high, starts, axis=-1) + nan_if_empty,
            # The number of zeros is a difference of float32 counts, which may be -1.
            "zero_share": np.maximum(units.zeros.sum(axis=-2), 0) / entries,
            "dead_share": dead_units / live_units,
            "dead_units": dead_units,
            "nonfinite": units.nonfinite.sum(axis=-2),
            "norm": np.sqrt(entries * (layer_mean * layer_mean + variance)),
        }


def _merge_parts(units: Units, counts: Any) -> tuple[Any, ...]:
    """Return low, high, count, mean and stddev of each unit over all parts of the batch.

    The mean and the standard deviation of a unit without finite entries are 0.
    """
    means = np.where(counts > 0, units.low, 0) + 2 * units.rise
    if means.shape[-2] == 1:
        columns = (units.low, units.high, counts, means, units.stddev)
        return tuple(column[..., 0, :] for column in columns)
    count = counts.sum(axis=-2)
    divisor = np.maximum(count, 1)
    mean = (counts * means).sum(axis=-2) / divisor
    squares = counts * (units.stddev**2 + (means - mean[..., None, :]) ** 2)
    stddev = np.sqrt(squares.sum(axis=-2) / divisor)
    return units.low.min(axis=-2), units.high.max(axis=-2), count, mean, stddev
