"""Portable random numbers: the same on every backend, and for any number of threads.

A stream is addressed, not advanced: seed, draw, block, purpose and chunk form the key and the
counter of a Philox generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3"). A part of a weight is therefore drawn without the rest of it, and no counter is used twice.
Global generators are neither read nor advanced.
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

from keras_winit.initializers.placement import (
    LARGEST,
    Array,
    Part,
    Shape,
    empty,
    part_shape,
    require_finite,
)
from keras_winit.initializers.unit_distributions import (
    Float32Array,
    fill_normal,
    fill_truncated_normal,
    fill_uniform,
)

# Entries of a weight, or row numbers of subsets, that are drawn from one counter. Changing it
# changes the weights behind every seed. A chunk of float32, 512 KiB, fits a core's cache.
CHUNK = 1 << 17

# Largest subset that is drawn for all columns at once; larger ones are drawn column by column.
VECTORIZED_SUBSET = 128

# Purposes of random numbers, each with its own counters.
VALUES, ROWS = 0, 1

# Fills an array with draws of a unit distribution, such as N(0, 1).
FillUnit = Callable[[np.random.Generator, Float32Array], None]


@dataclass(frozen=True)
class Stream:
    """The random numbers of one call of an initializer.

    Args:
        seed: An integer from 0 to 2**64 - 1.
        draw: 0 for a fixed seed; 1, 2, ... for the calls that share a `SeedGenerator`.
        block: 0 for a whole weight; 1, 2, ... for the blocks of a weight that are drawn like
            separate weights.
    """

    seed: int
    draw: int = 0
    block: int = 0

    def generator(self, purpose: int, chunk: int) -> np.random.Generator:
        """Return a generator that starts at the counter of a chunk."""
        key = np.array([self.seed, self.draw], np.uint64)
        counter = np.array([0, self.block, chunk, purpose], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def normal(self, shape: Shape, dtype: str, part: Part, stddev: float) -> Array:
        """Draw a part of a weight from N(0, stddev**2)."""
        return self._fill(fill_normal, shape, dtype, part, stddev)

    def uniform(self, shape: Shape, dtype: str, part: Part, limit: float) -> Array:
        """Draw a part of a weight from U(-limit, limit), without both ends."""
        return self._fill(fill_uniform, shape, dtype, part, limit)

    def truncated_normal(
        self, shape: Shape, dtype: str, part: Part, stddev: float, low: float, high: float
    ) -> Array:
        """Draw a part of a weight from N(0, stddev**2), cut at `low` and `high` times stddev."""
        fill_unit = functools.partial(fill_truncated_normal, low=low, high=high)
        # Infinite bounds times a stddev of 0 are not a number.
        bounds = (low * stddev, high * stddev) if stddev else (0.0, 0.0)
        return self._fill(fill_unit, shape, dtype, part, stddev, bounds)

    def _fill(
        self,
        fill_unit: FillUnit,
        shape: Shape,
        dtype: str,
        part: Part,
        scale: float,
        bounds: tuple[float, float] | None = None,
    ) -> Array:
        out = empty(part_shape(part), dtype)
        flat = out.reshape(-1)
        size = math.prod(shape)
        # Unit draws are float32 whatever the dtype, so that a seed means one network. They are
        # scaled in float64 for float64, else in float32; 16-bit dtypes are rounded only once.
        wide = np.float64 if dtype == "float64" else np.float32
        runs = _Runs(shape, part)
        # No unit draw reaches 1e6.
        may_overflow = abs(scale) > LARGEST[dtype] / 1e6

        def fill_chunk(chunk: int) -> None:
            start = chunk * CHUNK
            stop = min(start + CHUNK, size)
            first, last = runs.count_before(start), runs.count_before(stop)
            if first == last:
                return
            target = flat[first:last]
            in_place = dtype == "float32" and last - first == stop - start
            values = target if in_place else np.empty(stop - start, np.float32)
            fill_unit(self.generator(VALUES, chunk), values)
            if not in_place:
                values = values[runs.positions(first, last, start)]
            with np.errstate(over="ignore", invalid="ignore"):
                if bounds is None:
                    np.multiply(values, wide(scale), out=target, casting="unsafe")
                else:
                    scaled = values * wide(scale)
                    target[:] = np.clip(scaled, *_rounded_inwards(bounds, wide))
                    # Bounds that are infinite in the dtype would hide infinite weights.
                    if may_overflow:
                        require_finite(scaled)
            if may_overflow:
                require_finite(target)

        if flat.size:
            in_threads(fill_chunk, range(runs.first // CHUNK, runs.last // CHUNK + 1))
        return out

    def subsets(self, rows: int, count: int, columns: int, chunk: int) -> npt.NDArray[np.int64]:
        """Draw `count` different row numbers below `rows` for each of `columns` columns.

        Every subset is equally likely. A chunk serves `subset_columns(count)` columns. Returns
        an array of shape (count, columns).
        """
        generator = self.generator(ROWS, chunk)
        if count <= VECTORIZED_SUBSET:
            return _floyd_subsets(generator, rows, count, columns)
        subsets = (
            generator.choice(rows, count, replace=False, shuffle=False) for _ in range(columns)
        )
        return np.stack(list(subsets), axis=1)


def subset_columns(count: int) -> int:
    """Return the number of columns whose subsets of `count` rows come from one chunk."""
    return max(1, CHUNK // max(1, count))


class _Runs:
    """The runs of consecutive entries, all of one length, that a part takes from a flat weight."""

    def __init__(self, shape: Shape, part: Part) -> None:
        starts = np.zeros(1, np.int64)
        self.length = 1
        stride = 1  # Flat distance between neighbours along the axis.
        for size, axis in zip(reversed(shape), reversed(part), strict=True):
            if self.length == stride and starts.size == 1:
                starts = starts + axis.start * stride
                self.length = (axis.stop - axis.start) * stride
            else:
                steps = np.arange(axis.start, axis.stop, dtype=np.int64) * stride
                starts = (steps[:, None] + starts).reshape(-1)
            stride *= size
        self.starts = starts
        self.first = int(starts[0]) if starts.size else 0
        self.last = int(starts[-1]) + self.length - 1 if starts.size else 0

    def count_before(self, position: int) -> int:
        """Return how many entries of the part lie before a position of the flat weight."""
        run = int(np.searchsorted(self.starts, position, "right")) - 1
        if run < 0:
            return 0
        return run * self.length + min(self.length, position - int(self.starts[run]))

    def positions(self, first: int, last: int, origin: int) -> Any:
        """Return an index of the part's entries `first` to `last`, counted from an origin."""
        run = first // self.length
        if run == (last - 1) // self.length:
            start = int(self.starts[run]) + first - run * self.length - origin
            return slice(start, start + last - first)
        entries = np.arange(first, last)
        return self.starts[entries // self.length] + entries % self.length - origin


def in_threads(work: Callable[[int], None], items: Sequence[int]) -> None:
    """Call `work` for each item, in this thread and in one more for each further core.

    An error in any thread stops all of them and is raised here.
    """
    remaining = iter(items)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            while not errors:
                with lock:
                    item = next(remaining, None)
                if item is None:
                    return
                work(item)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop) for _ in range(min(_cores(), len(items)) - 1)]
    for thread in threads:
        thread.start()
    loop()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _rounded_inwards(bounds: tuple[float, float], dtype: Any) -> tuple[Any, Any]:
    """Return the outermost numbers of a dtype that lie within the bounds."""
    low, high = dtype(bounds[0]), dtype(bounds[1])
    if float(low) < bounds[0]:
        low = np.nextafter(low, dtype(np.inf))
    if float(high) > bounds[1]:
        high = np.nextafter(high, dtype(-np.inf))
    return low, high


def _floyd_subsets(
    generator: np.random.Generator, rows: int, count: int, columns: int
) -> npt.NDArray[np.int64]:
    """Draw subsets for all columns at once by R. Floyd's algorithm.

    Bentley and Floyd 1987, "Programming pearls: a sample of brilliance".
    """
    chosen = np.empty((count, columns), np.int64)
    for i, last in enumerate(range(rows - count, rows)):
        row = generator.integers(0, last + 1, columns)
        taken = (chosen[:i] == row).any(0)
        chosen[i] = np.where(taken, last, row)
    return chosen
