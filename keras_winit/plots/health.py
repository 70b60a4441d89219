"""Picture of the health of all layers at all steps, as heat maps."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots.axes import height_of_rows, label_layers
from keras_winit.plots.figures import SMALL, SMALL_DPI, figure, save, step_range, unmeasured
from keras_winit.plots.findings import Findings, worst_severities
from keras_winit.plots.healthy_ranges import UPDATE_TARGET
from keras_winit.plots.heatmaps import (
    DECADES,
    RATIOS,
    HeatMap,
    draw_heat_map,
    draw_legend,
)
from keras_winit.plots.labels import SHORT
from keras_winit.plots.protocols import Record
from keras_winit.plots.tables import Array, Tables

STATISTICS = ("unit_stddev", "gradient_norm", "update_ratio", "dead_share", "saturated_share")


def health(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Findings = (),
    small: bool = False,
) -> Any:
    """Draw all layers at all steps: pale colors are healthy, deep ones are not.

    There are up to five maps. A statistic that was not measured has none. Black cells are not
    finite.

    - Signal: log10 of the ratio of a layer's `unit_stddev` to that of the first layer with a
      kernel at the first step, between -2 and 2. It shows what fades or grows with depth and
      what training changes. (Relative to each layer's own start, a bad start would be white.)
      If the first layer itself is outside the range of healthy training, the nearer end of
      the range takes its place. The last layer is shown before its activation.
    - Gradient: log10 of the ratio of the norm of each kernel's gradient to the median of all
      kernels at the same step, since gradients shrink with the loss anyway.
    - Update: norm of the update over the norm of the weights, white at 1e-3.
    - Dead units: share of units.
    - Saturation: share of entries.

    Args:
        records: The records of a monitor's history.
        path: File for the picture; its ending chooses the format. None: no file.
        findings: Findings of the monitor, or the mappings that writers get. Their layers are
            marked.
        small: Whether the picture is for a place 330 pixels wide: the first two maps, with
            few and large labels.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If none of these statistics was measured, or matplotlib does not know the
            format.
    """
    tables = Tables(records)
    maps = _heat_maps(tables)
    if not maps:
        raise unmeasured("health", records, *STATISTICS)
    severities = worst_severities(findings)
    if small:
        return save(_small_picture(tables, maps[:2], severities), path)
    height = 2.4 + height_of_rows(len(tables.layers))
    picture = figure(figsize=(2.2 + 2.7 * len(maps), height), layout="constrained")
    picture.get_layout_engine().set(w_pad=0.1)
    panels = picture.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, heat_map in zip(panels, maps, strict=True):
        draw_heat_map(picture, axes, heat_map, tables.steps, step_labels=5)
    label_layers(panels[0], tables.layers, severities)
    picture.suptitle(_title(tables, severities), fontsize="large")
    draw_legend(picture, maps, {severities.get(name) for name in tables.layers})
    return save(picture, path)


def _heat_maps(tables: Tables) -> list[HeatMap]:
    """Return the maps that are not empty, from the signal to the saturation."""
    if not tables.layers:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        signal = np.log10(tables.signal() / tables.reference)
        norms = tables.of_first_kernels("gradient_norm")
        gradient = np.log10(norms / _median_gradients(tables))
        update = np.log10(tables.updates() / UPDATE_TARGET)
    nonfinite = tables.of_layers("nonfinite") > 0
    # Every record of a layer has its spread, which is NaN only if no entry is finite.
    nonfinite_signal = nonfinite | tables.missing("unit_stddev")
    nonfinite_gradient = (
        (tables.of_first_kernels("gradient_nonfinite") > 0) | np.isinf(norms) | np.isposinf(update)
    )
    update_ticks = tuple(
        f"{UPDATE_TARGET * 10.0**power:.0e}".replace("e-0", "e-")
        for power in range(-DECADES, DECADES + 1)
    )
    dead, saturated = tables.of_layers("dead_share"), tables.of_layers("saturated_share")
    maps = [
        HeatMap("signal\nunit stddev / first layer's", signal, nonfinite_signal, RATIOS),
        HeatMap("gradient\ngradient norm / median", gradient, nonfinite_gradient, RATIOS),
        HeatMap("update\nupdate norm / weight norm", update, nonfinite_gradient, update_ticks),
        HeatMap("dead units\nshare of units", dead, nonfinite, None),
        HeatMap("saturation\nshare of entries", saturated, nonfinite, None),
    ]
    return [heat_map for heat_map in maps if not heat_map.is_empty]


def _median_gradients(tables: Tables) -> Array:
    """Return the median norm at each step, over the kernels that have a gradient."""
    norms = tables.of_kernels("gradient_norm")
    columns = [column[(column > 0) & (column < np.inf)] for column in norms.T]
    return np.array([np.median(column) if len(column) else np.nan for column in columns])


def _title(tables: Tables, severities: Mapping[str, str]) -> str:
    marked = sum(name in severities for name in tables.layers)
    note = f" ({marked} with findings)" if marked else ""
    plural = "s" * (len(tables.layers) != 1)
    return (
        f"Health of {len(tables.layers)} layer{plural}{note}, {step_range(tables.steps)}: "
        "pale colors are healthy"
    )


def _small_picture(tables: Tables, maps: Sequence[HeatMap], severities: Mapping[str, str]) -> Any:
    picture = figure(figsize=SMALL, layout="constrained", dpi=SMALL_DPI)
    picture.get_layout_engine().set(w_pad=0.07)
    panels = picture.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, heat_map in zip(panels, maps, strict=True):
        draw_heat_map(picture, axes, heat_map, tables.steps, step_labels=3, small=True)
    label_layers(panels[0], tables.layers, severities, limit=8, length=SHORT)
    return picture
