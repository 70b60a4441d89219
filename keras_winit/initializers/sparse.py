"""Sparse connections: a few random inputs for each unit."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.placement import Array, Part, Shape, part_shape, whole, zeros
from keras_winit.initializers.streams import VALUES, Stream, in_threads, subset_columns
from keras_winit.theory.fans import kernel_axes


@scheme
class Sparse(KernelScheme):
    """A fixed number of random inputs for each unit, zero elsewhere.

    Units start different from each other, and unsaturated at any width, since what a
    unit adds up does not grow with the layer below.

    Draws a kernel of shape `(*window, in, out)`: each of the `out` columns has exactly
    `connections` non-zero entries among its `prod(window) * in`, all subsets of places
    being equally likely, with values from N(0, stddev**2). A unit with fewer inputs than
    that is connected to all of them. No such value is rounded to zero: in float16 it
    becomes the smallest number there is, elsewhere the smallest normal one.

    Args:
        connections: Non-zero inputs per unit. A count, at least 1. Defaults to 10,
            unless `sparsity` is given.
        stddev: Of the non-zero entries, not of the kernel. In weight units, above 0.
            Defaults to 0.01, unless `gain` is given.
        gain: Instead of `stddev`: the non-zero entries have standard deviation
            gain / sqrt(connections), so that unit inputs give pre-activations of
            variance gain**2; of a transposed convolution, by those that a place has. Above 0.
        sparsity: Instead of `connections`: the share of zeros, in [0, 1), rounded to
            whole connections, of which at least one is kept.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if a number is out of its range, or two arguments
            say the same thing. At call, if the shape has fewer than two axes.

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
        for one, other in (("connections", "sparsity"), ("stddev", "gain")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(
                    f"`Sparse` takes `{one}` or `{other}`, not both. Received: "
                    f"{one}={getattr(self, one)!r}, {other}={getattr(self, other)!r}."
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

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if len(shape) < 2:
            raise ValueError(
                f"`Sparse` needs a kernel of at least two axes. Received: shape={shape}. "
                f"Use `winit>zeros` or `winit>constant` for a bias."
            )
        inputs, outputs = self._sides(shape)
        rows = math.prod(shape[axis] for axis in inputs)
        columns = math.prod(shape[axis] for axis in outputs)
        count = self._count(rows)
        # A stride of a transposed convolution leaves out that share of them at each place.
        stddev = self._stddev(count * self.fans(shape)[0] / rows if rows else 0)
        stream = self.stream()

        def draw(part: Part) -> Array:
            out = zeros(part_shape(part), dtype)
            step = subset_columns(count)

            def fill(chunk: int) -> None:
                start = chunk * step
                width = min(step, columns - start)
                values = _values(stream, chunk, count, width, stddev, dtype)
                row = stream.subsets(rows, count, width, chunk)
                column = np.arange(start, start + width)
                place = _places(shape, {inputs: row, outputs: column})
                if part == whole(shape):
                    out[place] = values
                else:
                    _set_within(out, part, place, values)

            if out.size:
                in_threads(fill, range(-(-columns // step)))
            return out

        return draw

    def _sides(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of the inputs, and all others."""
        axes = kernel_axes(shape, self.kernel_use)
        inputs = axes.window + axes.inputs
        return inputs, tuple(axis for axis in range(len(shape)) if axis not in inputs)

    def _count(self, rows: int) -> int:
        if self.connections is not None:
            return min(self.connections, rows)
        assert self.sparsity is not None
        return min(max(1, round((1 - self.sparsity) * rows)), rows)

    def _stddev(self, terms: float) -> float:
        if self.stddev is not None:
            return self.stddev
        assert self.gain is not None
        return self.gain / math.sqrt(terms) if terms else self.gain


def _places(
    shape: Shape, flat: dict[tuple[int, ...], npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64], ...]:
    """Where entries lie on each axis, given where they lie on flattened groups of axes."""
    place: dict[int, npt.NDArray[np.int64]] = {}
    for axes, index in flat.items():
        along = np.unravel_index(index, [shape[axis] for axis in axes]) if axes else ()
        place.update(zip(axes, along, strict=True))
    return tuple(place[axis] for axis in range(len(shape)))


def _set_within(out: Array, part: Part, place: tuple[Array, ...], values: Array) -> None:
    """Set those of the entries that lie in a part of the kernel."""
    place = np.broadcast_arrays(*place)
    hit = np.ones(values.shape, bool)
    for position, axis in zip(place, part, strict=True):
        hit &= (axis.start <= position) & (position < axis.stop)
    local = (position[hit] - axis.start for position, axis in zip(place, part, strict=True))
    out[tuple(local)] = values[hit]


def _values(
    stream: Stream, chunk: int, count: int, columns: int, stddev: float, dtype: str
) -> npt.NDArray[np.generic]:
    """The connected weights, none of them zero."""
    values = stream.generator(VALUES, chunk).standard_normal((count, columns), np.float32)
    wide = np.float64 if dtype == "float64" else np.float32
    rounded = (values * wide(stddev)).astype(dtype)
    # Smaller than this, a number is zero to hardware that flushes subnormals; those of
    # float16 are safe, being normal in the float32 in which they are computed with.
    least = 2.0**-24 if dtype == "float16" else 2.0 ** (-1022 if dtype == "float64" else -126)
    lost = np.abs(rounded) < least
    if lost.any():
        rounded[lost] = np.copysign(least, values[lost]).astype(dtype)
    return rounded
