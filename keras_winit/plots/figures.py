"""Figures outside pyplot's global state, and the error of a picture that has nothing to show."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

from keras_winit.plots.protocols import Record

# Size in inches of pictures that TensorBoard shows 330 pixels wide or 220 pixels high. The
# resolution keeps them sharp when they are enlarged.
SMALL = (3.3, 2.2)
SMALL_DPI = 200


class Unmeasured(ValueError):
    """The statistics that a picture shows were not measured."""


def figure(**options: Any) -> Any:
    """Make a matplotlib figure that pyplot does not know of.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Pictures need matplotlib. Install it with `pip install matplotlib`."
        ) from error
    return Figure(**options)


def save(picture: Any, path: str | PathLike[str] | None) -> Any:
    """Save the picture if there is a path, and return it."""
    if path is not None:
        picture.savefig(path, dpi=120)
    return picture


def text_color() -> str:
    """Return the color of text: black, or that of a dark style."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def step_range(steps: Sequence[int]) -> str:
    """Return the first and the last step, for a title."""
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"


def unmeasured(picture: str, records: Sequence[Record], *statistics: str) -> Unmeasured:
    """Return the error of a picture that needs any one of some statistics and has none."""
    *others, last = (f"`{name}`" for name in statistics)
    names = f"{', '.join(others)} or {last}" if others else last
    if not records:
        reason = "."
    elif not any(_has(record, name) for record in records for name in statistics):
        reason = " without. Measure them with `ActivationMonitor(statistics=...)`."
    elif not any(record.layers for record in records):
        reason = " without layers. Choose some with `ActivationMonitor(layers=...)`."
    else:
        reason = " in which all values are NaN."
    plural = "s" * (len(records) != 1)
    return Unmeasured(
        f"`plots.{picture}(records=...)` needs records with {names}. "
        f"Received: {len(records)} record{plural}{reason}"
    )


def _has(record: Record, statistic: str) -> bool:
    if statistic == "histogram":
        return len(record.edges) > 0
    return statistic in (*record.statistics, *record.variable_statistics)
