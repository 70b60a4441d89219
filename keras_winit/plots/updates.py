"""Picture of the updates of the kernels, relative to their weights, over the steps."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots import healthy_ranges
from keras_winit.plots.axes import label_decades, label_steps
from keras_winit.plots.figures import figure, save, text_color, unmeasured
from keras_winit.plots.findings import MARKS, Findings, worst_severities
from keras_winit.plots.labels import layer_labels
from keras_winit.plots.protocols import Record
from keras_winit.plots.tables import Array, Tables

# More lines than this cannot be told apart: their median and their range are drawn instead.
LINES = 12

# Colors of many kernels: their range, their median, and the two extreme kernels.
RANGE_COLOR, MEDIAN_COLOR = "#4575b4", "#313695"
EXTREME_COLORS = {"largest": "#d73027", "smallest": "#542788"}


def updates(
    records: Sequence[Record],
    path: str | PathLike[str] | None = None,
    findings: Findings = (),
) -> Any:
    """Draw how far each step moves the kernels: norm of the update over norm of the weights.

    There is a line for each kernel, the darkest for the first layer. More than 12 kernels are
    drawn as their median, their range, and the two kernels with the largest and the smallest
    ratio at the last step. The dashed line is the rule of thumb, 1e-3 (CS231n). The band is
    the range of healthy training.

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
        ValueError: If no record has an `update_ratio`, or matplotlib does not know the format.
    """
    tables = Tables(records)
    ratios = tables.of_kernels("update_ratio")
    if np.all(np.isnan(ratios)):
        raise unmeasured("updates", records, "update_ratio")
    picture = figure(figsize=(9, 4.8), layout="constrained")
    axes = picture.subplots()
    low, high = healthy_ranges.RANGES["update_too_large"]
    axes.axhspan(
        low, high, color=healthy_ranges.COLOR, alpha=0.15, linewidth=0, label="healthy range"
    )
    rule = f"rule of thumb, {healthy_ranges.UPDATE_TARGET:g}"
    axes.axhline(
        healthy_ranges.UPDATE_TARGET, color=text_color(), linestyle="--", linewidth=1, label=rule
    )
    measured = ~np.all(np.isnan(ratios), axis=1)
    names = [name for name, known in zip(tables.kernels, measured, strict=True) if known]
    draw = _draw_each if len(names) <= LINES else _draw_range
    kernels = draw(axes, layer_labels(names), ratios[measured])
    axes.set_yscale("log")
    label_decades(axes.yaxis)
    axes.set_xlim(-0.5, len(tables.steps) - 0.5)
    label_steps(axes, tables.steps, 10)
    axes.set_ylabel("update norm / weight norm")
    axes.set_title(f"Relative updates of {len(names)} kernel{'s' * (len(names) != 1)}")
    axes.grid(alpha=0.3)
    _draw_legend(picture, [names[kernel] for kernel in kernels], findings)
    return save(picture, path)


def _draw_each(axes: Any, labels: Sequence[str], ratios: Array) -> Sequence[int]:
    """Draw a line for each kernel; return the kernels in the order of the legend."""
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.9, len(labels)))
    for label, color, line in zip(labels, shades, ratios, strict=True):
        # The space keeps labels that start with "_" in the legend.
        axes.plot(line, "o-", color=color, markersize=3, label=f" {label}")
    return range(len(labels))


def _draw_range(axes: Any, labels: Sequence[str], ratios: Array) -> Sequence[int]:
    """Draw range, median and extreme kernels; return the kernels in the order of the legend."""
    columns = np.arange(ratios.shape[1])
    known = ~np.all(np.isnan(ratios), axis=0)
    columns, ratios = columns[known], ratios[:, known]
    low, median, high = (reduce(ratios, axis=0) for reduce in (np.nanmin, np.nanmedian, np.nanmax))
    axes.fill_between(
        columns, low, high, color=RANGE_COLOR, alpha=0.3, label="range of all kernels"
    )
    axes.plot(columns, median, "o-", color=MEDIAN_COLOR, markersize=3, label="median")
    last = ratios[:, -1]
    extremes = {"largest": int(np.nanargmax(last)), "smallest": int(np.nanargmin(last))}
    for word, kernel in extremes.items():
        label = f"{word} at the end: {labels[kernel]}"
        axes.plot(
            columns, ratios[kernel], "o-", color=EXTREME_COLORS[word], markersize=3, label=label
        )
    return list(extremes.values())


def _draw_legend(picture: Any, kernels: Sequence[str], findings: Findings) -> None:
    """Draw the legend, which ends with the given kernels, and mark those with findings."""
    severities = worst_severities(findings)
    legend = picture.legend(loc="outside right upper", fontsize="small", frameon=False)
    texts = legend.get_texts()
    for text in texts:
        text.set_parse_math(False)
    for text, kernel in zip(texts[-len(kernels) :], kernels, strict=True):
        severity = severities.get(kernel.rpartition("/")[0])
        if severity is not None:
            text.set(color=MARKS[severity].color, fontweight="bold")
