"""Names and points of the curves that a record adds to a run of an experiment tracker."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.output.events import sortable_tags
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_pre_activation

# Statistics that get curves by default.
CURVES = ("stddev", "dead_share", "saturated_share")
VARIABLE_CURVES = ("gradient_norm", "update_ratio")


def curve_points(
    record: Record, curves: Sequence[str], variable_curves: Sequence[str], max_curves: int
) -> dict[str, float]:
    """Return a point for each curve, by its name; NaN is left out.

    The names are `winit/loss`; `winit/<statistic>_min`, `_median` and `_max` over all layers; and
    `winit_<statistic>/<number>_<layer>` for each layer or variable.

    Args:
        record: The record.
        curves: Statistics of layers. One that the record does not have is skipped.
        variable_curves: Statistics of variables, likewise.
        max_curves: Largest number of layers or variables that get curves of their own.
    """
    columns = dict(zip(record.statistics, record.values.T, strict=True))
    points = {} if record.loss is None else {"winit/loss": record.loss}
    for name in curves:
        if name in columns:
            for part, value in _min_median_max(columns[name]).items():
                points[f"winit/{name}_{part}"] = value
            points |= _row_points(name, record.layers, columns[name], max_curves)
    for name in variable_curves:
        if name in record.variable_statistics:
            column = record.variable_values[:, record.variable_statistics.index(name)]
            points |= _row_points(name, record.variables, column, max_curves)
    return {name: float(value) for name, value in points.items() if not np.isnan(value)}


def _row_points(
    statistic: str, row_names: Sequence[str], values: npt.NDArray[np.float32], max_curves: int
) -> dict[str, float]:
    if sum(not is_pre_activation(name) for name in row_names) > max_curves:
        return {}
    tags = sortable_tags(row_names)
    return {f"winit_{statistic}/{tag}": value for tag, value in zip(tags, values, strict=True)}


def _min_median_max(values: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return minimum, median and maximum of the values that are not NaN; empty without any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    return {"min": known.min(), "median": np.median(known), "max": known.max()}
