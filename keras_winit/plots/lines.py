"""Lines by depth, and by step: profiles of the layers, and how far updates go."""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.monitor.diagnosis.findings import severities
from keras_winit.monitor.diagnosis.rules import (
    DeadUnits,
    ExplodingForward,
    Saturated,
    UpdateTooLarge,
    VanishingBackward,
    VanishingForward,
)
from keras_winit.monitor.records import Record
from keras_winit.plots.base import (
    COLORS,
    HEALTHY,
    few_ticks,
    figure,
    ink,
    labels,
    layer_axis,
    saved,
    step_axis,
    unmeasured,
)
from keras_winit.plots.maps import GUIDE
from keras_winit.plots.rows import Array, Rows, healthy

# More lines than this blur: their median and range are drawn instead.
LINES = 12

PROFILE = ("unit_stddev", "gradient_norm", "dead_share", "saturated_share")


def profile(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Iterable[Any] = (),
) -> Any:
    """Draw the first step by depth, each number beside the range of healthy training.

    The spread of a layer's units is well between 0.064 of the reference of `plots.health`
    and 1.3, a kernel's gradient from 0.008 of the largest on; of units up to 0.385 may be
    dead, of entries 0.06 saturated. All these are what rules give as `healthy`. Numbers
    beyond are red crosses.

    Args:
        records: Of a monitor's history.
        path: Where to save the picture; the ending chooses the format. None: nowhere.
        findings: Of the monitor, or as writers get them: their layers are marked.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If nothing of this was measured, or matplotlib knows no such format.
    """
    rows = Rows(records[:1])
    shown = _first_step(rows) if rows.layers else []
    if not shown:
        raise unmeasured("profile", records, *PROFILE)
    height = 1.8 + min(max(0.2 * len(rows.layers), 1.8), 9)
    picture = figure(figsize=(2.2 + 2.8 * len(shown), height), layout="constrained")
    panels = picture.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    outside = 0
    for axes, (title, values, (low, high), share) in zip(panels, shown, strict=True):
        outside += _panel(axes, values, low, high, share)
        axes.set_title(title, fontsize="medium")
    layer_axis(panels[0], rows.layers, severities(findings))
    plural = "s" * (outside != 1)
    words = f"{outside} value{plural} outside the healthy range" if outside else "all healthy"
    picture.suptitle(
        f"{len(rows.layers)} layers at step {rows.steps[0]}: {words}", fontsize="large"
    )
    _profile_key(picture, bool(outside))
    return saved(picture, path)


def _first_step(rows: Rows) -> list[tuple[str, Array, tuple[float, float], bool]]:
    """Title, values, healthy range, and whether these are shares."""
    low, _ = healthy(VanishingForward)
    _, high = healthy(ExplodingForward)
    least, _ = healthy(VanishingBackward)
    # What is not finite stands where infinity does.
    gone, bad = rows.missing("unit_stddev"), rows.of_own_kernels("gradient_nonfinite") > 0
    signal = np.where(gone, np.inf, rows.signal())[:, 0]
    gradients = np.where(bad, np.inf, rows.of_own_kernels("gradient_norm"))[:, 0]
    gradients = gradients / max(gradients[(gradients > 0) & (gradients < np.inf)], default=1.0)
    shown = [
        ("signal\nstddev of units", signal, (low * rows.reference, high), False),
        ("gradient\nof the kernel, over the largest", gradients, (least, 1.0), False),
        ("dead units\nshare", rows.of_layers("dead_share")[:, 0], healthy(DeadUnits), True),
        (
            "saturated\nshare of entries",
            rows.of_layers("saturated_share")[:, 0],
            healthy(Saturated),
            True,
        ),
    ]
    return [one for one in shown if not np.all(np.isnan(one[1]))]


def _panel(axes: Any, values: Array, low: float, high: float, share: bool) -> int:
    """Draw one; gives how many numbers lie outside of the healthy range."""
    depth = np.arange(len(values))
    known = ~np.isnan(values)
    # What is nothing, or more than anything, stands at the edge.
    if share:
        axes.set_xlim(-0.03, 1.03)
        drawn = values
    else:
        sizes = values[np.isfinite(values) & (values > 0)]
        left, right = min([low, *sizes]) / 3, max([high, *sizes]) * 3
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        few_ticks(axes.xaxis)
        drawn = np.clip(values, left, right)
    bad = known & ~((values >= low) & (values <= high))
    axes.axvspan(low, high, color=HEALTHY, alpha=0.15, linewidth=0, label="healthy")
    axes.plot(drawn[known], depth[known], "-", color="0.5", linewidth=1)
    axes.plot(drawn[known & ~bad], depth[known & ~bad], "o", color=ink(), markersize=4)
    # Of nothing the layout would not know where it is.
    if np.any(bad):
        cross = {"color": COLORS["error"], "markersize": 7, "clip_on": False}
        axes.plot(drawn[bad], depth[bad], "X", **cross)
    axes.grid(alpha=0.3)
    return int(bad.sum())


def _profile_key(picture: Any, outside: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=HEALTHY, alpha=0.3, label="range of healthy training")]
    if outside:
        color = COLORS["error"]
        handles.append(Line2D([], [], color=color, marker="X", linestyle="none", label="outside"))
    picture.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def updates(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Iterable[Any] = (),
) -> Any:
    """Draw how far each step moves the kernels: norm of the update over that of the weights.

    A line for each kernel, the first layer's the darkest; of more than 12 the median, the
    range, and the two that are the farthest out in the end. The dashed line is the guide of
    1e-3 (CS231n), the band what healthy training shows.

    Args:
        records: Of a monitor's history.
        path: Where to save the picture; the ending chooses the format. None: nowhere.
        findings: Of the monitor, or as writers get them: their layers are marked.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If no record has an `update_ratio`, or matplotlib knows no such format.
    """
    rows = Rows(records)
    ratios = rows.of_kernels("update_ratio")
    if np.all(np.isnan(ratios)):
        raise unmeasured("updates", records, "update_ratio")
    picture = figure(figsize=(9, 4.8), layout="constrained")
    axes = picture.subplots()
    low, high = healthy(UpdateTooLarge)
    axes.axhspan(low, high, color=HEALTHY, alpha=0.15, linewidth=0, label="healthy training")
    axes.axhline(GUIDE, color=ink(), linestyle="--", linewidth=1, label=f"guide, {GUIDE:g}")
    moving = ~np.all(np.isnan(ratios), axis=1)
    names = [name for name, moves in zip(rows.kernels, moving, strict=True) if moves]
    short = labels(names)
    draw = _each if len(names) <= LINES else _range
    drawn = draw(axes, short, ratios[moving])
    axes.set_yscale("log")
    few_ticks(axes.yaxis)
    axes.set_xlim(-0.5, len(rows.steps) - 0.5)
    step_axis(axes, rows.steps, 10)
    axes.set_ylabel("norm of the update / norm of the weights")
    axes.set_title(f"What a step changes in {len(names)} kernels")
    axes.grid(alpha=0.3)
    legend = picture.legend(loc="outside right upper", fontsize="small", frameon=False)
    found = severities(findings)
    for text in legend.get_texts():
        text.set_parse_math(False)
    for text, place in zip(legend.get_texts()[-len(drawn) :], drawn, strict=True):
        severity = found.get(names[place].rpartition("/")[0])
        if severity is not None:
            text.set(color=COLORS[severity], fontweight="bold")
    return saved(picture, path)


def _each(axes: Any, names: Sequence[str], ratios: Array) -> Sequence[int]:
    """Draw them all; gives whose lines come last in the legend."""
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for name, color, line in zip(names, shades, ratios, strict=True):
        # What starts with "_" would be left out of the legend.
        axes.plot(line, "o-", color=color, markersize=3, label=f" {name}")
    return range(len(names))


def _range(axes: Any, names: Sequence[str], ratios: Array) -> Sequence[int]:
    """Draw what they have in common and the two that are farthest out; gives these."""
    columns = np.arange(ratios.shape[1])
    known = ~np.all(np.isnan(ratios), axis=0)
    columns, ratios = columns[known], ratios[:, known]
    low, middle, high = (bound(ratios, axis=0) for bound in (np.nanmin, np.nanmedian, np.nanmax))
    axes.fill_between(columns, low, high, color="#4575b4", alpha=0.3, label="all kernels")
    axes.plot(columns, middle, "o-", color="#313695", markersize=3, label="median")
    last = ratios[:, -1]
    ends = {"largest": int(np.nanargmax(last)), "smallest": int(np.nanargmin(last))}
    for (word, place), color in zip(ends.items(), ("#d73027", "#542788"), strict=True):
        axes.plot(
            columns, ratios[place], "o-", color=color, markersize=3, label=f"{word}: {names[place]}"
        )
    return list(ends.values())
