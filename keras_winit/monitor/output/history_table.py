"""The table that `print(monitor.history)` shows: a line for each layer output."""

import html
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_pre_activation
from keras_winit.plots.labels import shortened

MAX_NAME_LENGTH = 60

NOTHING = "nothing was measured yet"


class Column(NamedTuple):
    """A column of the table.

    Args:
        statistic: Name of the statistic.
        heading: Text above the column.
        number_format: Format specification of a cell, without the space between columns.
    """

    statistic: str
    heading: str
    number_format: str

    def align(self, text: str) -> str:
        """Pad a text on the left to the width of the column."""
        return text.rjust(int(self.number_format.partition(".")[0]) + 1)

    def format(self, value: float | None) -> str:
        """Format a number as a cell; a number that is unknown becomes a dash."""
        if value is None or math.isnan(value):
            return self.align("-")
        return self.align(f"{value:{self.number_format}}".strip())


LAYER_COLUMNS = (
    Column("mean", "mean", "10.3g"),
    Column("stddev", "stddev", "10.3g"),
    Column("unit_stddev", "unit stddev", "12.3g"),
    Column("zero_share", "zero", "7.1%"),
    Column("dead_share", "dead", "7.1%"),
    Column("saturated_share", "saturated", "10.1%"),
    Column("nonfinite", "nonfinite", "10.0f"),
)
VARIABLE_COLUMNS = (
    Column("gradient_norm", "gradient", "10.3g"),
    Column("update_ratio", "update/weight", "14.2g"),
)


def format_table(record: Record | None, unseen: Mapping[str, str]) -> str:
    """Format a record as a table, one line for each layer output and its first variable.

    A record without layer outputs gets one line for each variable.

    Args:
        record: The record. None if nothing was recorded yet.
        unseen: Reasons why something, such as a layer, could not be recorded, by its name;
            listed below the table.
    """
    notes = _notes(unseen)
    if record is None:
        return "\n".join([NOTHING, *notes])
    table = _cells(record)
    width = max(len(name) for name, *_ in table)
    lines = [name.ljust(width) + "".join(cells) for name, *cells in table]
    return "\n".join([_title(record), *lines, *notes])


def format_html(record: Record | None, unseen: Mapping[str, str]) -> str:
    """Format a record as `format_table` does, as HTML for notebooks."""
    notes = "".join(f"<br>{html.escape(note)}" for note in _notes(unseen))
    if record is None:
        return f"<p>{NOTHING}{notes}</p>"
    heading, *rows = ([cell.strip() for cell in row] for row in _cells(record))
    head = "".join(f"<th>{cell}</th>" for cell in heading)
    body = "".join(
        f'<tr><td style="text-align:left">{html.escape(name)}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return (
        f"<p>{_title(record)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<p><small>{notes.removeprefix('<br>')}</small></p>" if notes else "")
    )


def _title(record: Record) -> str:
    loss = "" if record.loss is None else f", loss {record.loss:.4g}"
    return f"step {record.step}{loss}"


def _notes(unseen: Mapping[str, str]) -> list[str]:
    return [f"{shortened(name, MAX_NAME_LENGTH)}: not seen, {why}" for name, why in unseen.items()]


def _cells(record: Record) -> list[list[str]]:
    """Return the headings, then a row for each layer output: its name and aligned cells."""
    row_names = [name for name in record.layers if not is_pre_activation(name)]
    variables = _first_variables(record)
    columns = _layer_columns(record)
    variable_columns = _recorded_columns(VARIABLE_COLUMNS, record.variable_statistics)
    if not row_names:
        row_names, columns = [*record.variables], []
        variables = dict(zip(row_names, row_names, strict=True))
    name_heading = "layer" if record.layers else "variable"
    headings = [column.align(column.heading) for column in (*columns, *variable_columns)]
    table = [[name_heading, *headings]]
    for name in row_names:
        cells = [column.format(record.lookup(name, column.statistic)) for column in columns]
        cells += _variable_cells(record, variables.get(name, ""), variable_columns)
        table.append([shortened(name, MAX_NAME_LENGTH), *cells])
    return table


def _layer_columns(record: Record) -> list[Column]:
    columns = _recorded_columns(LAYER_COLUMNS, record.statistics)
    is_nonfinite_column = [name == "nonfinite" for name in record.statistics]
    if np.any(record.values[:, is_nonfinite_column] > 0):
        return columns
    return [column for column in columns if column.statistic != "nonfinite"]


def _recorded_columns(usual: Sequence[Column], recorded: Sequence[str]) -> list[Column]:
    """Return the usual columns that were recorded; if none was, a column for each statistic."""
    chosen = [column for column in usual if column.statistic in recorded]
    return chosen or [Column(name, name, f"{max(len(name) + 2, 10)}.3g") for name in recorded]


def _variable_cells(record: Record, variable: str, columns: Sequence[Column]) -> Iterator[str]:
    # A gradient norm is unknown if the gradient is not finite, which shows as "nan", or if
    # there is no gradient.
    is_nonfinite = (record.lookup(variable, "gradient_nonfinite") or 0) > 0
    for column in columns:
        cell = column.format(record.lookup(variable, column.statistic))
        if is_nonfinite and column.statistic == "gradient_norm" and cell.strip() == "-":
            cell = column.align("nan")
        yield cell


def _first_variables(record: Record) -> dict[str, str]:
    """Map each layer to its first variable that belongs to no layer within it.

    A layer's first call shows the variable; its later calls have other row names.
    """
    first: dict[str, str] = {}
    for variable in record.variables:
        parents = [*itertools.accumulate(variable.split("/")[:-1], "{}/{}".format)]
        owner = next((name for name in reversed(parents) if name in record.layers), None)
        if owner is not None:
            first.setdefault(owner, variable)
    return first
