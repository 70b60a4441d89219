"""What was measured so far: as rows, as curves, as a table."""

import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.diagnosis.findings import shortened
from keras_winit.monitor.output.strict_json import dumps
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_before, split_call

FIELDS = ("step", "layer", "call", "statistic", "value")

# Of the table: statistic, heading, format.
COLUMNS = (
    ("mean", "mean", "10.3g"),
    ("stddev", "stddev", "10.3g"),
    ("unit_stddev", "unit stddev", "12.3g"),
    ("zero_share", "zero", "7.1%"),
    ("dead_share", "dead", "7.1%"),
    ("saturated_share", "saturated", "10.1%"),
    ("nonfinite", "nonfinite", "10.0f"),
)
VARIABLE_COLUMNS = (
    ("gradient_norm", "gradient", "10.3g"),
    ("update_ratio", "update/weight", "14.2g"),
)


# The longest name that the table shows whole.
NAME = 60


class History:
    """Everything that a monitor measured; iterates over rows and prints as a table.

    A row is a mapping: `step`, `layer` (or the name of a variable, or "loss"), `call`
    (1 for the first call of a layer in a step, 0 for what is not a layer), `statistic`,
    `value`. What does not apply to a layer, or is NaN, has no row, but for the loss; of what
    is not finite "nonfinite" and "gradient_nonfinite" tell. `pandas.DataFrame(history)` works.

    `records` holds one for each step that was watched, `unseen` what could not be seen, and
    why, `findings` what the rules found, see `keras_winit.monitor.Findings`.

    Args:
        keep: How many records to hold, the last ones. None: all.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.records: list[Record] = []
        self.unseen: dict[str, str] = {}
        self.findings: tuple[Any, ...] = ()
        self.keep = keep

    def append(self, record: Record) -> None:
        """Take one more record."""
        self.records.append(record)
        if self.keep is not None:
            del self.records[: -self.keep]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in self.records:
            yield from _rows(record)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __str__(self) -> str:
        shown = table(self.records[-1] if self.records else None, self.unseen)
        return f"{shown}\n\n{self.findings}" if self.findings else shown

    def curve(
        self, layer: str, statistic: str
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values of one statistic of one layer or variable.

        Args:
            layer: As in the table: a second call is `name@2`, a pre-activation `name.pre`.
            statistic: Its name.

        Raises:
            KeyError: If no step has it.
        """
        steps, values = [], []
        for record in self.records:
            value = _value(record, layer, statistic)
            if value is not None:
                steps.append(record.step)
                values.append(value)
        if not steps:
            raise KeyError(f"no step has {statistic!r} of {layer!r}")
        return np.array(steps), np.array(values)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write all rows as comma-separated values, with a header."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self)

    def to_jsonl(self, path: str | PathLike[str]) -> None:
        """Write each row as a JSON object on a line; NaN as null, infinities as "inf", "-inf"."""
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(dumps(row) + "\n" for row in self)


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    def row(layer: str, call: int, statistic: str, value: float) -> dict[str, Any]:
        return dict(zip(FIELDS, (record.step, layer, call, statistic, float(value)), strict=True))

    if record.loss is not None:
        yield row("loss", 0, "loss", record.loss)
    for site, values in zip(record.layers, record.values, strict=True):
        layer, call = split_call(site)
        for name, value in zip(record.statistics, values, strict=True):
            if not math.isnan(value):
                yield row(layer, call, name, value)
    for path, values in zip(record.variables, record.variable_values, strict=True):
        for name, value in zip(record.variable_statistics, values, strict=True):
            if not math.isnan(value):
                yield row(path, 0, name, value)


def _value(record: Record, layer: str, statistic: str) -> float | None:
    if layer in record.layers and statistic in record.statistics:
        place = record.layers.index(layer), record.statistics.index(statistic)
        return float(record.values[place])
    if layer in record.variables and statistic in record.variable_statistics:
        place = record.variables.index(layer), record.variable_statistics.index(statistic)
        return float(record.variable_values[place])
    return record.loss if layer == statistic == "loss" else None


def table(record: Record | None, unseen: dict[str, str]) -> str:
    """One line a layer, with the gradient and the update of its first variable.

    Where nothing was measured of layers: one line a variable.
    """
    if record is None:
        return "\n".join(["nothing was measured yet", *_notes(unseen)])
    columns = _columns(COLUMNS, record.statistics)
    if not np.any(record.values[:, [n == "nonfinite" for n in record.statistics]] > 0):
        columns = [column for column in columns if column[0] != "nonfinite"]
    rest = _columns(VARIABLE_COLUMNS, record.variable_statistics)
    sites = [site for site in record.layers if not is_before(site)]
    variables = _first_variables(record)
    if not sites:
        sites, columns = [*record.variables], []
        variables = dict(zip(sites, sites, strict=True))
    names = [shortened(site, NAME) for site in sites]
    head = "layer" if record.layers else "variable"
    width = max(map(len, [head, *names]))
    loss = "" if record.loss is None else f", loss {record.loss:.4g}"
    heads = "".join(f"{head:>{_width(form)}}" for _, head, form in columns + rest)
    lines = [f"step {record.step}{loss}", f"{head:{width}}{heads}"]
    for site, name in zip(sites, names, strict=True):
        cells = [_cell(_value(record, site, column), form) for column, _, form in columns]
        cells += _variable_cells(record, variables.get(site, ""), rest)
        lines.append(f"{name:{width}}{''.join(cells)}")
    return "\n".join([*lines, *_notes(unseen)])


def _variable_cells(
    record: Record, variable: str, columns: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    # A gradient without a norm is one that is not finite, or none at all.
    broken = (_value(record, variable, "gradient_nonfinite") or 0) > 0
    for name, _, form in columns:
        cell = _cell(_value(record, variable, name), form)
        lost = broken and name == "gradient_norm" and cell.strip() == "-"
        yield f"{'nan':>{_width(form)}}" if lost else cell


def _columns(
    usual: Sequence[tuple[str, str, str]], found: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Of the usual ones those that were measured; if it was none of them, all."""
    chosen = [column for column in usual if column[0] in found]
    return chosen or [(name, name, f"{max(len(name) + 2, 10)}.3g") for name in found]


def _notes(unseen: dict[str, str]) -> list[str]:
    return [f"{shortened(name, NAME)}: not seen, {reason}" for name, reason in unseen.items()]


def _width(form: str) -> int:
    return int(form.partition(".")[0]) + 1


def _cell(value: float | None, form: str) -> str:
    text = "-" if value is None or math.isnan(value) else f"{value:{form}}".strip()
    return f"{text:>{_width(form)}}"


def _first_variables(record: Record) -> dict[str, str]:
    """Of each site the first variable that lies in no deeper one; its first call shows it."""
    found: dict[str, str] = {}
    for path in record.variables:
        parents = itertools.accumulate(path.split("/")[:-1], "{}/{}".format)
        owner = next((p for p in reversed([*parents]) if p in record.layers), None)
        if owner is not None:
            found.setdefault(owner, path)
    return found
