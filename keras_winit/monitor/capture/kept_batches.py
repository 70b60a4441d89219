"""Keeps the batches of a step that is not recorded, and finds NaN and infinities in them."""

import math
import sys
from collections import deque
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.utils import unpack_x_y_sample_weight

from keras_winit.monitor.capture.plan import INPUT, TARGET
from keras_winit.monitor.capture.traces import is_dense

# Name of the sample weights among the data.
WEIGHTS = "sample_weight"

# Kinds of dtypes that have rows in a record, of inputs and of targets.
FLOATS = ("float",)
NUMBERS = ("float", "int", "bool")

# Most columns that are listed.
COLUMNS_LISTED = 5

# Entries of an array to look at together: a whole data set may be large.
CHUNK = 2**24


class KeptBatches:
    """The batches of the last step, kept without a copy and without an effect on the step.

    On TensorFlow the compiled function itself takes the batch out of the data set. A data set
    made of the one batch would take four times as long as a small step, and a function of
    the batch itself would be another one, with other last bits. The arrays given to `fit`, if
    there are any, stand in for the batch.
    """

    possible = keras.backend.backend() != "tensorflow"

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the batches."""
        self._batches: deque[Any] = deque()

    def keep(self, data: Any, count: int) -> Any:
        """Return the data for the model's train function; they are kept when it takes them.

        Args:
            data: Second argument of the train function on JAX, or the first one on torch.
            count: Number of batches that a call takes.
        """
        self._batches = deque(maxlen=count)
        if isinstance(data, tuple | list):
            self._batches += data
            return data
        return kept_when_taken(data, self._batches)

    def take(self) -> list[Any] | None:
        """Return the batches of the last step and forget them; None if they were not kept."""
        batches = list(self._batches) if self.possible else _data_of_fit()
        self.clear()
        return batches or None


def kept_when_taken(data: Iterator[Any], batches: MutableSequence[Any]) -> Iterator[Any]:
    """Yield the batches of some data, and append each to `batches` when it is taken."""
    for batch in data:
        batches.append(batch)
        yield batch


def _data_of_fit() -> list[Any] | None:
    """Return the arrays from which the running `fit` takes its batches; None if there are none."""
    frame = sys._getframe()
    while frame is not None and "epoch_iterator" not in frame.f_locals:
        frame = frame.f_back  # type: ignore[assignment]
    adapter: Any = getattr(frame and frame.f_locals["epoch_iterator"], "data_adapter", None)
    if type(adapter).__name__ != "ArrayDataAdapter":
        # Reading other data again could have side effects, or never end.
        return None
    return [adapter._inputs]


@dataclass(frozen=True)
class NonFiniteData:
    """Values of the data that are NaN or infinite.

    Args:
        name: "input", "target:1" or the like, as in a record; "sample_weight" for the weights.
        count: Number of such values.
        columns: Positions on the last axis that hold them; empty if there is only one axis.
        width: Length of the last axis.
    """

    name: str
    count: int
    columns: tuple[int, ...]
    width: int

    def __str__(self) -> str:
        several = self.count > 1
        values = f"{self.count} NaN or infinite values" if several else "a NaN or infinite value"
        if not self.columns:
            return values
        listed = [str(column) for column in self.columns[:COLUMNS_LISTED]]
        if len(self.columns) > COLUMNS_LISTED:
            listed.append(f"{len(self.columns) - COLUMNS_LISTED} more")
        if len(listed) == 1:
            return f"{values}, in column {listed[0]} of {self.width} (counted from 0)"
        listing = f"{', '.join(listed[:-1])} and {listed[-1]}"
        return f"{values}, in columns {listing} of {self.width} (counted from 0)"


def non_finite_data(batches: Sequence[Any]) -> list[NonFiniteData]:
    """Return the inputs, targets and sample weights that hold values that are not finite."""
    found: dict[str, list[NonFiniteData]] = {}
    for batch in batches:
        x, y, weights = unpack_x_y_sample_weight(batch)
        for kind, data, dtypes in (
            (INPUT, x, FLOATS),
            (TARGET, y, NUMBERS),
            (WEIGHTS, weights, NUMBERS),
        ):
            arrays = [array for array in keras.tree.flatten(data) if _holds(array, dtypes)]
            for position, array in enumerate(arrays):
                name = kind.removeprefix(":") + (f":{position}" if position else "")
                one = _count(name, array)
                if one.count:
                    found.setdefault(name, []).append(one)
    return [_joined_counts(parts) for parts in found.values()]


def _holds(array: Any, dtypes: Sequence[str]) -> bool:
    """Return whether something is a dense array or tensor of one of these kinds of dtypes."""
    if not isinstance(array, np.ndarray) and not (ops.is_tensor(array) and is_dense(array)):
        return False
    dtype = keras.backend.standardize_dtype(array.dtype)
    return len(array.shape) > 0 and any(kind in dtype for kind in dtypes)


def _count(name: str, array: Any) -> NonFiniteData:
    rank, length = len(array.shape), array.shape[0]
    width = array.shape[-1] if rank > 1 else 1
    by_column, rows = np.zeros(width, int), max(CHUNK // max(math.prod(array.shape[1:]), 1), 1)
    for start in range(0, length, rows):
        values = ops.convert_to_numpy(array[start : start + rows])
        by_column += np.sum(~np.isfinite(values).reshape(-1, width), axis=0)
    columns = tuple(np.flatnonzero(by_column).tolist()) if rank > 1 else ()
    return NonFiniteData(name, int(by_column.sum()), columns, width)


def _joined_counts(parts: Sequence[NonFiniteData]) -> NonFiniteData:
    columns = sorted({column for part in parts for column in part.columns})
    count = sum(part.count for part in parts)
    return NonFiniteData(parts[0].name, count, tuple(columns), parts[0].width)
