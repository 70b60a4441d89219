"""The layers of a monitor at one glance."""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.monitor.diagnosis.findings import severities
from keras_winit.monitor.records import Record
from keras_winit.plots.base import (
    few_ticks,
    figure,
    layer_axis,
    saved,
    step_axis,
    unmeasured,
)
from keras_winit.plots.maps import TIMES, Map, color_bar, key
from keras_winit.plots.rows import Rows


def layers(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Iterable[Any] = (),
) -> Any:
    """Draw what an `ActivationMonitor` measured: profiles by depth, maps of layer and step.

    On the left the standard deviation of each layer's units at the first, the middle and
    the last step; beside it maps of all steps: the same as log10 of the ratio to each
    layer's first value, and the share of dead units, where layers have any.

    Args:
        records: Of a monitor's history.
        path: Where to save the picture; the ending chooses the format. None: nowhere.
        findings: Of the monitor, or as writers get them: their layers are marked.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If there is no record, or none with statistics of a unit, or matplotlib
            knows no such format.
    """
    rows = Rows(records)
    spread, dead = rows.of_layers("unit_stddev"), rows.of_layers("dead_share")
    if not np.any(np.isfinite(spread)):
        raise unmeasured("layers", records, "unit_stddev")
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log10(spread / spread[:, :1])
    gone = rows.missing("unit_stddev")
    maps = [
        Map(f"stddev of units\nover that of step {rows.steps[0]}", change, gone, TIMES),
        Map("dead units\nshare", dead, gone, None),
    ]
    maps = [one for one in maps if one.says_something]
    height = 2.4 + min(max(0.2 * len(rows.layers), 1.8), 9)
    picture = figure(figsize=(6 + 3.2 * len(maps), height), layout="constrained")
    profile, *panels = picture.subplots(1, 1 + len(maps), sharey=True, squeeze=False)[0]
    for column in sorted({0, len(rows.steps) // 2, len(rows.steps) - 1}):
        depth = np.arange(len(rows.layers))
        profile.plot(spread[:, column], depth, "o-", label=f"step {rows.steps[column]}")
    if np.any(spread[:, 0] > 0):
        profile.set_xscale("log")
        few_ticks(profile.xaxis)
    profile.set_title("stddev of units\nover the samples", fontsize="medium")
    profile.legend(fontsize="small")
    profile.grid(alpha=0.3)
    for axes, shown in zip(panels, maps, strict=True):
        image = shown.draw(axes)
        axes.set_title(shown.title, fontsize="medium")
        step_axis(axes, rows.steps)
        color_bar(picture, axes, image, shown)
    found = severities(findings)
    layer_axis(profile, rows.layers, found)
    key(picture, maps, [found[name] for name in rows.layers if name in found])
    return saved(picture, path)
