"""Axes of pictures: layers from top to bottom, steps from left to right, decades."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_winit.plots.findings import MARKS
from keras_winit.plots.labels import LONGEST, evenly_spaced, layer_labels

# Largest number of labels along the axis of layers.
LAYER_LABELS = 50


def height_of_rows(count: int) -> float:
    """Return the height in inches of an axes with a row for each layer."""
    return min(max(0.2 * count, 1.8), 9)


def label_layers(
    axes: Any,
    names: Sequence[str],
    severities: Mapping[str, str],
    limit: int = LAYER_LABELS,
    length: int = LONGEST,
) -> None:
    """Label the rows with layers, from top to bottom, and mark those with findings.

    Args:
        axes: Matplotlib axes with a row for each layer.
        names: Names of the layers.
        severities: The worst severity in each layer that has findings.
        limit: The most labels; layers with findings come first.
        length: The longest label in characters.
    """
    from matplotlib.transforms import offset_copy

    marked = [row for row, name in enumerate(names) if name in severities]
    marked.sort(key=lambda row: list(MARKS).index(severities[names[row]]))
    rows = evenly_spaced(len(names), limit, marked)
    labels = layer_labels(names, length)
    axes.set_yticks(rows, [labels[row] for row in rows], parse_math=False)
    axes.tick_params(axis="y", labelsize="small", pad=9 if marked else 3)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if names[row] in severities:
            label.set(color=MARKS[severities[names[row]]].color, fontweight="bold")
    left_of_axes = offset_copy(axes.get_yaxis_transform(), axes.figure, x=-8, units="points")
    for row in marked:
        mark = MARKS[severities[names[row]]]
        axes.plot(
            [0],
            [row],
            color=mark.color,
            marker=mark.marker,
            markersize=5,
            transform=left_of_axes,
            clip_on=False,
            label="_",
        )


def label_steps(axes: Any, steps: Sequence[int], limit: int) -> None:
    """Label at most `limit` columns with their steps, which need not be evenly spaced."""
    count = min(len(steps), limit)
    columns = np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int))
    axes.set_xticks(columns, [str(steps[column]) for column in columns])
    axes.set_xlabel("step")


def label_decades(axis: Any) -> None:
    """Label a log axis at a few whole decades, or at round numbers if it spans one at most."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    low, high = sorted(axis.get_view_interval())
    decades = LogLocator(numticks=5)
    finer = LogLocator(subs=(1, 2, 5)), MaxNLocator(4, steps=[1, 2, 5, 10])
    for locator in (decades, *finer):
        axis.set_major_locator(locator)
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) > 1:
            break
    if locator is not decades:
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
