"""Sums up the measured rows: as a table, as the exceptions of `auto`, and as a picture."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_winit.plots.figures import figure, save
from trainability_cases.protocol import SETTINGS, THRESHOLD

Row = dict[str, Any]

# Colors of Okabe and Ito, which color-blind people can tell apart, and markers.
STYLES = (
    ("#999999", "o"),
    ("#e69f00", "s"),
    ("#56b4e9", "^"),
    ("#cc79a7", "D"),
    ("#f0e442", "v"),
    ("#d55e00", "P"),
    ("#0072b2", "X"),
    ("#009e73", "<"),
    ("#882255", ">"),
)
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


def draw(rows: Sequence[Row], path: Path, part: str = "mlp") -> Any:
    """Draw the share of networks and settings that train against depth, a line for each start."""
    rows = [row for row in rows if "scores" in row and row["part"] == part]
    picture = figure(figsize=(7, 4), layout="constrained")
    axes = picture.subplots()
    starts = sorted({row["start"] for row in rows}, key=lambda start: start == "auto")
    for start, (color, marker) in zip(starts, itertools.cycle(STYLES)):
        is_auto = start == "auto"
        chosen = sorted(
            _grouped([row for row in rows if row["start"] == start], "depth"),
            key=lambda group: group[0],
        )
        axes.plot(
            [depth for (depth,), _ in chosen],
            [100 * share_that_trains(group) for _, group in chosen],
            color="#000000" if is_auto else color,
            marker="o" if is_auto else marker,
            linewidth=2.5 if is_auto else 1.2,
            label="keras_winit.reinitialize(model)" if is_auto else start,
        )
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
