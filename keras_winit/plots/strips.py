"""Picture of the histograms of layers over the steps: one strip for each layer."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots.axes import label_steps
from keras_winit.plots.figures import SMALL, SMALL_DPI, figure, save, step_range, unmeasured
from keras_winit.plots.findings import MARKS, Findings, worst_severities
from keras_winit.plots.heatmaps import draw_cells
from keras_winit.plots.labels import LONGEST, SHORT, evenly_spaced, layer_labels
from keras_winit.plots.protocols import Record
from keras_winit.plots.tables import Array, Tables

# Largest numbers of strips: in a picture, in a column of it, and in a small picture.
MOST_STRIPS = 60
MOST_ROWS = 12
MOST_SMALL_STRIPS = 6

# The color is log1p of the share in this unit, so that one entry in a thousand can be seen.
SHARE_UNIT = 1e-3
SHARE_LABELS = {0.0: "0", 1e-3: "0.1 %", 1e-2: "1 %", 1e-1: "10 %", 1.0: "100 %"}

# Labels of the axis of values, where the axis reaches them.
VALUE_LABELS = (-100.0, -1.0, -0.01, 0.0, 0.01, 1.0, 100.0)


def strips(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Findings = (),
    small: bool = False,
) -> Any:
    """Draw the histogram of each layer at each step: a strip per layer, a column per step.

    The vertical axis of a strip shows the values, in bins that are even in log on both sides
    of zero. The color is log1p of the share of entries, in thousandths. Bins that no layer
    uses are left out. Of more than 60 layers, 60 at most are drawn, evenly spaced; layers
    with findings come first.

    Args:
        records: The records of a monitor's history.
        path: File for the picture; its ending chooses the format. None: no file.
        findings: Findings of the monitor, or the mappings that writers get. Layers with a
            warning or an error are marked.
        small: Whether the picture is for a place 330 pixels wide: six layers, with few and
            large labels.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If no record has histograms, or matplotlib does not know the format.
    """
    tables = Tables([record for record in records if record.counts.size])
    if not tables.layers:
        raise unmeasured("strips", records, "histogram")
    severities = worst_severities(findings)
    marked = [
        row for row, name in enumerate(tables.layers) if severities.get(name, "info") != "info"
    ]
    limit = MOST_SMALL_STRIPS if small else MOST_STRIPS
    rows = evenly_spaced(len(tables.layers), limit, marked)
    edges, shares = tables.histograms()
    used = np.flatnonzero(np.any(shares[rows] > 0, axis=(0, 2)))
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, len(edges) - 1)
    picture, grid = _grid(len(rows), small)
    labels = layer_labels(tables.layers, SHORT if small else LONGEST)
    panels = list(grid.T.flat)
    for axes, row in zip(panels, rows, strict=False):
        image = _draw_strip(axes, shares[row], bins)
        style = {}
        if row in marked:
            color = MARKS[severities[tables.layers[row]]].color
            style = {"color": color, "fontweight": "bold"}
        axes.set_title(labels[row], fontsize="small", loc="left", pad=2, parse_math=False, **style)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    _label_values(grid, edges, bins, small)
    _label_steps(grid, len(rows), tables.steps, small)
    _draw_color_bar(picture, grid, image, small)
    if not small:
        count = f"{len(rows)} of " * (len(rows) != len(tables.layers)) + f"{len(tables.layers)}"
        plural = "s" * (len(tables.layers) != 1)
        title = f"Histograms of {count} layer output{plural}, {step_range(tables.steps)}"
        picture.suptitle(title, fontsize="large")
    return save(picture, path)


def _grid(count: int, small: bool) -> tuple[Any, Any]:
    """Make a figure and its axes in rows and columns."""
    columns = min(count, 2) if small else -(-count // MOST_ROWS)
    rows = -(-count // columns)
    size = SMALL if small else (max(8, 1 + 3 * columns), 1.4 + 0.85 * rows)
    picture = figure(figsize=size, layout="constrained", dpi=SMALL_DPI if small else None)
    return picture, picture.subplots(rows, columns, squeeze=False)


def _draw_strip(axes: Any, share: Array, bins: slice) -> Any:
    # The shares of a measured layer are all zero only if no entry is finite.
    nonfinite = np.broadcast_to(share.sum(axis=0) == 0, share[bins].shape)
    highest = math.log1p(1 / SHARE_UNIT)
    return draw_cells(axes, np.log1p(share[bins] / SHARE_UNIT), nonfinite, "YlGnBu", 0, highest)


def _label_values(grid: Any, edges: Array, bins: slice, small: bool) -> None:
    """Label the values at the left column."""
    low, high = edges[bins.start], edges[bins.stop]
    values = [value for value in VALUE_LABELS if low <= value <= high]
    if len(values) > (3 if small else 5):
        values = [value for value in values if abs(value) != 0.01]
    if len(values) < 2:
        values = sorted({low, *values, high})
    # All bins are equally high, however wide they are.
    heights = np.interp(values, edges, np.arange(len(edges))) - bins.start - 0.5
    labels = [f"{value:.1g}" if abs(value) < 100 else f"{value:g}" for value in values]
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], ylim=(-0.5, bins.stop - bins.start - 0.5))
    for axes in grid[:, 0]:
        axes.set_yticks(heights, labels, fontsize="x-small")
    if not small:
        grid[len(grid) // 2, 0].set_ylabel("output value")


def _label_steps(grid: Any, count: int, steps: Sequence[int], small: bool) -> None:
    """Label the steps at the bottom row, where the last column may have no strip."""
    columns = grid.shape[1] if count == grid.size else grid.shape[1] - 1
    for axes in grid[-1, :columns]:
        label_steps(axes, steps, 3 if small else 4)
        if small:
            axes.set_xlabel("")


def _draw_color_bar(picture: Any, grid: Any, image: Any, small: bool) -> None:
    aspect = 40 * grid.shape[1]
    bar = picture.colorbar(image, ax=grid, location="bottom", aspect=aspect, pad=0.01)
    labels = {
        share: label for share, label in SHARE_LABELS.items() if not small or share != SHARE_UNIT
    }
    ticks = [math.log1p(share / SHARE_UNIT) for share in labels]
    bar.set_ticks(ticks, labels=list(labels.values()))
    if not small:
        bar.set_label("share of the layer's entries; black: no entry is finite")
