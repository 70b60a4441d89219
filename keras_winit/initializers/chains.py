"""The base class of schemes for chains of kernels that start as products of orthogonal matrices.

A chain is a run of kernels with only activations, pooling, flatten and dropout between them: no
normalization and no skip. Its first, hidden and last kernels start differently.
"""

import math
from typing import NamedTuple

import numpy as np

from keras_winit.initializers.calling_layer import require_kernel, use_in_calling_layer
from keras_winit.initializers.kernels import GainScheme
from keras_winit.initializers.orthogonal import orthogonal_matrices
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Shape,
    cut_from_whole,
    rounded,
    whole,
)
from keras_winit.theory.fans import Axes, Use, kernel_axes

PLACES = ("first", "hidden", "last")


class Sizes(NamedTuple):
    """The sizes of a kernel: how many independent ones it holds, its window and its two sides."""

    kernels: int
    window: tuple[int, ...]
    inputs: int
    outputs: int

    @property
    def taps(self) -> int:
        return math.prod(self.window)

    @property
    def center(self) -> int:
        """The tap that meets the input at the output's own position, with "same" padding."""
        strides = [math.prod(self.window[axis + 1 :]) for axis in range(len(self.window))]
        taps = [(size - 1) // 2 for size in self.window]
        return sum(tap * stride for tap, stride in zip(taps, strides, strict=True))


class ChainScheme(GainScheme):
    """A kernel of a chain: an orthogonal matrix, at the center of the window if there is one."""

    place: str
    gain: float | None
    noise: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_choice("place", PLACES)
        if self.gain is not None:
            self._require_real("gain", "a number >= 0 or None", lambda value: value >= 0)
        self._require_real("noise", "a number from 0 to 1", lambda value: 0 <= value <= 1)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        axes = self._axes(shape)
        order = axes.apart + axes.window + axes.inputs + axes.outputs
        kernels, inputs, outputs = (
            math.prod(shape[axis] for axis in side)
            for side in (axes.apart, axes.inputs, axes.outputs)
        )
        sizes = Sizes(kernels, tuple(shape[axis] for axis in axes.window), inputs, outputs)
        rows, *columns = self._matrix_sizes(shape, axes, sizes)
        gain = self._default_gain() if self.gain is None else self.gain
        stream = self.stream()
        # All random numbers come from one draw, so that no two matrices share any.
        per_entry = sizes.taps if self.place == "first" else 1 + sizes.taps * (self.noise > 0)
        ends = [per_entry * rows * sum(columns[: i + 1]) for i in range(len(columns))]
        wide = np.float64 if dtype == "float64" else np.float32

        def make() -> Array:
            drawn = (kernels, ends[-1])
            normal = stream.normal(drawn, "float32", whole(drawn), 1.0).astype(wide, copy=False)
            parts = zip(np.split(normal, ends[:-1], axis=1), columns, strict=True)
            matrices = [self._matrix(part, sizes, rows, number) for part, number in parts]
            with np.errstate(over="ignore", invalid="ignore"):
                values = wide(gain) * self._arranged(sizes, shape, axes, *matrices)
            in_order = values.reshape([shape[axis] for axis in order])
            return rounded(in_order.transpose(np.argsort(order)), dtype)

        return cut_from_whole(make, shape, dtype)

    def _axes(self, shape: Shape) -> Axes:
        """Return the axes of the kernel; raise an error if its units are split into groups."""
        require_kernel(self, shape, "Use `winit>zeros` for a bias.")
        use = self.kernel_use
        if use == Use():
            use = use_in_calling_layer(shape) or use
        axes = kernel_axes(shape, use)
        if use.kind == "depthwise" or use.groups > 1 or use.gates > 1:
            raise ValueError(
                f"`{type(self).__name__}` needs a kernel without groups, gates and depthwise "
                f"channels. Received: kind={use.kind!r}, groups={use.groups}, "
                f"gates={use.gates}, shape={shape}. Use `winit>orthogonal`."
            )
        return axes

    def _matrix(self, normal: Array, sizes: Sizes, rows: int, columns: int) -> Array:
        """Return matrices that keep the mean square of signals, as (kernels, taps, rows, columns).

        In a first kernel, taps and rows together are the rows of an orthogonal matrix. Others
        have an orthogonal matrix at the center of the window, and noise at all taps.
        """
        shape = (sizes.kernels, sizes.taps, rows, columns)
        if self.place == "first":
            rows *= sizes.taps
            return _widening(rows, columns) * orthogonal_matrices(normal, rows, columns).reshape(
                shape
            )
        out = np.zeros(shape, normal.dtype)
        if self.noise:
            out += normal[:, rows * columns :].reshape(shape)
            out *= math.sqrt(self.noise / (sizes.taps * max(rows, 1)))
        scale = math.sqrt(1 - self.noise) * _widening(rows, columns)
        out[:, sizes.center] += scale * orthogonal_matrices(
            normal[:, : rows * columns], rows, columns
        )
        return out

    def _default_gain(self) -> float:
        raise NotImplementedError

    def _matrix_sizes(self, shape: Shape, axes: Axes, sizes: Sizes) -> tuple[int, ...]:
        """Return the rows of the matrices to be drawn, and then the columns of each of them."""
        raise NotImplementedError

    def _arranged(self, sizes: Sizes, shape: Shape, axes: Axes, *matrices: Array) -> Array:
        """Return the kernels with a gain of 1, as (kernels, taps, inputs, outputs)."""
        raise NotImplementedError


def _widening(rows: int, columns: int) -> float:
    """Return the factor that keeps the mean square if there are more columns than rows."""
    return math.sqrt(max(columns / max(rows, 1), 1))
