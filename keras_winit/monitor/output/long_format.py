"""Records in long format: one row for each number, as pandas and CSV files take them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import split_call

FIELDS = ("step", "layer", "call", "statistic", "value")


class LongRow(NamedTuple):
    """One number of a record.

    Args:
        step: Step of the record.
        name: Row name without the number of the call, or name of a variable. None for the loss.
        call: Number of the layer's call within the step, from 1. None if it is no layer.
        statistic: Name of the statistic.
        value: The number, possibly NaN.
    """

    step: int
    name: str | None
    call: int | None
    statistic: str
    value: Any


def long_rows(record: Record) -> Iterator[LongRow]:
    """Yield the loss if it is known, then the statistics of layers, then those of variables."""
    step = record.step
    if record.loss is not None:
        yield LongRow(step, None, None, "loss", record.loss)
    for row_name, values in zip(record.layers, record.values, strict=True):
        name, call = split_call(row_name)
        for statistic, value in zip(record.statistics, values, strict=True):
            yield LongRow(step, name, call, statistic, value)
    for name, values in zip(record.variables, record.variable_values, strict=True):
        for statistic, value in zip(record.variable_statistics, values, strict=True):
            yield LongRow(step, name, None, statistic, value)
