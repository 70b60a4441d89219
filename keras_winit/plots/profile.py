"""Picture of the first step by depth, beside the ranges of healthy training."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots import healthy_ranges
from keras_winit.plots.axes import height_of_rows, label_decades, label_layers
from keras_winit.plots.figures import figure, save, text_color, unmeasured
from keras_winit.plots.findings import MARKS, Findings, worst_severities
from keras_winit.plots.protocols import Record
from keras_winit.plots.tables import Array, Flags, Tables

STATISTICS = ("unit_stddev", "gradient_norm", "dead_share", "saturated_share")

# The color and the marker of values outside the healthy range.
OUTSIDE = MARKS["error"]


@dataclass(frozen=True)
class Panel:
    """One statistic by depth.

    Args:
        title: The title, in two lines.
        values: The statistic, of shape (layers,). NaN where there is no value, infinite where
            the value is not finite.
        low: Lower end of the healthy range.
        high: Upper end of the healthy range.
        is_share: Whether values are shares. Others are drawn on a log axis.
    """

    title: str
    values: Array
    low: float
    high: float
    is_share: bool

    @property
    def outside(self) -> Flags:
        """Whether each value lies outside the healthy range."""
        inside: Flags = (self.values >= self.low) & (self.values <= self.high)
        return ~np.isnan(self.values) & ~inside


def profile(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Findings = (),
) -> Any:
    """Draw the first step by depth, beside the ranges of healthy training.

    The ranges are those that the rules of the monitor give as `healthy`:

    - signal, the `unit_stddev` of a layer: from 0.064 times the reference of `plots.health`
      to 1.3
    - gradient, the norm of a kernel's gradient over the largest: from 0.008 up
    - dead units: up to 0.385 of the units
    - saturation: up to 0.06 of the entries

    Values outside their range are red crosses. A value too large, too small or not finite for
    its axis is drawn at the edge.

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
        ValueError: If none of these statistics was measured, or matplotlib does not know the
            format.
    """
    tables = Tables(records[:1])
    panels = _panels(tables) if tables.layers else []
    if not panels:
        raise unmeasured("profile", records, *STATISTICS)
    height = 1.8 + height_of_rows(len(tables.layers))
    picture = figure(figsize=(2.2 + 2.8 * len(panels), height), layout="constrained")
    all_axes = picture.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_panel(axes, panel)
    label_layers(all_axes[0], tables.layers, worst_severities(findings))
    outside = sum(int(panel.outside.sum()) for panel in panels)
    picture.suptitle(_title(tables, outside), fontsize="large")
    _draw_legend(picture, bool(outside))
    return save(picture, path)


def _panels(tables: Tables) -> list[Panel]:
    """Return the panels of statistics that were measured."""
    low, _ = healthy_ranges.RANGES["vanishing_forward"]
    _, high = healthy_ranges.RANGES["exploding_forward"]
    lowest_gradient, _ = healthy_ranges.RANGES["vanishing_backward"]
    signal = np.where(tables.missing("unit_stddev"), np.inf, tables.signal())[:, 0]
    nonfinite = tables.of_first_kernels("gradient_nonfinite") > 0
    gradients = np.where(nonfinite, np.inf, tables.of_first_kernels("gradient_norm"))[:, 0]
    gradients = gradients / max(gradients[(gradients > 0) & (gradients < np.inf)], default=1.0)
    dead, saturated = (
        tables.of_layers(statistic)[:, 0] for statistic in ("dead_share", "saturated_share")
    )
    panels = [
        Panel("signal\nunit stddev", signal, low * tables.reference, high, False),
        Panel("gradient\ngradient norm / largest", gradients, lowest_gradient, 1.0, False),
        Panel("dead units\nshare of units", dead, *healthy_ranges.RANGES["dead_units"], True),
        Panel("saturation\nshare of entries", saturated, *healthy_ranges.RANGES["saturated"], True),
    ]
    return [panel for panel in panels if not np.all(np.isnan(panel.values))]


def _draw_panel(axes: Any, panel: Panel) -> None:
    values, outside = panel.values, panel.outside
    if panel.is_share:
        axes.set_xlim(-0.03, 1.03)
    else:
        drawable = values[np.isfinite(values) & (values > 0)]
        left, right = min([panel.low, *drawable]) / 3, max([panel.high, *drawable]) * 3
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        label_decades(axes.xaxis)
        values = np.clip(values, left, right)
    depth = np.arange(len(values))
    known = ~np.isnan(values)
    axes.axvspan(panel.low, panel.high, color=healthy_ranges.COLOR, alpha=0.15, linewidth=0)
    axes.plot(values[known], depth[known], "-", color="0.5", linewidth=1)
    inside = known & ~outside
    axes.plot(values[inside], depth[inside], "o", color=text_color(), markersize=4)
    # An unclipped line without points would make matplotlib's constrained layout collapse.
    if outside.any():
        cross = {"color": OUTSIDE.color, "markersize": 7, "clip_on": False}
        axes.plot(values[outside], depth[outside], OUTSIDE.marker, **cross)
    axes.set_title(panel.title, fontsize="medium")
    axes.grid(alpha=0.3)


def _title(tables: Tables, outside: int) -> str:
    layers = f"{len(tables.layers)} layer{'s' * (len(tables.layers) != 1)}"
    if not outside:
        return f"{layers} at step {tables.steps[0]}: all values in the healthy range"
    values = f"{outside} value{'s' * (outside != 1)}"
    return f"{layers} at step {tables.steps[0]}: {values} outside the healthy range"


def _draw_legend(picture: Any, outside: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=healthy_ranges.COLOR, alpha=0.3, label="healthy range")]
    if outside:
        color, marker = OUTSIDE
        handles.append(
            Line2D([], [], color=color, marker=marker, linestyle="none", label="outside")
        )
    picture.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
