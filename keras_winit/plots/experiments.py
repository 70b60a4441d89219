"""Pictures of what the experiments measured, drawn with matplotlib."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.experiments import Propagation
from keras_winit.plots.base import figure, saved

# As many histograms side by side as can be told apart.
PANELS = 10

# Bars of a histogram, over the range of all layers of a result.
BARS = 60


def propagation(
    results: Propagation | Sequence[Propagation], path: str | PathLike[str] | None = None
) -> Any:
    """Draw experiments the way the notes do: means, standard deviations, histograms.

    The upper row shows mean and standard deviation by layer, a line for each result.
    Below, each result has a row with the histogram of every layer, of evenly chosen ones
    if there are more than ten; all histograms of a row share the horizontal axis.

    Args:
        results: What `propagate` returned, or several of it.
        path: Where to save the picture; the ending chooses the format. None: nowhere.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If there are no results, or matplotlib knows no such format.
    """
    results = [results] if isinstance(results, Propagation) else list(results)
    if not results:
        raise ValueError("`plots.propagation(results=...)` needs a result. Received: none.")
    picture = figure(figsize=(12, 3.2 + 1.9 * len(results)), layout="constrained")
    curves, *rows = picture.subfigures(
        1 + len(results), 1, height_ratios=[3] + [1.8] * len(results)
    )
    _curves(curves, results)
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        _histograms(row, result, f"C{number}")
    return saved(picture, path)


def _label(result: Propagation) -> str:
    normalized = " + batch normalization" if result.batch_normalization else ""
    return f"{result.initializer}{normalized}, {result.activation}"


def _curves(area: Any, results: Sequence[Propagation]) -> None:
    mean, stddev = area.subplots(1, 2)
    for result in results:
        numbers = range(1, len(result.layers) + 1)
        mean.plot(numbers, [layer.mean for layer in result.layers], "o-", label=_label(result))
        stddev.plot(numbers, [layer.stddev for layer in result.layers], "o-")
    mean.set(title="mean of the layer's output", xlabel="layer")
    stddev.set(title="standard deviation of the layer's output", xlabel="layer")
    layers = [layer for result in results for layer in result.layers]
    spread = [layer.stddev for layer in layers if 0 < layer.stddev < np.inf]
    # The noise of a mean near zero must not fill the panel.
    reach = 1.2 * max(abs(bound) for bound in (*mean.get_ylim(), max(spread, default=0) / 2))
    mean.set_ylim(-reach, reach)
    if spread and max(spread) > 10 * min(spread):
        stddev.set_yscale("log")
    else:
        stddev.set_ylim(bottom=0)
    for axes in (mean, stddev):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    mean.legend(fontsize="small")


def _histograms(area: Any, result: Propagation, color: str) -> None:
    count = len(result.layers)
    chosen = sorted({round(i) for i in np.linspace(0, count - 1, min(count, PANELS))})
    panels = area.subplots(1, len(chosen), sharex=True, squeeze=False)[0]
    area.suptitle(_label(result), fontsize="medium")
    layers = [result.layers[index] for index in chosen]
    low = min(layer.edges[0] for layer in layers)
    high = max(layer.edges[-1] for layer in layers)
    edges = np.linspace(low, high, BARS + 1)
    for panel, index, layer in zip(panels, chosen, layers, strict=True):
        # Bars of one width for all layers: what shrinks to nothing stays visible.
        below = np.interp(edges, layer.edges, np.cumsum([0, *layer.counts]))
        panel.stairs(np.diff(below), edges, fill=True, color=color)
        panel.set_title(f"layer {index + 1}", fontsize="small")
        panel.set_yticks([])
        panel.tick_params(labelsize="x-small")


def kernel(values: Any, path: str | PathLike[str] | None = None, label: str = "") -> Any:
    """Draw how the values of a kernel are spread: their histogram.

    Args:
        values: An array of any shape.
        path: Where to save the picture; the ending chooses the format. None: nowhere.
        label: The title, to which shape, mean and standard deviation are added.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If there are no values, or matplotlib knows no such format.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("`plots.kernel(values=...)` needs values. Received: none.")
    picture = figure(figsize=(6, 3.6), layout="constrained")
    axes = picture.subplots()
    counts, edges = np.histogram(values, BARS)
    axes.stairs(counts, edges, fill=True)
    # Where most values are zero the others would not be seen.
    if counts.max() > 20 * np.sort(counts)[-2] > 0:
        axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="value", ylabel="count")
    title = f"{label} {values.shape}: mean {values.mean():.2g}, stddev {values.std():.4g}"
    axes.set_title(title.strip(), fontsize="medium")
    axes.grid(alpha=0.3)
    return saved(picture, path)
