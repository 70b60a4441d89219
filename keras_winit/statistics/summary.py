"""What the units of a layer are together: joined on the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_winit.statistics.units import Units

# The cheap ones, in the order of `summary`.
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
    """The statistics of `SUMMARY` for each of L layers, given the units of all in a row.

    On the host and in float64, as it is little work and would be many operations in a
    graph. NaN where no entry of a layer is finite.

    Args:
        units: Float64 arrays of shape (..., P, U) or (..., P, L), a row for each of P lots of
            samples of the same units.
        starts: Where the units of each layer start; each has at least one.

    Returns:
        By name: an array of shape (..., L).
    """
    widths = np.diff([*starts, units.low.shape[-1]])
    count = np.repeat(units.samples, widths, axis=-1) - units.missing
    low, high, total, mean, stddev = _joined(units, count)
    live = total > 0
    dead = live & (high <= 0)
    parts = np.array([total, live, total * mean, stddev, dead])
    with np.errstate(invalid="ignore"):
        number, alive, weighted, deviations, dead_units = np.add.reduceat(parts, starts, axis=-1)
        grand = weighted / number
        apart = mean - np.repeat(grand, widths, axis=-1)
        squares = total * (stddev * stddev + apart * apart)
        spread = np.add.reduceat(squares, starts, axis=-1) / number
        nothing = 0 * grand
        return {
            "mean": grand,
            "stddev": np.sqrt(spread),
            "unit_stddev": deviations / alive,
            "min": np.minimum.reduceat(low, starts, axis=-1) + nothing,
            "max": np.maximum.reduceat(high, starts, axis=-1) + nothing,
            # Of very many, float32 may have counted one too few.
            "zero_share": np.maximum(units.zeros.sum(axis=-2), 0) / number,
            "dead_share": dead_units / alive,
            "dead_units": dead_units,
            "nonfinite": units.nonfinite.sum(axis=-2),
            "norm": np.sqrt(number * (grand * grand + spread)),
        }


def _joined(units: Units, count: Any) -> tuple[Any, ...]:
    """Of units over all lots of samples; mean and standard deviation 0 where there is none."""
    mean = np.where(count > 0, units.low, 0) + 2 * units.rise
    if mean.shape[-2] == 1:
        return tuple(part[..., 0, :] for part in (units.low, units.high, count, mean, units.stddev))
    total = count.sum(axis=-2)
    number = np.maximum(total, 1)
    shared = (count * mean).sum(axis=-2) / number
    square = count * (units.stddev**2 + (mean - shared[..., None, :]) ** 2)
    stddev = np.sqrt(square.sum(axis=-2) / number)
    return units.low.min(axis=-2), units.high.max(axis=-2), total, shared, stddev
