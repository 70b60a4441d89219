"""Sums up the measured rows: as a table, as the exceptions of `auto`, and as a picture."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_winit.plots.figures import figure, save, text_color
from trainability_cases.protocol import SETTINGS, THRESHOLD

Row = dict[str, Any]

# Colors of Okabe and Ito, which color-blind people can tell apart and which show on white and on
# black; where one serves twice, the lines differ. Each start has its own marker.
STYLES = {
    "Keras' default": ("#999999", "o", "-"),
    "Keras' He": ("#e69f00", "s", "-"),
    "torch's default": ("#56b4e9", "^", "-"),
    "orthogonal": ("#cc79a7", "D", "-"),
    "identity": ("#e69f00", "v", "--"),
    "noisy identity": ("#56b4e9", "v", "--"),
    "analytic_init": ("#d55e00", "P", "-"),
    "lsuv": ("#0072b2", "X", "-"),
    "looks-linear": ("#009e73", "<", "-"),
    "near-linear": ("#009e73", ">", "--"),
}
HEADING = "accuracy by setting, mean of the seeds   median steps to 0.9"


def read_rows(file: Path) -> list[Row]:
    """Return the rows that were measured; none if there is no file."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table."""
    rows = [row for row in rows if "scores" in row]
    lines = [f"settings: {', '.join(name for name, *_ in SETTINGS)}", ""]
    lines += [*_shares(rows), "", *_exceptions(rows)]
    for (part, depth), networks in _grouped(rows, "part", "depth"):
        lines += ["", f"{part + ', depth ' + str(depth):40s} {HEADING}"]
        for _, starts in _grouped(networks, "name"):
            marks = _marks(starts)
            lines += [
                f"{row['name']:22s} {row['start']:17s} {_scores(row)}   {_steps(row)}   {mark}"
                for row, mark in zip(starts, marks, strict=True)
            ]
    return lines


def share_that_trains(rows: Sequence[Row]) -> float:
    """Return the share of the settings of some rows in which the network trains."""
    return float(np.mean([means(row) >= THRESHOLD for row in rows]))


def means(row: Row) -> Any:
    """Return the mean score of the seeds in each setting."""
    return np.mean(row["scores"], axis=1)


def difference(best: Row, row: Row) -> tuple[float, float]:
    """Return by how much the mean of all settings is below the best one's.

    The second value is the standard error of the difference, over the seeds; NaN if there is
    only one seed.
    """
    by_seed = [np.mean(each["scores"], axis=0) for each in (best, row)]
    gap = float(by_seed[0].mean() - by_seed[1].mean())
    count = len(by_seed[0])
    if count == 1:
        return gap, math.nan
    return gap, math.sqrt(sum(each.var(ddof=1) for each in by_seed) / count)


def _grouped(rows: Sequence[Row], *keys: str) -> Iterator[tuple[Any, list[Row]]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return iter(groups.items())


def _networks(rows: Sequence[Row]) -> Iterator[tuple[Any, list[Row]]]:
    return _grouped(rows, "part", "depth", "name")


def _best(starts: Sequence[Row]) -> Row:
    return max(starts, key=lambda row: means(row).mean())


def _marks(starts: Sequence[Row]) -> list[str]:
    best = _best(starts)
    marks = []
    for row in starts:
        gap, error = difference(best, row)
        marks.append("best" if row is best else "as good" if gap <= error else "")
    return marks


def _scores(row: Row) -> str:
    return " ".join(f"{score:5.3f}" for score in means(row))


def _steps(row: Row) -> str:
    """Format the median steps, of settings in which all seeds reach the threshold."""
    shown = ["   -" if None in steps else f"{np.median(steps):4.0f}" for steps in row["steps"]]
    return " ".join(shown)


def _shares(rows: Sequence[Row]) -> list[str]:
    """Return, for each part and depth, the share of settings in which each start trains."""
    starts = list(dict.fromkeys(row["start"] for row in rows))
    lines = [
        f"share of networks and settings that train to {THRESHOLD}",
        " " * 19 + " ".join(f"{start:>15s}" for start in starts),
    ]
    for (part, depth), group in _grouped(rows, "part", "depth"):
        cells = []
        for start in starts:
            chosen = [row for row in group if row["start"] == start]
            cell = f"{share_that_trains(chosen):.2f} of {len(chosen):2d}" if chosen else "-"
            cells.append(f"{cell:>15s}")
        lines.append(f"{part:13s} {depth:4d} {' '.join(cells)}")
    return lines


def _exceptions(rows: Sequence[Row]) -> list[str]:
    """Return how `auto` compares with the best start of each network, and each exception."""
    compared, behind, failed, cells = 0, [], [], 0
    for (part, depth, name), starts in _networks(rows):
        auto = next((row for row in starts if row["start"] == "auto"), None)
        if auto is None or len(starts) == 1:
            continue
        compared += 1
        network, best = f"{part} {depth} {name}", _best(starts)
        gap, error = difference(best, auto)
        if not (best is auto or gap <= error):
            behind.append(f"    {network}: {gap:.3f} ± {error:.3f} behind {best['start']}")
        others = np.array([means(row) for row in starts if row is not auto])
        for index, (setting, *_) in enumerate(SETTINGS):
            cells += 1
            if others[:, index].max() >= THRESHOLD > means(auto)[index]:
                scores = f"{means(auto)[index]:.3f}, best other {others[:, index].max():.3f}"
                failed.append(f"    {network}, {setting}: {scores}")
    return [
        f"auto is best or within one standard error of the best for {compared - len(behind)} of "
        f"{compared} networks (mean of all settings); the others:",
        *behind,
        f"another start trains and auto does not in {len(failed)} of {cells} settings:",
        *failed,
    ]


def draw_in_both_styles(rows: Sequence[Row], path: Path) -> None:
    """Draw for light pages into `path`, and for dark ones into a file whose name ends in -dark."""
    import matplotlib.style

    for ending, style in (("", "default"), ("-dark", "dark_background")):
        with matplotlib.style.context(style):
            draw(rows, path.with_stem(path.stem + ending))


def draw(rows: Sequence[Row], path: Path, part: str = "mlp") -> Any:
    """Draw the share of networks and settings that train against depth, a line for each start.

    A depth of a start has a point only if every network there that any start was measured with
    has a row of this start, so that all points of a depth are comparable.
    """
    rows = [row for row in rows if row["part"] == part]
    picture = figure(figsize=(8, 4), layout="constrained")
    axes = picture.subplots()
    for start, (color, marker, dashes) in STYLES.items():
        _draw_line(axes, rows, start, color=color, marker=marker, linestyle=dashes, linewidth=1.2)
    # This line is drawn last, so that it lies on top.
    _draw_line(axes, rows, "auto", color=text_color(), marker="o", linewidth=2.5)
    depths = sorted({row["depth"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.minorticks_off()
    axes.set(
        xlabel="hidden layers",
        ylabel=f"% of networks and settings\nthat train to {THRESHOLD}",
        ylim=(-3, 103),
    )
    axes.set_title("Plain MLPs on digits: activations x optimizer settings", fontsize="medium")
    axes.grid(alpha=0.3)
    picture.legend(loc="outside right center", fontsize="small", frameon=False)
    return save(picture, path)


def _draw_line(axes: Any, rows: Sequence[Row], start: str, **style: Any) -> None:
    """Draw the line of a start, unless it has a point at one of several depths only."""
    points, label = [], "keras_winit.reinitialize(model)" if start == "auto" else start
    for (depth,), group in sorted(_grouped(rows, "depth")):
        own = [row for row in group if row["start"] == start]
        accepted = [row for row in own if "scores" in row]
        networks = {row["name"] for row in group}
        if accepted and {row["name"] for row in own} == networks:
            points.append((depth, 100 * share_that_trains(accepted)))
            if len(accepted) < len(networks):
                label = f"{start} ({len(accepted)} of {len(networks)} activations)"
    fewest = 1 if len({row["depth"] for row in rows}) == 1 else 2
    if len(points) >= fewest:
        axes.plot(*zip(*points, strict=True), label=label, **style)
