"""Unit and layer statistics of arrays, measured as carefully as the arrays need."""

import keras
import numpy as np
from support.laws import numpy

from keras_winit import statistics


def join_exactly(matrices, per_row=1):
    """Reduce and join results of `flatten`, by the careful measure if the quick one is invalid."""
    for careful in (False, True):
        parts = [statistics.reduce_units(*matrix, per_row, careful) for matrix in matrices]
        parts.sort(key=lambda part: not isinstance(part, statistics.Moments))
        joined, sound = statistics.join_units(parts)
        if sound:
            return joined
    raise AssertionError("the careful measure always holds")


def on_host(units):
    """Return units as float64 arrays, with a first axis for a single part of the batch."""
    return statistics.Units(*(numpy(field)[None].astype(np.float64) for field in units))


def units_of(*layers, **options):
    """Return the joined units of several layer outputs, given as arrays."""
    tensors = [keras.ops.convert_to_tensor(values, "float32") for values in layers]
    return on_host(join_exactly([statistics.flatten(tensor, **options) for tensor in tensors]))


def summary_of_parts(*parts):
    """Return the statistics of one layer whose samples are in several parts."""
    units = statistics.Units(*map(np.concatenate, zip(*parts, strict=True)))
    return {name: float(value[0]) for name, value in statistics.summary(units).items()}


def summary_of(values, **options):
    """Return the statistics of one layer output, given as an array."""
    return summary_of_parts(units_of(values, **options))
