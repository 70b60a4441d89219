"""Heat maps of layers by steps, with their color bars and their legend."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_winit.plots.axes import label_steps
from keras_winit.plots.findings import MARKS
from keras_winit.plots.tables import Array, Flags, merge_columns

# A ratio has its deepest color this many decades from 1.
DECADES = 2

# Largest number of columns that can be told apart.
COLUMNS = 300

# Labels of the color bar of a ratio, a decade apart.
RATIOS = ("1/100", "1/10", "1", "10", "100")

# The gray pattern of cells without a value.
NO_VALUE: dict[str, Any] = {"facecolor": "0.88", "hatch": "////", "edgecolor": "0.75"}


@dataclass(frozen=True)
class HeatMap:
    """One map of layers by steps.

    Args:
        title: The title, in two lines.
        values: Log10 of ratios, or shares, of shape (layers, steps). NaN where there is no
            value.
        nonfinite: Where values are NaN or infinite, of the same shape.
        ticks: Labels of the color bar at -2, -1, 0, 1 and 2. None for shares.
    """

    title: str
    values: Array
    nonfinite: Flags
    ticks: tuple[str, ...] | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return bool(np.all(np.isnan(self.values)) and not (self.ticks and self.nonfinite.any()))


def draw_heat_map(
    picture: Any,
    axes: Any,
    heat_map: HeatMap,
    steps: Sequence[int],
    step_labels: int,
    small: bool = False,
) -> None:
    """Draw a map with its title, its steps and, below it, its color bar.

    Args:
        picture: The matplotlib figure.
        axes: The axes in it to draw on.
        heat_map: The map to draw.
        steps: Steps of the columns.
        step_labels: The most labels of steps.
        small: Whether to leave out the second line of the title, the label of the axis, and
            half of the labels of a color bar of ratios.
    """
    colors = ("YlOrBr", 0, 1) if heat_map.ticks is None else ("RdBu_r", -DECADES, DECADES)
    image = draw_cells(axes, heat_map.values, heat_map.nonfinite, *colors)
    title = heat_map.title.partition("\n")[0] if small else heat_map.title
    axes.set_title(title, fontsize="medium")
    label_steps(axes, steps, step_labels)
    if small:
        axes.set_xlabel("")
    bar = picture.colorbar(image, ax=axes, location="bottom", aspect=18, pad=0.02)
    if heat_map.ticks is None:
        bar.set_ticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
    else:
        stride = 2 if small else 1
        ticks = range(-DECADES, DECADES + 1, stride)
        bar.set_ticks(ticks, labels=heat_map.ticks[::stride])
    bar.ax.tick_params(labelsize="small")


def draw_cells(
    axes: Any, values: Array, nonfinite: Any, colors: str, low: float, high: float
) -> Any:
    """Draw an image of values in rows and columns, and return it.

    Cells without a value show the gray background. Cells that are not finite are black, in
    an image of their own.
    """
    count = values.shape[1]
    values = merge_columns(values, COLUMNS)
    nonfinite = merge_columns(np.asarray(nonfinite, np.float64), COLUMNS) > 0
    # The logarithm of zero gets the deepest color.
    values = np.where(np.isneginf(values), -99.0, values)
    # Merged columns cover the places of all steps, with half a step on each side.
    extent = (-0.5, count - 0.5, len(values) - 0.5, -0.5)
    options = {"aspect": "auto", "interpolation": "nearest", "extent": extent}
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=low, vmax=high, **options)
    if nonfinite.any():
        black = np.ma.masked_where(~nonfinite, np.ones(nonfinite.shape))
        axes.imshow(black, cmap="gray", vmin=1, vmax=2, **options)
    axes.patch.set(**NO_VALUE)
    return image


def draw_legend(picture: Any, maps: Sequence[HeatMap], severities: Collection[str | None]) -> None:
    """Explain black and gray cells, and the marks of the given severities."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if any(heat_map.nonfinite.any() for heat_map in maps):
        handles.append(Patch(color="black", label="NaN or infinite"))
    if any((np.isnan(heat_map.values) & ~heat_map.nonfinite).any() for heat_map in maps):
        handles.append(Patch(label="no value", **NO_VALUE))
    for severity, (color, marker) in MARKS.items():
        if severity in severities:
            handles.append(
                Line2D([], [], color=color, marker=marker, linestyle="none", label=severity)
            )
    if handles:
        picture.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
