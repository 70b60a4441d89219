"""What all pictures share: figures, axes of layers and of steps, marks of what was found."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_winit.monitor.diagnosis.findings import shortened
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES

# Labels that can be told apart along the layers, and along the steps.
LABELS = 50
TICKS = 6

# In inches, of pictures that TensorBoard shows 330 pixels wide, or 220 high; they are sharp when
# they are enlarged.
SMALL = (3.3, 2.2)
SMALL_DPI = 200

# The longest label of a layer, of which the end is kept; and where there is little room.
NAME = 28
SHORT = 12

# Readable without telling red from green; what is found has a shape as well.
COLORS = {"error": "#b2182b", "warning": "#d95f02", "info": "#636363"}
SHAPES = {"error": "X", "warning": "^", "info": "o"}
HEALTHY = "#4d9221"


class Unmeasured(ValueError):
    """There is nothing to draw: what a picture shows was not measured."""


def figure(**options: Any) -> Any:
    """A matplotlib figure of its own, outside pyplot's global state.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install matplotlib") from error
    return Figure(**options)


def ink() -> str:
    """The color of text: black, or that of a dark style."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def saved(picture: Any, path: str | PathLike[str] | None) -> Any:
    """The picture, which now is in a file as well if there is a path."""
    if path is not None:
        picture.savefig(path, dpi=120)
    return picture


def unmeasured(picture: str, samples: Sequence[Any], *statistics: str) -> Unmeasured:
    """The error of a picture that needs one of some statistics: which of it is missing."""
    names = " or ".join(f"`{name}`" for name in statistics)
    asked = any(
        name in (*one.statistics, *one.variable_statistics, *(["histogram"] * len(one.edges)))
        for one in samples
        for name in statistics
    )
    if not samples:
        why = "."
    elif not asked:
        why = " without. Ask for them with `ActivationMonitor(statistics=...)`."
    elif not any(sample.layers for sample in samples):
        why = " without layers. Choose some with `ActivationMonitor(layers=...)`."
    else:
        why = " in which none of them is a number."
    return Unmeasured(
        f"`plots.{picture}(samples=...)` needs samples with {names}. "
        f"Received: {len(samples)} samples{why}"
    )


def labels(names: Sequence[str], most: int = NAME) -> list[str]:
    """Names as short as they may be: without the model's, the end of what is long."""
    if most <= SHORT:
        names = [name.rpartition("/")[2] for name in names]
    heads = {name.partition("/")[0] for name in names}
    prefix = f"{heads.pop()}/" if len(heads) == 1 else ""
    return [shortened(name.removeprefix(prefix), most) for name in names]


def spaced(count: int, most: int, first: Iterable[int] = ()) -> list[int]:
    """Evenly spaced places out of `count`, about `most`; those in `first` if there is room."""
    apart = -(-count // most)
    chosen: list[int] = []
    for place in (*first, *range(0, count, apart)):
        if all(abs(place - other) >= apart for other in chosen):
            chosen.append(place)
    return sorted(chosen)


def layer_axis(
    axes: Any, names: Sequence[str], found: Mapping[str, str], most: int = LABELS, size: int = NAME
) -> None:
    """Label the rows of an axes from top to bottom and mark those with findings."""
    from matplotlib.transforms import offset_copy

    marked = [row for row, layer in enumerate(names) if layer in found]
    marked.sort(key=lambda row: -SEVERITIES.index(found[names[row]]))
    places = spaced(len(names), most, marked)
    short = labels(names, size)
    axes.set_yticks(places, [short[row] for row in places], parse_math=False)
    axes.tick_params(axis="y", labelsize="small", pad=9 if marked else 3)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for label, row in zip(axes.get_yticklabels(), places, strict=True):
        if names[row] in found:
            label.set(color=COLORS[found[names[row]]], fontweight="bold")
    left = offset_copy(axes.get_yaxis_transform(), axes.figure, x=-8, units="points")
    for row in marked:
        style = {"color": COLORS[found[names[row]]], "marker": SHAPES[found[names[row]]]}
        axes.plot([0], [row], markersize=5, transform=left, clip_on=False, label="_", **style)


def step_axis(axes: Any, steps: Sequence[int], most: int = TICKS) -> None:
    """Label the columns of an axes with steps, which need not be evenly spaced."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), most)).round().astype(int))
    axes.set_xticks(places, [str(steps[place]) for place in places])
    axes.set_xlabel("step")


def few_ticks(axis: Any) -> None:
    """On a log axis whole decades, so many as have room; round numbers where there is but one."""
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
