"""A table of the weights of a model that a function set or left, and why."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_winit.models.variable_values import is_spread, spread_stddev

# Entries that `stddev` reads at once.
PIECE = 1 << 16

COLUMNS = ("layer", "weight", "change", "stddev before", "after", "reason")


@dataclass(frozen=True)
class Change:
    """A weight that a function set or left, with the reason.

    Args:
        layer: Name of the layer, see `Names`.
        weight: Name of the weight within the layer, such as "kernel" or "query/kernel".
        change: The scheme that drew the weight, or the factor that scaled it, such as "x 1.3".
            Empty if the weight was left as it was.
        reason: Why the weight was set so, or why it was left, in a few words.
        stddev_before: Standard deviation of its entries before. None if it was not measured.
        stddev_after: Standard deviation of its entries after. None if it was not measured.
    """

    layer: str
    weight: str
    change: str = ""
    reason: str = ""
    stddev_before: float | None = None
    stddev_after: float | None = None

    @property
    def was_set(self) -> bool:
        """Whether the weight was set; if not, it was left as it was."""
        return bool(self.change)

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the row, one for each of `COLUMNS`."""
        before, after = (
            "" if value is None else f"{value:.4g}"
            for value in (self.stddev_before, self.stddev_after if self.was_set else None)
        )
        return (self.layer, self.weight, self.change or "left", before, after, self.reason)


class Changes:
    """The weights of a model, each with what became of it; prints as a table.

    Args:
        function: Name of the public function that made the changes, such as "reinitialize".
        rows: One row for each weight, in the order of the model.
        notes: Sentences about the model as a whole, printed below the table. Defaults to none.
    """

    def __init__(self, function: str, rows: Sequence[Change], notes: Sequence[str] = ()) -> None:
        self.function = function
        self.rows = tuple(rows)
        self.notes = tuple(notes)

    @property
    def title(self) -> str:
        """The number of weights that were set, and of those that were left."""
        count = sum(row.was_set for row in self.rows)
        noun = "weight" if len(self.rows) == 1 else "weights"
        return f"{self.function}: {count} of {len(self.rows)} {noun} set"

    def __str__(self) -> str:
        """Format the title, a line for each weight, and the notes."""
        table = [COLUMNS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        right = [name in ("stddev before", "after") for name in COLUMNS]
        lines = [
            "  ".join(
                cell.rjust(width) if to_the_right else cell.ljust(width)
                for cell, width, to_the_right in zip(cells, widths, right, strict=True)
            ).rstrip()
            for cells in table
        ]
        return "\n".join([self.title, *lines, *self.notes])

    def __repr__(self) -> str:
        return f"<Changes: {self.title}>"

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()) + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<p>{html.escape(self.title)}</p><table><tr>{head}</tr>{body}</table>{notes}"


def stddev(variable: Any) -> float | None:
    """Return the standard deviation of the entries of a variable, for a `Change`.

    The result is None for a variable without entries or with entries that are not real numbers.
    """
    if is_spread(variable.value):
        return spread_stddev(variable.value)
    values = keras.ops.convert_to_numpy(variable)
    if values.size == 0 or keras.backend.standardize_dtype(variable.dtype) in ("bool", "string"):
        return None
    # Float64 in pieces that fit a cache, relative to the first entry, so that constants give 0.
    flat = values.reshape(-1)
    first, total, squares = np.float64(flat[0]), 0.0, 0.0
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, PIECE):
            piece = flat[start : start + PIECE].astype(np.float64) - first
            total += float(piece.sum())
            squares += float(piece @ piece)
    return math.sqrt(max(squares / flat.size - (total / flat.size) ** 2, 0.0))
