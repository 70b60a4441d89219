"""The history of a monitor: its records as rows, curves, files and a table."""

import csv
import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.output.history_table import format_html, format_table
from keras_winit.monitor.output.long_format import FIELDS, long_rows
from keras_winit.monitor.output.strict_json import dumps
from keras_winit.monitor.records import Record


class History:
    """All records of a monitor; iterates over rows and prints the last record as a table.

    A row is a mapping with the keys `step`, `layer` (row name of a layer output, name of a
    variable, or "loss"), `call` (number of the layer's call within the step, from 1; 0 for a
    variable or the loss), `statistic` and `value`. A value that is NaN has no row, except for
    the loss: the statistics "nonfinite" and "gradient_nonfinite" count NaN and infinite
    entries. `pandas.DataFrame(history)` works.

    `records` holds a `keras_winit.monitor.Record` for each recorded step. `unseen` maps the
    name of whatever could not be recorded, such as a layer, to the reason. `findings` are the
    `keras_winit.monitor.Findings` of the rules.

    Args:
        keep: Number of records to keep, the latest ones. None: all.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.records: list[Record] = []
        self.unseen: dict[str, str] = {}
        self.findings: Any = ()
        self.keep = keep

    def append(self, record: Record) -> None:
        """Add a record, and drop the oldest if there are more than `keep`."""
        self.records.append(record)
        if self.keep is not None:
            del self.records[: -self.keep]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in self.records:
            for step, name, call, statistic, value in long_rows(record):
                if name is None or not math.isnan(value):
                    row = (step, name or "loss", call or 0, statistic, float(value))
                    yield dict(zip(FIELDS, row, strict=True))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __str__(self) -> str:
        table = format_table(self.records[-1] if self.records else None, self.unseen)
        return f"{table}\n\n{self.findings}" if self.findings else table

    def _repr_html_(self) -> str:
        table = format_html(self.records[-1] if self.records else None, self.unseen)
        return table + (self.findings._repr_html_() if self.findings else "")

    def curve(
        self, layer: str, statistic: str
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the steps and values of one statistic of one layer output or variable.

        Args:
            layer: Row name as in the table, such as "dense", "dense@2" for a second call or
                "dense.pre" for a pre-activation; name of a variable; or "loss".
            statistic: Name of the statistic; "loss" for the loss.

        Returns:
            Two arrays of equal length: the steps, and the value at each of them.

        Raises:
            KeyError: If no record has it.
        """
        points = [(record.step, record.lookup(layer, statistic)) for record in self.records]
        known = [(step, value) for step, value in points if value is not None]
        if not known:
            raise KeyError(
                "`History.curve` needs a statistic that was recorded. "
                f"Received: layer={layer!r}, statistic={statistic!r}."
            )
        steps, values = zip(*known, strict=True)
        return np.array(steps), np.array(values)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write all rows as comma-separated values, with a header.

        Raises:
            OSError: If `path` cannot be written.
        """
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self)

    def to_jsonl(self, path: str | PathLike[str]) -> None:
        """Write one JSON object a row; NaN becomes null, infinities "inf" and "-inf".

        Raises:
            OSError: If `path` cannot be written.
        """
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(dumps(row) + "\n" for row in self)
