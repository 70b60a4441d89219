"""The sparse scheme: a few random inputs for each unit."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import scheme
from keras_winit.initializers.calling_layer import require_kernel
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Part,
    Shape,
    part_shape,
    require_finite,
    whole,
    zeros,
)
from keras_winit.initializers.streams import VALUES, Stream, in_threads, subset_columns
from keras_winit.theory.fans import kernel_axes


@scheme
class Sparse(KernelScheme):
    """A fixed number of random inputs for each unit, zero elsewhere.

    Units start different from each other. They start unsaturated at any width, because the
    number of terms in a pre-activation does not grow with the width of the layer below.

    In a kernel of shape `(*window, in, out)`, each of the `out` columns has exactly
    `connections` non-zero entries among its `prod(window) * in`. All subsets of positions are
    equally likely, and the values are from N(0, stddev**2). A unit with fewer inputs than
    `connections` is connected to all of them. No value is rounded to zero: a value that is too
    small becomes the smallest positive or negative number in float16, and the smallest normal
    one in the other dtypes.

    Args:
        connections: Number of non-zero inputs per unit, at least 1. Defaults to 10, unless
            `sparsity` is given.
        stddev: Standard deviation of the non-zero entries, above 0. Defaults to 0.01, unless
            `gain` is given.
        gain: Given instead of `stddev`, above 0. The standard deviation of the non-zero
            entries is then gain / sqrt(connections), so that inputs of variance 1 give
            pre-activations of variance gain**2. In a transposed convolution, the number of
            connections that reach one output position takes the place of `connections`.
        sparsity: Given instead of `connections`: the least share of zeros, in [0, 1). The
            number of zeros of a unit is rounded up, but at least one connection stays.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if a number is out of range, or both arguments of a pair
            are given. At call, if the shape has fewer than two axes.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>sparse")

    Departs: 10 connections by default; the paper used 15.
    """

    formula = "10 entries per unit of N(0, stddev²), stddev 0.01; else 0"
    use = "very wide layers; units that must start different"
    source = "Martens 2010 (ICML), section 5"

    connections: int | None = None
    stddev: float | None = None
    gain: float | None = None
    sparsity: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, other in (("connections", "sparsity"), ("stddev", "gain")):
            if getattr(self, name) is not None and getattr(self, other) is not None:
                raise ValueError(
                    f"`Sparse` takes `{name}` or `{other}`, not both. Received: "
                    f"{name}={getattr(self, name)!r}, {other}={getattr(self, other)!r}."
                )
        if self.sparsity is not None:
            self._require_real("sparsity", "a number in [0, 1)", lambda value: 0 <= value < 1)
        else:
            self.connections = 10 if self.connections is None else self.connections
            self._require_whole("connections", 1)
        if self.gain is not None:
            self._require_real("gain", "a number > 0", lambda value: value > 0)
        else:
            self.stddev = 0.01 if self.stddev is None else self.stddev
            self._require_real("stddev", "a number > 0", lambda value: value > 0)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        require_kernel(self, shape, "Use `winit>zeros` or `winit>constant` for a bias.")
        row_axes, column_axes = self._row_and_column_axes(shape)
        rows = math.prod(shape[axis] for axis in row_axes)
        columns = math.prod(shape[axis] for axis in column_axes)
        count = self._connections(rows)
        # With strides, only fan_in of the rows reach one output of a transposed convolution.
        stddev = self._stddev(count * self.fans(shape)[0] / rows if rows else 0)
        stream = self.stream()

        def draw(part: Part) -> Array:
            out = zeros(part_shape(part), dtype)
            chunk_columns = subset_columns(count)

            def fill_chunk(chunk: int) -> None:
                start = chunk * chunk_columns
                width = min(chunk_columns, columns - start)
                values = _nonzero_values(stream, chunk, (count, width), stddev, dtype)
                row = stream.subsets(rows, count, width, chunk)
                column = np.arange(start, start + width)
                index = _unraveled(shape, {row_axes: row, column_axes: column})
                if part == whole(shape):
                    out[index] = values
                else:
                    _set_in_part(out, part, index, values)

            if out.size:
                in_threads(fill_chunk, range(-(-columns // chunk_columns)))
            return out

        return draw

    def _row_and_column_axes(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the axes over which a unit sums, and all others."""
        axes = kernel_axes(shape, self.kernel_use)
        row_axes = axes.window + axes.inputs
        return row_axes, tuple(axis for axis in range(len(shape)) if axis not in row_axes)

    def _connections(self, rows: int) -> int:
        if self.connections is not None:
            return min(self.connections, rows)
        assert self.sparsity is not None
        # The share means the decimal number that was given: 0.07 of 100 inputs is 7.
        zeros = math.ceil(Fraction(repr(self.sparsity)) * rows)
        return min(max(1, rows - zeros), rows)

    def _stddev(self, terms: float) -> float:
        if self.stddev is not None:
            return self.stddev
        assert self.gain is not None
        return self.gain / math.sqrt(terms) if terms else self.gain


def _unraveled(
    shape: Shape, flat: dict[tuple[int, ...], npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the index of entries on each axis, from their index on flattened groups of axes."""
    index: dict[int, npt.NDArray[np.int64]] = {}
    for axes, flat_index in flat.items():
        group = np.unravel_index(flat_index, [shape[axis] for axis in axes]) if axes else ()
        index.update(zip(axes, group, strict=True))
    return tuple(index[axis] for axis in range(len(shape)))


def _set_in_part(out: Array, part: Part, index: tuple[Array, ...], values: Array) -> None:
    """Set the entries that lie in a part of the kernel, and leave out all others."""
    index = np.broadcast_arrays(*index)
    inside = np.ones(values.shape, bool)
    for position, axis in zip(index, part, strict=True):
        inside &= (axis.start <= position) & (position < axis.stop)
    local = (position[inside] - axis.start for position, axis in zip(index, part, strict=True))
    out[tuple(local)] = values[inside]


def _nonzero_values(
    stream: Stream, chunk: int, shape: Shape, stddev: float, dtype: str
) -> npt.NDArray[np.generic]:
    """Draw from N(0, stddev**2), and replace what the dtype would round to zero."""
    values = stream.generator(VALUES, chunk).standard_normal(shape, np.float32)
    wide = np.float64 if dtype == "float64" else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = (values * wide(stddev)).astype(dtype)
    require_finite(rounded)
    # Hardware that flushes subnormal numbers takes anything smaller than this for zero. The
    # subnormal numbers of float16 are safe: float32, in which hardware computes with them,
    # holds them as normal numbers.
    smallest = 2.0**-24 if dtype == "float16" else 2.0 ** (-1022 if dtype == "float64" else -126)
    lost = np.abs(rounded) < smallest
    if lost.any():
        rounded[lost] = np.copysign(smallest, values[lost]).astype(dtype)
    return rounded
