"""Explains a loss that is not finite at a step that was not recorded."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_winit.monitor.capture.kept_batches import KeptBatches, non_finite_data
from keras_winit.monitor.diagnosis.rules.base import Violation
from keras_winit.monitor.diagnosis.rules.non_finite import SMALLER_UPDATES
from keras_winit.monitor.diagnosis.rules.remedies import clean_data
from keras_winit.monitor.records import Record

# Steps before the fault that the remedy records.
STEPS_BEFORE = 5


def explain_non_finite_loss(
    step: int, loss: float, batches: Sequence[Any] | None, records: Sequence[Record]
) -> list[Violation]:
    """Return the violations of the rule `non_finite` at a step: by the data, or else by the loss.

    The weights from which the loss was computed are gone by the time it is known. So the layer
    is unknown, and the remedy says how to see it.

    Args:
        step: Number of the step.
        loss: The loss, NaN or infinite.
        batches: Batches of the step; the whole data on TensorFlow. None if they are unknown.
        records: Records so far.
    """
    of_step = "" if KeptBatches.possible else " given to `fit`"
    if batches is not None:
        faults = non_finite_data(batches)
        if faults:
            return [
                Violation(
                    fault.name,
                    fault.count,
                    -1,
                    cause=f"the data of {fault.name!r}{of_step} contain {fault}, and the loss "
                    f"became {loss:g} at step {step}",
                    remedy=clean_data(fault.name),
                    is_root=True,
                )
                for fault in faults
            ]
    if batches is None:
        data = "; the data of that step are unknown"
    else:
        data = f", although all data{of_step or ' of that step'} are finite"
    order = len(records[-1].layers) if records else 0
    cause = f"the loss became {loss:g} at step {step}, which was not recorded{data}"
    remedy = (
        f"{SMALLER_UPDATES}; to see the layer, train as before with "
        f"`keras_winit.ActivationMonitor(every=lambda step: step >= {step - STEPS_BEFORE})`"
    )
    if batches is None:
        remedy = f"look for NaN and infinities in the data; {remedy}"
    details = _last_recorded(records)
    return [Violation("loss", math.inf, order, cause=cause, remedy=remedy, details=details)]


def _last_recorded(records: Sequence[Record]) -> tuple[str, ...]:
    """Return what the last record tells: the largest value and the largest relative update."""
    if not records:
        return ()
    record, details = records[-1], []
    for names, statistics, values, statistic, text in (
        (record.layers, record.statistics, record.values, "max", "largest value"),
        (
            record.variables,
            record.variable_statistics,
            record.variable_values,
            "update_ratio",
            "largest update, by the size of its weight",
        ),
    ):
        if statistic in statistics:
            column = np.nan_to_num(values[:, statistics.index(statistic)], nan=-math.inf)
            if column.size and np.isfinite(column.max()):
                place = int(np.argmax(column))
                details.append(f"{text}: {column[place]:.3g}, in {names[place]}")
    return (f"recorded last: step {record.step}", *details) if details else ()
