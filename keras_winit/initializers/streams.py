"""Portable random streams: the same numbers on every backend and for any thread count.

A stream is addressed, not advanced: seed, draw, purpose and chunk name the counters of a
Philox generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), so a
part of a kernel is drawn without the rest, and no two things share a counter. No global
generator is read or moved.
"""

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.placement import Array, Part, Shape, empty, part_shape

# Entries, or subset draws, from one counter on. Part of the format: changing it changes
# the weights behind every seed. 512 KiB of float32 stay in a core's cache.
CHUNK = 1 << 17

# Subsets up to this size are drawn for all columns at once, larger ones one by one.
LISTED = 128

# What is drawn; each has counters of its own.
VALUES, ROWS = 0, 1

Unit = Callable[[np.random.Generator, npt.NDArray[np.float32]], None]


@dataclass(frozen=True)
class Stream:
    """The random numbers behind one call of an initializer.

    Args:
        seed: From 0 to 2**64 - 1.
        draw: 0 for a fixed seed; 1, 2, ... for the calls that share a `SeedGenerator`.
        block: 0, or 1, 2, ... for the parts of a kernel that are drawn like kernels of
            their own.
    """

    seed: int
    draw: int = 0
    block: int = 0

    def generator(self, purpose: int, chunk: int) -> np.random.Generator:
        """A generator that starts at the counter of a chunk."""
        key = np.array([self.seed, self.draw], np.uint64)
        counter = np.array([0, self.block, chunk, purpose], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def normal(self, shape: Shape, dtype: str, part: Part, stddev: float) -> Array:
        """A part of a kernel of N(0, stddev**2)."""
        return self._fill(_normal, shape, dtype, part, stddev)

    def uniform(self, shape: Shape, dtype: str, part: Part, limit: float) -> Array:
        """A part of a kernel of U(-limit, limit), both ends left out."""
        return self._fill(_uniform, shape, dtype, part, limit)

    def truncated_normal(
        self, shape: Shape, dtype: str, part: Part, stddev: float, low: float, high: float
    ) -> Array:
        """A part of a kernel of N(0, stddev**2) cut at `low` and `high` times stddev."""
        unit = functools.partial(_truncated, low=low, high=high)
        # Without any spread the bounds may still be infinite.
        bounds = (low * stddev, high * stddev) if stddev else (0.0, 0.0)
        return self._fill(unit, shape, dtype, part, stddev, bounds)

    def _fill(
        self,
        unit: Unit,
        shape: Shape,
        dtype: str,
        part: Part,
        scale: float,
        bounds: tuple[float, float] | None = None,
    ) -> Array:
        out = empty(part_shape(part), dtype)
        flat = out.reshape(-1)
        size = math.prod(shape)
        # Unit draws are float32 in every dtype: one seed is one network. They are scaled
        # in float64 for float64, else in float32, and rounded to 16 bits once.
        wide = np.float64 if dtype == "float64" else np.float32
        runs = _Runs(shape, part)

        def fill(chunk: int) -> None:
            start = chunk * CHUNK
            stop = min(start + CHUNK, size)
            first, last = runs.before(start), runs.before(stop)
            if first == last:
                return
            wanted = flat[first:last]
            in_place = dtype == "float32" and last - first == stop - start
            values = wanted if in_place else np.empty(stop - start, np.float32)
            unit(self.generator(VALUES, chunk), values)
            if not in_place:
                values = values[runs.positions(first, last, start)]
            if bounds is None:
                np.multiply(values, wide(scale), out=wanted, casting="unsafe")
            else:
                wanted[:] = np.clip(values * wide(scale), *_inside(bounds, wide))

        if flat.size:
            in_threads(fill, range(runs.first // CHUNK, runs.last // CHUNK + 1))
        return out

    def subsets(self, rows: int, count: int, columns: int, chunk: int) -> npt.NDArray[np.int64]:
        """For each of `columns` columns, `count` different rows of `rows`, as (count, columns).

        Every subset is equally likely. A chunk serves `subset_columns(count)` columns.
        """
        generator = self.generator(ROWS, chunk)
        if count > LISTED:
            some = (
                generator.choice(rows, count, replace=False, shuffle=False) for _ in range(columns)
            )
            return np.stack(list(some), axis=1)
        return _floyd(generator, rows, count, columns)


def subset_columns(count: int) -> int:
    """How many columns of subsets come from one chunk."""
    return max(1, CHUNK // max(1, count))


class _Runs:
    """Where the entries of a part lie in the flat kernel: runs of equal length."""

    def __init__(self, shape: Shape, part: Part) -> None:
        starts = np.zeros(1, np.int64)
        self.length = 1
        inner = 1  # flat distance between neighbours along the axis
        for size, axis in zip(reversed(shape), reversed(part), strict=True):
            if self.length == inner and starts.size == 1:
                starts = starts + axis.start * inner
                self.length = (axis.stop - axis.start) * inner
            else:
                steps = np.arange(axis.start, axis.stop, dtype=np.int64) * inner
                starts = (steps[:, None] + starts).reshape(-1)
            inner *= size
        self.starts = starts
        self.first = int(starts[0]) if starts.size else 0
        self.last = int(starts[-1]) + self.length - 1 if starts.size else 0

    def before(self, position: int) -> int:
        """How many entries of the part lie before a position of the flat kernel."""
        run = int(np.searchsorted(self.starts, position, "right")) - 1
        if run < 0:
            return 0
        return run * self.length + min(self.length, position - int(self.starts[run]))

    def positions(self, first: int, last: int, origin: int) -> Any:
        """Where entries first to last of the part lie, counted from an origin."""
        run = first // self.length
        if run == (last - 1) // self.length:
            start = int(self.starts[run]) + first - run * self.length - origin
            return slice(start, start + last - first)
        entries = np.arange(first, last)
        return self.starts[entries // self.length] + entries % self.length - origin


def in_threads(work: Callable[[int], None], items: Sequence[int]) -> None:
    """Do `work` for each item, in this thread and one more for each further core."""
    waiting = iter(items)
    taking = threading.Lock()
    failures: list[BaseException] = []

    def loop() -> None:
        try:
            while not failures:
                with taking:
                    item = next(waiting, None)
                if item is None:
                    return
                work(item)
        except BaseException as error:
            failures.append(error)

    helpers = [threading.Thread(target=loop) for _ in range(min(_cores(), len(items)) - 1)]
    for helper in helpers:
        helper.start()
    loop()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _normal(generator: np.random.Generator, out: npt.NDArray[np.float32]) -> None:
    generator.standard_normal(out=out, dtype=np.float32)


def _uniform(generator: np.random.Generator, out: npt.NDArray[np.float32]) -> None:
    # From the 2**24 values k / 2**24 to the odd multiples of 2**-24 in (-1, 1): as many
    # below zero as above, none at an end, and each exact in float32.
    generator.random(out=out, dtype=np.float32)
    out *= np.float32(2)
    out -= np.float32(1 - 2**-24)


def _truncated(
    generator: np.random.Generator, out: npt.NDArray[np.float32], low: float, high: float
) -> None:
    """N(0, 1) on [low, high] by rejection: exact, unlike inversion in low precision."""
    propose = _proposal(low, high)
    missing = np.flatnonzero(propose(generator, out))
    while missing.size:
        again = np.empty(missing.size, np.float32)
        rejected = propose(generator, again)
        out[missing] = again
        missing = missing[rejected]


def _proposal(low: float, high: float) -> Callable[..., npt.NDArray[np.bool_]]:
    """Fills with candidates and says which to reject; normal or, where that rarely hits, uniform.

    After Robert 1995, "Simulation of truncated normal variables".
    """
    low, high = _reach(low, high)
    peak = min(max(0.0, low), high)
    mass = _truncated_moments(low, high)[0]

    def from_normal(generator: np.random.Generator, out: npt.NDArray[np.float32]) -> Any:
        _normal(generator, out)
        return (out < low) | (out > high)

    def from_uniform(generator: np.random.Generator, out: npt.NDArray[np.float32]) -> Any:
        values = low + (high - low) * generator.random(out.size)
        out[:] = values
        return generator.random(out.size) > np.exp((peak**2 - values**2) / 2)

    hits_normal = mass / math.sqrt(2 * math.pi) * math.exp(-(peak**2) / 2)
    hits_uniform = mass / (high - low) if high > low else 1.0
    return from_normal if hits_normal >= hits_uniform else from_uniform


def truncated_stddev(low: float, high: float) -> float:
    """The standard deviation of N(0, 1) cut at `low` and `high`; 0.8796... at -2 and 2."""
    return _truncated_moments(*_reach(low, high))[1]


def _reach(low: float, high: float) -> tuple[float, float]:
    """The bounds, drawn in to where less than 2**-64 of the cut distribution is lost."""
    peak = min(max(0.0, low), high)
    far = math.sqrt(peak**2 + 2 * 64 * math.log(2))
    return max(low, -far), min(high, far)


@functools.lru_cache(maxsize=64)
def _truncated_moments(low: float, high: float) -> tuple[float, float]:
    """Mass, relative to the peak's density, and standard deviation of N(0, 1) on [low, high].

    By Gauss-Legendre quadrature: the closed form cancels for narrow or far bounds.
    """
    peak = min(max(0.0, low), high)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    edges = np.linspace(low, high, 33)
    half = np.diff(edges)[:, None] / 2
    x = (edges[:-1, None] + half) + half * nodes
    density = half * weights * np.exp((peak**2 - x**2) / 2)
    mass = float(density.sum())
    if not mass:
        return 0.0, 0.0
    mean = float((density * x).sum()) / mass
    return mass, math.sqrt(float((density * (x - mean) ** 2).sum()) / mass)


def _inside(bounds: tuple[float, float], kind: Any) -> tuple[Any, Any]:
    """The outermost numbers of a kind that do not lie beyond the bounds."""
    low, high = kind(bounds[0]), kind(bounds[1])
    if float(low) < bounds[0]:
        low = np.nextafter(low, kind(np.inf))
    if float(high) > bounds[1]:
        high = np.nextafter(high, kind(-np.inf))
    return low, high


def _floyd(
    generator: np.random.Generator, rows: int, count: int, columns: int
) -> npt.NDArray[np.int64]:
    """R. Floyd's algorithm for all columns at once.

    Bentley and Floyd 1987, "Programming pearls: a sample of brilliance".
    """
    chosen = np.empty((count, columns), np.int64)
    for i, last in enumerate(range(rows - count, rows)):
        row = generator.integers(0, last + 1, columns)
        again = (chosen[:i] == row).any(0)
        chosen[i] = np.where(again, last, row)
    return chosen
