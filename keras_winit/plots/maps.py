"""Maps of layers by steps."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.monitor.diagnosis.findings import severities
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES
from keras_winit.monitor.records import Record
from keras_winit.plots.base import (
    COLORS,
    SHAPES,
    SHORT,
    SMALL,
    SMALL_DPI,
    figure,
    layer_axis,
    saved,
    step_axis,
    unmeasured,
)
from keras_winit.plots.rows import Array, Flags, Rows, merged

# Of an update, relative to the weights: what to aim at (CS231n).
GUIDE = 1e-3

# A ratio has its full color this many decades from 1.
DECADES = 2

# Columns that can be seen side by side.
COLUMNS = 300

STATISTICS = ("unit_stddev", "gradient_norm", "update_ratio", "dead_share", "saturated_share")
NOTHING: dict[str, Any] = {"facecolor": "0.88", "hatch": "////", "edgecolor": "0.75"}
TIMES = ("1/100", "1/10", "1", "10", "100")


@dataclass(frozen=True)
class Map:
    """One map, ready to be drawn.

    Args:
        title: What it shows, on two lines.
        values: Of shape (layers, steps): log10 of ratios, or shares. NaN where it does not
            apply.
        broken: Of the same shape, where there are numbers that are not finite.
        ticks: Labels of the color bar at -2, -1, 0, 1 and 2; None for shares.
    """

    title: str
    values: Array
    broken: Flags
    ticks: tuple[str, ...] | None

    @property
    def says_something(self) -> bool:
        """Whether there is anything to see."""
        return not np.all(np.isnan(self.values)) or bool(self.ticks and self.broken.any())

    def draw(self, axes: Any) -> Any:
        """As `draw`, in the colors of ratios or of shares."""
        colors = ("YlOrBr", 0, 1) if self.ticks is None else ("RdBu_r", -DECADES, DECADES)
        return draw(axes, self.values, self.broken, *colors)


def health(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Iterable[Any] = (),
    small: bool = False,
) -> Any:
    """Draw all layers at all steps: pale is well, deep colors are not, black is not finite.

    The map of the signal shows log10 of a ratio, +-2 decades: `unit_stddev` of a layer over
    that of the first layer with a kernel at the first step. So one map shows what fades or
    grows with depth and what changes with training; the ratio to each layer's own start
    would leave a bad start white. Where the first layer itself is beyond the range of
    healthy training, the nearer end of that range takes its place. The last layer is shown
    before its activation.

    The others: the gradient of each layer's kernel over the median of all kernels at the
    same step, as it falls with the loss anyway; the update over the weights, white at 1e-3;
    the share of dead units, and of saturated entries. What was not measured is left out.

    Args:
        records: Of a monitor's history.
        path: Where to save the picture; the ending chooses the format. None: nowhere.
        findings: Of the monitor, or as writers get them: their layers are marked.
        small: For a place 330 pixels wide: the first two maps, few and large labels.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If nothing of this was measured, or matplotlib knows no such format.
    """
    rows = Rows(records)
    maps = _maps(rows)
    if not maps:
        raise unmeasured("health", records, *STATISTICS)
    found = severities(findings)
    if small:
        return saved(_small(rows, maps[:2], found), path)
    height = 2.4 + min(max(0.2 * len(rows.layers), 1.8), 9)
    picture = figure(figsize=(2.2 + 2.7 * len(maps), height), layout="constrained")
    picture.get_layout_engine().set(w_pad=0.1)
    panels = picture.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, shown in zip(panels, maps, strict=True):
        image = shown.draw(axes)
        axes.set_title(shown.title, fontsize="medium")
        step_axis(axes, rows.steps, 5)
        color_bar(picture, axes, image, shown)
    layer_axis(panels[0], rows.layers, found)
    picture.suptitle(_title(rows, found), fontsize="large")
    key(picture, maps, [found[name] for name in rows.layers if name in found])
    return saved(picture, path)


def _maps(rows: Rows) -> list[Map]:
    """Those that have any value, in the order in which one looks at them."""
    if not rows.layers:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        signal = np.log10(rows.signal() / rows.reference)
        norms = rows.of_own_kernels("gradient_norm")
        gradient = np.log10(norms / _usual_gradients(rows))
        update = np.log10(rows.updates() / GUIDE)
    # Of a layer that was seen the spread is known, unless no entry is finite.
    lost = rows.of_layers("nonfinite") > 0
    gone = lost | rows.missing("unit_stddev")
    bad = (rows.of_own_kernels("gradient_nonfinite") > 0) | np.isinf(norms) | np.isposinf(update)
    around = tuple(f"{GUIDE * 10.0**power:.0e}".replace("e-0", "e-") for power in range(-2, 3))
    maps = [
        Map("signal\nstddev of units, over the first layer's", signal, gone, TIMES),
        Map("gradient\nof the kernel, over the median one's", gradient, bad, TIMES),
        Map("update\nover the weights", update, bad, around),
        Map("dead units\nshare", rows.of_layers("dead_share"), lost, None),
        Map("saturated\nshare of entries", rows.of_layers("saturated_share"), lost, None),
    ]
    return [one for one in maps if one.says_something]


def _usual_gradients(rows: Rows) -> Array:
    """The median at each step, of kernels that have a gradient."""
    norms = rows.of_kernels("gradient_norm")
    columns = [column[(column > 0) & (column < np.inf)] for column in norms.T]
    return np.array([np.median(column) if len(column) else np.nan for column in columns])


def draw(
    axes: Any, values: Any, broken: Any, colors: str = "RdBu_r", low: float = -2, high: float = 2
) -> Any:
    """The image of numbers in rows and columns; gray shows through where there is none.

    Broken ones are black, in an image of their own.
    """
    count = values.shape[1]
    values = merged(values, COLUMNS)
    broken = merged(np.asarray(broken, np.float64), COLUMNS) > 0
    # Nothing at all is as far down as can be.
    values = np.where(np.isneginf(values), -99.0, values)
    # Half a step to each side, however many columns have become one.
    extent = (-0.5, count - 0.5, len(values) - 0.5, -0.5)
    options = {"aspect": "auto", "interpolation": "nearest", "extent": extent}
    shown = np.ma.masked_invalid(values)
    image = axes.imshow(shown, cmap=colors, vmin=low, vmax=high, **options)
    if broken.any():
        black = np.ma.masked_where(~broken, np.ones(broken.shape))
        axes.imshow(black, cmap="gray", vmin=1, vmax=2, **options)
    axes.patch.set(**NOTHING)
    return image


def color_bar(picture: Any, axes: Any, image: Any, shown: Map, small: bool = False) -> None:
    """What the colors of a map stand for, below it."""
    apart = 2 if small else 1
    bar = picture.colorbar(image, ax=axes, location="bottom", aspect=18, pad=0.02)
    if shown.ticks is None:
        bar.set_ticks([0, 0.5, 1], labels=["0", "half", "all"])
    else:
        bar.set_ticks(range(-DECADES, DECADES + 1, apart), labels=shown.ticks[::apart])
    bar.ax.tick_params(labelsize="small")


def _title(rows: Rows, found: dict[str, str]) -> str:
    marked = sum(name in found for name in rows.layers)
    named = f", {marked} with findings" if marked else ""
    steps = f"steps {rows.steps[0]} to {rows.steps[-1]}"
    return f"Health of {len(rows.layers)} layers{named}, {steps}: pale is well"


def key(picture: Any, maps: Sequence[Map], found: Collection[str]) -> None:
    """What else there is beside colors."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if any(one.broken.any() for one in maps):
        handles.append(Patch(color="black", label="NaN or infinite"))
    if any((np.isnan(one.values) & ~one.broken).any() for one in maps):
        handles.append(Patch(label="does not apply", **NOTHING))
    for severity in reversed(SEVERITIES):
        if severity in found:
            color, shape = COLORS[severity], SHAPES[severity]
            handles.append(
                Line2D([], [], color=color, marker=shape, linestyle="none", label=severity)
            )
    if handles:
        picture.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)


def _small(rows: Rows, maps: Sequence[Map], found: dict[str, str]) -> Any:
    picture = figure(figsize=SMALL, layout="constrained", dpi=SMALL_DPI)
    picture.get_layout_engine().set(w_pad=0.07)
    panels = picture.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, shown in zip(panels, maps, strict=True):
        image = shown.draw(axes)
        axes.set_title(shown.title.partition("\n")[0], fontsize="medium")
        step_axis(axes, rows.steps, 3)
        axes.set_xlabel("")
        color_bar(picture, axes, image, shown, small=True)
    layer_axis(panels[0], rows.layers, found, most=8, size=SHORT)
    return picture
