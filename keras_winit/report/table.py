"""Formats a report as text and as HTML."""

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from keras_winit.plots.labels import shortened
from keras_winit.report.rows import LayerRow

# Most characters of a layer's name, and most rows.
NAME_LENGTH, MOST_ROWS = 32, 60

LEGEND = (
    "spread: standard deviation of a unit between samples; cosine: mean cosine between two samples",
    "theory: prediction of mean-field theory for the column before it",
    "gradient: of a random sum of the outputs; chi: growth of its square by the layers up to the "
    "next kernel",
)


class Column(NamedTuple):
    """A column of the table: its heading, field, and the width and format of a number."""

    heading: str
    field: str
    width: int
    number_format: str

    def cell(self, row: LayerRow) -> str:
        value = getattr(row, self.field)
        if math.isnan(value):
            return "-"
        text = f"{value:{self.number_format}}"
        return text.removeprefix("-") if text in ("-0.00", "-0") else text


COLUMNS = (
    Column("mean", "mean", 10, ".2g"),
    Column("stddev", "stddev", 9, ".3g"),
    Column("theory", "predicted_stddev", 9, ".3g"),
    Column("spread", "unit_stddev", 9, ".3g"),
    Column("theory", "predicted_unit_stddev", 9, ".3g"),
    Column("cosine", "cosine", 7, ".2f"),
    Column("theory", "predicted_cosine", 7, ".2f"),
    Column("dead", "dead_share", 6, ".0%"),
    Column("saturated", "saturated_share", 10, ".0%"),
    Column("repeated", "repeated_share", 9, ".0%"),
    Column("nonfinite", "nonfinite", 10, ".0f"),
    Column("gradient", "gradient", 10, ".3g"),
    Column("theory", "predicted_gradient", 9, ".3g"),
    Column("chi", "chi", 9, ".2g"),
)
# Columns that are usually zero are left out if all their numbers are below this share.
LEAST_SHARE = 0.005
USUALLY_ZERO = ("dead_share", "saturated_share", "repeated_share", "nonfinite")


def columns_of(rows: Sequence[LayerRow]) -> list[Column]:
    """Return the columns that tell something of these rows."""

    def is_informative(column: Column) -> bool:
        known = [v for row in rows if not math.isnan(v := getattr(row, column.field))]
        if column.field in USUALLY_ZERO:
            return any(value >= LEAST_SHARE for value in known)
        return bool(known)

    return [column for column in COLUMNS if is_informative(column)]


def shown_rows(rows: Sequence[LayerRow]) -> list[LayerRow | str]:
    """Return the rows to show, and texts where rows are left out."""
    chosen: list[LayerRow | str] = list(rows)
    notes: list[LayerRow | str] = []
    if len(rows) > MOST_ROWS:
        chosen = [row for row in rows if row.has_kernel] or list(rows)
        left_out = len(rows) - len(chosen)
        notes = [f"{left_out} rows without a kernel: see `report.rows`"] if left_out else []
    if len(chosen) > MOST_ROWS:
        half, left_out = MOST_ROWS // 2, len(chosen) - MOST_ROWS
        chosen = [*chosen[:half], f"... {left_out} more: see `report.rows`", *chosen[-half:]]
    return [*chosen, *notes]


def table_lines(rows: Sequence[LayerRow]) -> Iterator[str]:
    """Yield the lines of the table of layers."""
    columns, shown = columns_of(rows), shown_rows(rows)
    names = [shortened(row.layer, NAME_LENGTH) for row in shown if isinstance(row, LayerRow)]
    width = max(map(len, ["layer", *names]))
    yield "layer".ljust(width) + "".join(c.heading.rjust(c.width) for c in columns)
    for row in shown:
        if isinstance(row, str):
            yield row
        else:
            cells = "".join(column.cell(row).rjust(column.width) for column in columns)
            yield shortened(row.layer, NAME_LENGTH).ljust(width) + cells


def as_text(report: Any) -> str:
    """Return the whole report as text."""
    lines = [report.title, report.verdict, ""]
    if report.rows:
        lines += [*table_lines(report.rows), *_legend(report.rows)]
    lines += [f"{name}: not measured, {why}" for name, why in report.unseen.items()]
    if report.findings:
        lines += ["", "findings", str(report.findings)]
    if report.changes:
        lines += ["", "what to change", *(f"- {text}" for text in report.changes)]
    return "\n".join(lines)


def _legend(rows: Sequence[LayerRow]) -> list[str]:
    headings = {column.heading for column in columns_of(rows)}
    return [line for line in LEGEND if line.partition(":")[0] in headings]


def as_html(report: Any) -> str:
    """Return the whole report as HTML, for notebooks."""
    columns = columns_of(report.rows)
    body = []
    for row in shown_rows(report.rows):
        if isinstance(row, str):
            body.append(f'<tr><td colspan="{len(columns) + 1}">{html.escape(row)}</td></tr>')
            continue
        cells = "".join(f"<td>{column.cell(row)}</td>" for column in columns)
        name = html.escape(shortened(row.layer, NAME_LENGTH))
        body.append(f'<tr><td style="text-align:left">{name}</td>{cells}</tr>')
    headings = "".join(f"<th>{column.heading}</th>" for column in columns)
    legend = "<br>".join(map(html.escape, _legend(report.rows)))
    parts = [
        f"<p>{html.escape(report.title)}<br><b>{html.escape(report.verdict)}</b></p>",
        f"<table><thead><tr><th>layer</th>{headings}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>",
        f"<p><small>{legend}</small></p>",
    ]
    if report.unseen:
        unseen = (f"{name}: not measured, {why}" for name, why in report.unseen.items())
        parts.append(f"<p><small>{'<br>'.join(map(html.escape, unseen))}</small></p>")
    if report.findings:
        parts.append(report.findings._repr_html_())
    if report.changes:
        items = "".join(f"<li>{html.escape(text)}</li>" for text in report.changes)
        parts.append(f"<p>what to change</p><ul>{items}</ul>")
    return "".join(parts)
