"""Picture of the signal in all layers: by depth at three steps, and as maps of all steps."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots.axes import height_of_rows, label_decades, label_layers
from keras_winit.plots.figures import figure, save, unmeasured
from keras_winit.plots.findings import Findings, worst_severities
from keras_winit.plots.heatmaps import RATIOS, HeatMap, draw_heat_map, draw_legend
from keras_winit.plots.protocols import Record
from keras_winit.plots.tables import Array, Tables


def layers(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Findings = (),
) -> Any:
    """Draw the signal in all layers: by depth at three steps, and as maps of all steps.

    The left panel shows the `unit_stddev` of each layer at the first, the middle and the last
    step. The maps beside it show all steps: log10 of the ratio to each layer's first value,
    and the share of dead units if any layer has such a share.

    Args:
        records: The records of a monitor's history.
        path: File for the picture; its ending chooses the format. None: no file.
        findings: Findings of the monitor, or the mappings that writers get. Their layers are
            marked.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If no record has a finite `unit_stddev`, or matplotlib does not know the
            format.
    """
    tables = Tables(records)
    spread, dead = tables.of_layers("unit_stddev"), tables.of_layers("dead_share")
    if not np.any(np.isfinite(spread)):
        raise unmeasured("layers", records, "unit_stddev")
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log10(spread / spread[:, :1])
    nonfinite = tables.missing("unit_stddev")
    maps = [
        HeatMap(f"unit stddev\nrelative to step {tables.steps[0]}", change, nonfinite, RATIOS),
        HeatMap("dead units\nshare of units", dead, nonfinite, None),
    ]
    maps = [heat_map for heat_map in maps if not heat_map.is_empty]
    height = 2.4 + height_of_rows(len(tables.layers))
    picture = figure(figsize=(6 + 3.2 * len(maps), height), layout="constrained")
    by_depth, *panels = picture.subplots(1, 1 + len(maps), sharey=True, squeeze=False)[0]
    _draw_by_depth(by_depth, tables.steps, spread)
    for axes, heat_map in zip(panels, maps, strict=True):
        draw_heat_map(picture, axes, heat_map, tables.steps, step_labels=6)
    severities = worst_severities(findings)
    label_layers(by_depth, tables.layers, severities)
    draw_legend(picture, maps, {severities.get(name) for name in tables.layers})
    return save(picture, path)


def _draw_by_depth(axes: Any, steps: Sequence[int], spread: Array) -> None:
    depth = np.arange(len(spread))
    for column in sorted({0, len(steps) // 2, len(steps) - 1}):
        axes.plot(spread[:, column], depth, "o-", label=f"step {steps[column]}")
    if np.any(spread[:, 0] > 0):
        axes.set_xscale("log")
        label_decades(axes.xaxis)
    axes.set_title("unit stddev\nover the samples of a batch", fontsize="medium")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
