"""Picture of the signal and the gradient by layer, measured and predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots.axes import height_of_rows, label_decades, label_layers
from keras_winit.plots.figures import figure, save, text_color
from keras_winit.plots.findings import Findings, worst_severities
from keras_winit.plots.protocols import SignalRow
from keras_winit.plots.tables import Array

PREDICTED = "#2166ac"


@dataclass(frozen=True)
class Panel:
    """One statistic by layer.

    Args:
        title: The title, in two lines.
        field: Name of the measured number in a row.
        predicted: Name of the predicted number. None: there is none.
        span: Range of the axis. None: a log axis that fits the numbers.
    """

    title: str
    field: str
    predicted: str | None = None
    span: tuple[float, float] | None = None


PANELS = (
    Panel("stddev\nof all entries", "stddev", "predicted_stddev"),
    Panel("spread\nstddev between samples", "unit_stddev", "predicted_unit_stddev"),
    Panel("cosine\nbetween two samples", "cosine", "predicted_cosine", (-0.1, 1.05)),
    Panel("gradient\nof an output", "gradient", "predicted_gradient"),
    Panel("dead units\nshare of units", "dead_share", None, (-0.03, 1.03)),
    Panel("saturation\nshare of entries", "saturated_share", None, (-0.03, 1.03)),
)


def signal(
    rows: Sequence[SignalRow], path: str | PathLike[str] | None = None, findings: Findings = ()
) -> Any:
    """Draw the signal and the gradient by layer, measured and as theory predicts them.

    Layers run from top to bottom. Dots are measured, lines are predictions. Panels of which
    nothing is known are left out.

    Args:
        rows: The rows of a `keras_winit.signal_report`.
        path: File for the picture; its ending chooses the format. None: no file.
        findings: Findings of the report. Their layers are marked.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If no statistic is known of any row, or matplotlib does not know the format.
    """
    panels = [panel for panel in PANELS if np.isfinite(_values(rows, panel.field)).any()]
    if not panels:
        raise ValueError(
            "`plots.signal(rows=...)` needs rows with statistics. "
            f"Received: {len(rows)} row{'s' * (len(rows) != 1)} without."
        )
    picture = figure(
        figsize=(2.2 + 2.3 * len(panels), 1.8 + height_of_rows(len(rows))), layout="constrained"
    )
    all_axes = picture.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_panel(axes, panel, rows)
    label_layers(all_axes[0], [row.layer for row in rows], worst_severities(findings))
    _draw_legend(picture, any(_is_predicted(rows, panel) for panel in panels))
    return save(picture, path)


def _values(rows: Sequence[SignalRow], field: str) -> Array:
    return np.array([getattr(row, field) for row in rows], np.float64)


def _is_predicted(rows: Sequence[SignalRow], panel: Panel) -> bool:
    return panel.predicted is not None and bool(np.isfinite(_values(rows, panel.predicted)).any())


def _draw_panel(axes: Any, panel: Panel, rows: Sequence[SignalRow]) -> None:
    depth, values = np.arange(len(rows)), _values(rows, panel.field)
    predicted = (
        np.full(len(rows), np.nan) if panel.predicted is None else _values(rows, panel.predicted)
    )
    if panel.span is not None:
        axes.set_xlim(*panel.span)
    else:
        _set_log_axis(axes, values, predicted)
        left, right = axes.get_xlim()
        values, predicted = np.clip(values, left, right), np.clip(predicted, left, right)
    known = ~np.isnan(predicted)
    axes.plot(predicted[known], depth[known], "-", color=PREDICTED, linewidth=2, alpha=0.8)
    axes.plot(values, depth, "o", color=text_color(), markersize=4)
    axes.set_title(panel.title, fontsize="medium")
    axes.grid(alpha=0.3)


def _set_log_axis(axes: Any, *numbers: Array) -> None:
    """Let a log axis hold all positive numbers, over one decade at least."""
    together = np.concatenate(numbers)
    drawable = together[np.isfinite(together) & (together > 0)]
    low, high = (drawable.min(), drawable.max()) if len(drawable) else (1.0, 1.0)
    middle = np.sqrt(low) * np.sqrt(high)
    axes.set_xscale("log")
    axes.set_xlim(min(low / 1.5, middle / 3.2), max(high * 1.5, middle * 3.2))
    label_decades(axes.xaxis)


def _draw_legend(picture: Any, predicted: bool) -> None:
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {
        "color": text_color(),
        "marker": "o",
        "linestyle": "none",
        "markersize": 4,
    }
    handles = [Line2D([], [], label="measured", **dot)]
    if predicted:
        handles.append(Line2D([], [], color=PREDICTED, linewidth=2, label="predicted by theory"))
    picture.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
