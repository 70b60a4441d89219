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
from keras_winit.monitor.records import Sample
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

    `samples` holds one for each step that was watched, `unseen` what could not be seen, and
    why, `findings` what the rules found, see `keras_winit.monitor.Findings`.

    Args:
        keep: How many samples to hold, the last ones. None: all.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.samples: list[Sample] = []
        self.unseen: dict[str, str] = {}
        self.findings: tuple[Any, ...] = ()
        self.keep = keep

    def append(self, sample: Sample) -> None:
        """Take one more sample."""
        self.samples.append(sample)
        if self.keep is not None:
            del self.samples[: -self.keep]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for sample in self.samples:
            yield from _rows(sample)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __str__(self) -> str:
        shown = table(self.samples[-1] if self.samples else None, self.unseen)
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
        for sample in self.samples:
            value = _value(sample, layer, statistic)
            if value is not None:
                steps.append(sample.step)
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


def _rows(sample: Sample) -> Iterator[dict[str, Any]]:
    def row(layer: str, call: int, statistic: str, value: float) -> dict[str, Any]:
        return dict(zip(FIELDS, (sample.step, layer, call, statistic, float(value)), strict=True))

    if sample.loss is not None:
        yield row("loss", 0, "loss", sample.loss)
    for site, values in zip(sample.layers, sample.values, strict=True):
        layer, call = split_call(site)
        for name, value in zip(sample.statistics, values, strict=True):
            if not math.isnan(value):
                yield row(layer, call, name, value)
    for path, values in zip(sample.variables, sample.variable_values, strict=True):
        for name, value in zip(sample.variable_statistics, values, strict=True):
            if not math.isnan(value):
                yield row(path, 0, name, value)


def _value(sample: Sample, layer: str, statistic: str) -> float | None:
    if layer in sample.layers and statistic in sample.statistics:
        place = sample.layers.index(layer), sample.statistics.index(statistic)
        return float(sample.values[place])
    if layer in sample.variables and statistic in sample.variable_statistics:
        place = sample.variables.index(layer), sample.variable_statistics.index(statistic)
        return float(sample.variable_values[place])
    return sample.loss if layer == statistic == "loss" else None


def table(sample: Sample | None, unseen: dict[str, str]) -> str:
    """One line a layer, with the gradient and the update of its first variable.

    Where nothing was measured of layers: one line a variable.
    """
    if sample is None:
        return "\n".join(["nothing was measured yet", *_notes(unseen)])
    columns = _columns(COLUMNS, sample.statistics)
    if not np.any(sample.values[:, [n == "nonfinite" for n in sample.statistics]] > 0):
        columns = [column for column in columns if column[0] != "nonfinite"]
    rest = _columns(VARIABLE_COLUMNS, sample.variable_statistics)
    sites = [site for site in sample.layers if not is_before(site)]
    variables = _first_variables(sample)
    if not sites:
        sites, columns = [*sample.variables], []
        variables = dict(zip(sites, sites, strict=True))
    names = [shortened(site, NAME) for site in sites]
    head = "layer" if sample.layers else "variable"
    width = max(map(len, [head, *names]))
    loss = "" if sample.loss is None else f", loss {sample.loss:.4g}"
    heads = "".join(f"{head:>{_width(form)}}" for _, head, form in columns + rest)
    lines = [f"step {sample.step}{loss}", f"{head:{width}}{heads}"]
    for site, name in zip(sites, names, strict=True):
        cells = [_cell(_value(sample, site, column), form) for column, _, form in columns]
        cells += _variable_cells(sample, variables.get(site, ""), rest)
        lines.append(f"{name:{width}}{''.join(cells)}")
    return "\n".join([*lines, *_notes(unseen)])


def _variable_cells(
    sample: Sample, variable: str, columns: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    # A gradient without a norm is one that is not finite, or none at all.
    broken = (_value(sample, variable, "gradient_nonfinite") or 0) > 0
    for name, _, form in columns:
        cell = _cell(_value(sample, variable, name), form)
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


def _first_variables(sample: Sample) -> dict[str, str]:
    """Of each site the first variable that lies in no deeper one; its first call shows it."""
    found: dict[str, str] = {}
    for path in sample.variables:
        parents = itertools.accumulate(path.split("/")[:-1], "{}/{}".format)
        owner = next((p for p in reversed([*parents]) if p in sample.layers), None)
        if owner is not None:
            found.setdefault(owner, path)
    return found
