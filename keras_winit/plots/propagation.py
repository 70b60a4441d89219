"""Picture of a signal in a stack of layers: means, standard deviations and histograms."""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots.figures import figure, save
from keras_winit.plots.protocols import Propagation

# Largest number of histograms side by side.
PANELS = 10

# Bars of a histogram, over the range of all layers of a result.
BARS = 60


def propagation(
    results: Propagation | Iterable[Propagation], path: str | PathLike[str] | None = None
) -> Any:
    """Draw results of `propagate` as the lecture notes do.

    The top row shows the mean and the standard deviation by layer, a line for each result.
    Below, each result has a row with the histograms of its layers, which share the horizontal
    axis. Of more than ten layers, ten are drawn, evenly spaced.

    Args:
        results: A result of `propagate`, or several.
        path: File for the picture; its ending chooses the format. None: no file.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If there are no results, or matplotlib does not know the format.
    """
    results = list(results) if isinstance(results, Iterable) else [results]
    if not results:
        raise ValueError("`plots.propagation(results=...)` needs a result. Received: none.")
    picture = figure(figsize=(12, 3.2 + 1.9 * len(results)), layout="constrained")
    top, *rows = picture.subfigures(1 + len(results), 1, height_ratios=[3] + [1.8] * len(results))
    _draw_moments(top, results)
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        _draw_histograms(row, result, f"C{number}")
    return save(picture, path)


def _label(result: Propagation) -> str:
    normalized = " + batch normalization" if result.batch_normalization else ""
    return f"{result.initializer}{normalized}, {result.activation}"


def _draw_moments(area: Any, results: Sequence[Propagation]) -> None:
    mean, stddev = area.subplots(1, 2)
    for number, result in enumerate(results):
        # The first lines are the thickest, so that a later one that is equal does not hide them.
        later = len(results) - 1 - number
        style = {"marker": "o", "linewidth": 1.5 + later, "markersize": 6 + 2 * later}
        numbers = range(1, len(result.layers) + 1)
        means = [layer.mean for layer in result.layers]
        mean.plot(numbers, means, label=_label(result), **style)
        stddev.plot(numbers, [layer.stddev for layer in result.layers], **style)
    mean.set(title="mean of the layer output", xlabel="layer")
    stddev.set(title="standard deviation of the layer output", xlabel="layer")
    layers = [layer for result in results for layer in result.layers]
    stddevs = [layer.stddev for layer in layers if 0 < layer.stddev < np.inf]
    # Means near zero are noise, which must not fill the panel.
    reach = 1.2 * max(abs(bound) for bound in (*mean.get_ylim(), max(stddevs, default=0) / 2))
    mean.set_ylim(-reach, reach)
    if stddevs and max(stddevs) > 10 * min(stddevs):
        stddev.set_yscale("log")
    else:
        stddev.set_ylim(bottom=0)
    for axes in (mean, stddev):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    mean.legend(fontsize="small")


def _draw_histograms(area: Any, result: Propagation, color: str) -> None:
    count = len(result.layers)
    chosen = sorted({round(place) for place in np.linspace(0, count - 1, min(count, PANELS))})
    panels = area.subplots(1, len(chosen), sharex=True, squeeze=False)[0]
    area.suptitle(_label(result), fontsize="medium")
    layers = [result.layers[place] for place in chosen]
    low = min(layer.edges[0] for layer in layers)
    high = max(layer.edges[-1] for layer in layers)
    edges = np.linspace(low, high, BARS + 1)
    for panel, place, layer in zip(panels, chosen, layers, strict=True):
        # All layers have bars of the same width, so that a signal that fades stays visible.
        cumulated = np.interp(edges, layer.edges, np.cumsum([0, *layer.counts]))
        panel.stairs(np.diff(cumulated), edges, fill=True, color=color)
        panel.set_title(f"layer {place + 1}", fontsize="small")
        panel.set_yticks([])
        panel.tick_params(labelsize="x-small")
