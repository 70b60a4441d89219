"""Picture of the values of a kernel, as a histogram."""

from os import PathLike
from typing import Any

import numpy as np

from keras_winit.plots.figures import figure, save

BARS = 60


def kernel(values: Any, path: str | PathLike[str] | None = None, label: str = "") -> Any:
    """Draw the histogram of the values of a kernel.

    Args:
        values: An array of any shape.
        path: File for the picture; its ending chooses the format. None: no file.
        label: Beginning of the title. Shape, mean and standard deviation follow. Defaults to
            nothing.

    Returns:
        The matplotlib figure.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
        ValueError: If there are no values, or matplotlib does not know the format.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("`plots.kernel(values=...)` needs values. Received: none.")
    picture = figure(figsize=(6, 3.6), layout="constrained")
    axes = picture.subplots()
    counts, edges = np.histogram(values, BARS)
    axes.stairs(counts, edges, fill=True)
    # If most values are zero, a linear axis would hide the others.
    if counts.max() > 20 * np.sort(counts)[-2] > 0:
        axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="value", ylabel="count")
    title = f"{label} {values.shape}: mean {values.mean():.2g}, stddev {values.std():.4g}"
    axes.set_title(title.strip(), fontsize="medium")
    axes.grid(alpha=0.3)
    return save(picture, path)
