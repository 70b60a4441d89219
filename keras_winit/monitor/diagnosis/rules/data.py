"""Rule on the size of the data that reaches the first kernels."""

import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import COMPILE, STANDARDIZE, array_code
from keras_winit.monitor.diagnosis.rules.run_view import Row, View

STATISTICS = ("mean", "stddev", "min", "max")

# The name of the inputs in code that stands in a remedy.
CODE_X = r"\bx\b"
ALL_ZERO = "see how the data are read: `print(np.abs(x).max(axis=0))`"

# Layers that scale the data, and layers that make the scale before them unimportant.
RESCALING = "Rescaling"
NORMALIZING = ("Normalization", "BatchNormalization", "LayerNormalization")


@dataclass(frozen=True)
class InputScale(Rule):
    """Reports inputs far from zero mean and unit variance."""

    id = "input_scale"
    predicate = "has data far from mean 0 and standard deviation 1"
    severity = "info"
    statistic = "mean, stddev, min, max"
    fires = (
        "the root mean square of an input, over the records so far, exceeds the threshold, a "
        "warning above 30; or, over 3 records, its |mean| exceeds 5 and 3 standard deviations, or "
        "its largest size is below 1 / 10, a warning below 1 / 30"
    )
    applies = (
        "inputs of models in which a kernel takes an input without normalization, and what a "
        "`Rescaling` layer makes of them; not what an embedding looks up"
    )
    healthy = "root mean square near 1"
    cause = "the inputs are far from mean 0 and standard deviation 1, like pixels from 0 to 255"
    remedy = f"scale the data: `{STANDARDIZE}`, or begin the model with a Normalization layer"
    origin = (
        "theory: inputs of size s allow a learning rate 1 / s**2 times as high, 1 / 100 for 10 "
        "and 1 / 1000 for 30; sorted rows of standardized data have |mean| < 5 in every batch"
    )
    threshold: float = 10.0
    warns: float = 30.0
    offset: float = 3.0
    least_mean: float = 5.0
    offset_persistence: int = 3

    def check(self, view: View) -> Iterator[Violation]:
        raw = [part for part in view.model.parts.values() if part.takes_raw_input]
        looks_up = any(part.is_embedding for part in raw)
        rows = [row for row in view.inputs if not (looks_up and _may_be_indices(row))]
        rows = [] if all(part.is_embedding for part in raw) else rows
        for row in (*rows, *_rescaled(view)):
            data = _pooled(view, row)
            violation = self._check_size(view, row, data) or self._check_smallness(
                view, row, data, rows
            )
            if violation is not None:
                yield violation

    def _check_size(self, view: View, row: Row, data: "_Data") -> Violation | None:
        size = math.hypot(data.mean, data.stddev)
        is_large = size > self.threshold
        if not is_large and not abs(data.mean) > max(self.least_mean, self.offset * data.stddev):
            return None
        cause = (
            f"{_subject(row)} mean {data.mean:.3g} and standard deviation {data.stddev:.3g}; "
            "initializers expect about 0 and 1"
        )
        return Violation(
            row.layer,
            size,
            row.order,
            threshold=self.threshold if is_large else self.least_mean,
            severity="warning" if size > self.warns else None,
            persistence=None if is_large else self.offset_persistence,
            cause=cause,
            remedy=_remedy(view, row),
        )

    def _check_smallness(
        self, view: View, row: Row, data: "_Data", rows: Sequence[Row]
    ) -> Violation | None:
        if not data.peak < 1 / self.threshold:
            return None
        # An input of zeros beside other inputs is a state that starts at zero on purpose.
        chosen = data.peak == 0 and any(other["max"] != other["min"] for other in rows)
        is_tiny = data.peak < 1 / self.warns and not chosen
        shown = "are all zero" if data.peak == 0 else f"do not exceed {data.peak:.2g} in size"
        return Violation(
            row.layer,
            data.peak,
            row.order,
            threshold=1 / self.threshold,
            severity="warning" if is_tiny else None,
            persistence=self.offset_persistence,
            cause=f"{_subject(row, '')} {shown}; initializers expect a standard deviation of 1",
            remedy=ALL_ZERO if data.peak == 0 else _remedy(view, row),
        )


def _remedy(view: View, row: Row) -> str | None:
    """Return the remedy for an input that has a number, or for a layer that scales the data."""
    if row.part is not None:
        codes = {} if view.model.setup is None else view.model.setup.codes
        code = codes.get(row.layer)
        scale = f": `{code}.scale = 1.0` and {COMPILE}" if code else ""
        return f"let layer {row.layer!r} not scale the data again{scale}"
    array = array_code(row.layer)
    return None if array == "x" else f"scale the data: `{re.sub(CODE_X, array, STANDARDIZE)}`"


class _Data(NamedTuple):
    """Moments of some data over the records, since one batch may be sorted.

    `peak` is the largest absolute value. All three are NaN if nothing finite was recorded.
    """

    mean: float
    stddev: float
    peak: float


def _pooled(view: View, row: Row) -> _Data:
    values = _recorded(view, row)
    values = values[np.isfinite(values[:, :2]).all(axis=1)]
    if not len(values):
        return _Data(math.nan, math.nan, math.nan)
    means, stddevs, *ends = values.T
    variance = float(np.mean(stddevs**2) + np.var(means))
    return _Data(float(means.mean()), math.sqrt(variance), float(np.abs(ends).max()))


def _recorded(view: View, row: Row) -> npt.NDArray[np.float64]:
    """Return mean, standard deviation, least and largest value by record, in four columns.

    A statistic that was not recorded is NaN. For a layer that scales the data, only the last
    record counts.
    """
    if row.part is not None:
        return np.array([[row[name] for name in STATISTICS]])
    found = [
        np.append(record.input_values[record.inputs.index(row.layer)], math.nan)[
            _places(record.statistics)
        ]
        for record in view.records
        if row.layer in record.inputs
    ]
    return np.array(found, np.float64).reshape(-1, len(STATISTICS))


@functools.lru_cache(maxsize=8)
def _places(statistics: tuple[str, ...]) -> list[int]:
    """Return the places of the statistics that the rule needs; -1 for one not recorded."""
    return [statistics.index(name) if name in statistics else -1 for name in STATISTICS]


def _rescaled(view: View) -> list[Row]:
    """Return the output of the last `Rescaling` before the first kernel, if it goes into one."""
    last: list[Row] = []
    for row in view.rows:
        kind = "" if row.part is None else row.part.kind
        if kind == RESCALING:
            last = [row]
        elif kind in NORMALIZING:
            return []
        elif row.part is not None and row.part.kernels:
            return last
    return []


def _subject(row: Row, verb: str = " have") -> str:
    if row.part is None:
        return f"the data of {row.layer!r}{verb}"
    return f"the outputs of layer {row.layer!r}, which scales the data,{verb}"


def _may_be_indices(row: Row) -> bool:
    """Return whether an input may hold rows of an embedding, which are looked up by number."""
    return row["min"] >= 0 and row["min"].is_integer() and row["max"].is_integer()
