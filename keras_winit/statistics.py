"""Numbers of one tensor: what a layer's output or kernel looks like."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

# An entry is saturated where the activation is flatter than this share of its steepest.
FLAT = 0.05


def mean_stddev(values: Any) -> tuple[Any, Any]:
    """Mean and population standard deviation over all entries, in float32 and two passes."""
    values, scale = _scaled(values)
    mean = ops.mean(values)
    return scale * mean, scale * ops.sqrt(ops.mean(ops.square(values - mean)))


def unit_stddev(values: Any) -> Any:
    """Standard deviation of each unit over the samples, averaged over the units.

    The part of the signal that tells one input from another. Units lie on the last axis.
    """
    values, scale = _scaled(ops.reshape(values, (-1, values.shape[-1])))
    centered = values - ops.mean(values, axis=0)
    return scale * ops.mean(ops.sqrt(ops.mean(ops.square(centered), axis=0)))


def _scaled(values: Any) -> tuple[Any, Any]:
    """Values with a largest entry of 1, whose squares neither over- nor underflow."""
    values = ops.cast(values, "float32")
    largest = ops.max(ops.abs(values))
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    return values / scale, scale


def dead_share(values: Any) -> Any:
    """Share of units, on the last axis, that are exactly zero for every sample."""
    values = ops.reshape(values, (-1, values.shape[-1]))
    return ops.mean(ops.cast(ops.all(values == 0, axis=0), "float32"))


def saturated_share(pre_activations: Any, activation: Callable[[Any], Any]) -> Any:
    """Share of entries where the activation is flat: below 5 % of its steepest on [-8, 8].

    Entries that come out as `activation(0)` do not count: there a rectifier is off, which
    `dead_share` tells, and not saturated. The activation must act on each entry by itself.
    """
    z = ops.cast(pre_activations, "float32")
    flat = _slope(activation, z) < FLAT * _steepest(activation)
    rest = activation(ops.zeros((), "float32"))
    return ops.mean(ops.cast(ops.logical_and(flat, activation(z) != rest), "float32"))


def _slope(activation: Callable[[Any], Any], z: Any) -> Any:
    """Between two neighbours of z that float32 can still tell apart."""
    step = 1e-3 * ops.maximum(ops.abs(z), 1.0)
    low, high = z - step, z + step
    return ops.abs(activation(high) - activation(low)) / (high - low)


def _steepest(activation: Callable[[Any], Any]) -> Any:
    return ops.max(_slope(activation, ops.linspace(-8.0, 8.0, 1601, dtype="float32")))


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
