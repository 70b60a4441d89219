"""Histograms of layers over time."""

import math
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.monitor.diagnosis.findings import severities
from keras_winit.monitor.records import Record
from keras_winit.plots.base import (
    COLORS,
    NAME,
    SHORT,
    SMALL,
    SMALL_DPI,
    figure,
    labels,
    saved,
    spaced,
    step_axis,
    unmeasured,
)
from keras_winit.plots.maps import draw
from keras_winit.plots.rows import Array, Rows

# Strips that can be told apart, in all and upon each other; where there is little room.
MOST = 60
HIGH = 12
FEW = 6

# Colors go with log1p of the share in this unit, so that one entry in a thousand is seen.
UNIT = 1e-3
SHARES = {0.0: "0", 1e-3: "0.1 %", 1e-2: "1 %", 1e-1: "10 %", 1.0: "all"}

# Of the axis of values, if they are within it.
VALUES = (-100.0, -1.0, -0.01, 0.0, 0.01, 1.0, 100.0)


def strips(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Iterable[Any] = (),
    small: bool = False,
) -> Any:
    """Draw the histogram of each layer at each step: a strip a layer, a column a step.

    Upwards go the values, in bins even in log on both sides of zero; the color is log1p of
    the share of entries in thousandths. Bins that no layer uses are left out, and of more
    than 60 layers all but evenly spaced ones; those with findings come first.

    Args:
        records: Of a monitor's history.
        path: Where to save the picture; the ending chooses the format. None: nowhere.
        findings: Of the monitor, or as writers get them: their layers are marked.
        small: For a place 330 pixels wide: six layers, few and large labels.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If no record has histograms, or matplotlib knows no such format.
    """
    rows = Rows([record for record in records if record.counts.size])
    if not rows.layers:
        raise unmeasured("strips", records, "histogram")
    found = severities(findings)
    marked = [row for row, name in enumerate(rows.layers) if found.get(name, "info") != "info"]
    chosen = spaced(len(rows.layers), FEW if small else MOST, marked)
    edges, shares = rows.histograms()
    used = np.flatnonzero(np.any(shares[chosen] > 0, axis=(0, 2)))
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, len(edges) - 1)
    picture, grid = _grid(len(chosen), small)
    names = labels(rows.layers, SHORT if small else NAME)
    panels = list(grid.T.flat)
    for axes, row in zip(panels, chosen, strict=False):
        image = _strip(axes, shares[row], bins)
        style = {}
        if row in marked:
            style = {"color": COLORS[found[rows.layers[row]]], "fontweight": "bold"}
        axes.set_title(names[row], fontsize="small", loc="left", pad=2, parse_math=False, **style)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    _label(grid, len(chosen), rows.steps, edges, bins, small)
    across = grid.shape[1]
    bar = picture.colorbar(image, ax=grid, location="bottom", aspect=40 * across, pad=0.01)
    shown = {share: name for share, name in SHARES.items() if not small or share != UNIT}
    bar.set_ticks([math.log1p(share / UNIT) for share in shown], labels=list(shown.values()))
    if not small:
        bar.set_label("share of a layer's entries; black: none of them is finite")
        some = "" if len(chosen) == len(rows.layers) else f"{len(chosen)} of "
        steps = f"steps {rows.steps[0]} to {rows.steps[-1]}"
        title = f"Values in {some}{len(rows.layers)} layers, {steps}"
        picture.suptitle(title, fontsize="large")
    return saved(picture, path)


def _grid(count: int, small: bool) -> tuple[Any, Any]:
    """A figure, and its axes by rows and columns."""
    across = min(count, 2) if small else -(-count // HIGH)
    down = -(-count // across)
    size = SMALL if small else (max(8, 1 + 3 * across), 1.4 + 0.85 * down)
    picture = figure(figsize=size, layout="constrained", dpi=SMALL_DPI if small else None)
    return picture, picture.subplots(down, across, squeeze=False)


def _strip(axes: Any, share: Array, bins: slice) -> Any:
    # Of a layer that was seen some entry is in a bin, unless none is finite.
    gone = np.broadcast_to(share.sum(axis=0) == 0, share[bins].shape)
    return draw(axes, np.log1p(share[bins] / UNIT), gone, "YlGnBu", 0, math.log1p(1 / UNIT))


def _label(
    grid: Any, count: int, steps: Sequence[int], edges: Array, bins: slice, small: bool
) -> None:
    low, high = edges[bins.start], edges[bins.stop]
    values = [value for value in VALUES if low <= value <= high]
    if len(values) > (3 if small else 5):
        values = [value for value in values if abs(value) != 0.01]
    if len(values) < 2:
        values = sorted({low, *values, high})
    # Bins are of one height, whatever they hold.
    places = np.interp(values, edges, np.arange(len(edges))) - bins.start - 0.5
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], ylim=(-0.5, bins.stop - bins.start - 0.5))
    for axes in grid[:, 0]:
        axes.set_yticks(
            places,
            [f"{value:.1g}" if abs(value) < 100 else f"{value:g}" for value in values],
            fontsize="x-small",
        )
    # The last column may end above the others.
    full = grid.shape[1] if count == grid.size else grid.shape[1] - 1
    for axes in grid[-1, :full]:
        step_axis(axes, steps, 3 if small else 4)
        if small:
            axes.set_xlabel("")
    if not small:
        grid[len(grid) // 2, 0].set_ylabel("value")
