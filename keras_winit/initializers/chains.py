"""Schemes that let a chain of kernels start as a product of orthogonal matrices.

A chain is a run of kernels with only activations, pooling, flatten and dropout between them: no
normalization and no skip. Its first, hidden and last kernels start differently.
"""

import functools
import math
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np

from keras_winit.initializers.base import scheme
from keras_winit.initializers.calling_layer import require_kernel, use_in_calling_layer
from keras_winit.initializers.kernels import GainScheme
from keras_winit.initializers.orthogonal import orthogonal_matrices
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Shape,
    cut_from_whole,
    empty,
    require_finite,
    whole,
)
from keras_winit.theory.fans import Axes, Use, kernel_axes

PLACES = ("first", "hidden", "last")

# An activation counts as odd if its even part has less than this share of its second moment.
EVEN_SHARE = 1e-6


class _Sizes(NamedTuple):
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


class _ChainScheme(GainScheme):
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
        sizes = _Sizes(kernels, tuple(shape[axis] for axis in axes.window), inputs, outputs)
        rows, *columns = self._matrix_sizes(shape, axes, sizes)
        gain = self._default_gain() if self.gain is None else self.gain
        stream = self.stream()
        # Random numbers of one draw, so that no two matrices share any.
        per_entry = sizes.taps if self.place == "first" else 1 + sizes.taps * (self.noise > 0)
        ends = [per_entry * rows * sum(columns[: i + 1]) for i in range(len(columns))]
        wide = np.float64 if dtype == "float64" else np.float32

        def make() -> Array:
            drawn = (kernels, ends[-1])
            normal = stream.normal(drawn, "float32", whole(drawn), 1.0).astype(wide, copy=False)
            parts = zip(np.split(normal, ends[:-1], axis=1), columns, strict=True)
            matrices = [self._matrix(part, sizes, rows, number) for part, number in parts]
            out = empty(shape, dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                values = wide(gain) * self._arranged(sizes, shape, axes, *matrices)
                out.transpose(order)[...] = values.reshape([shape[axis] for axis in order])
            require_finite(out)
            return out

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

    def _matrix(self, normal: Array, sizes: _Sizes, rows: int, columns: int) -> Array:
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

    def _matrix_sizes(self, shape: Shape, axes: Axes, sizes: _Sizes) -> tuple[int, ...]:
        """Return the rows of the matrices to be drawn, and then the columns of each of them."""
        return sizes.inputs, sizes.outputs

    def _arranged(self, sizes: _Sizes, shape: Shape, axes: Axes, *matrices: Array) -> Array:
        """Return the kernels with a gain of 1, as (kernels, taps, inputs, outputs)."""
        return matrices[0]


@scheme
class LooksLinear(_ChainScheme):
    """Units in pairs with opposite weights: the network starts as a product of rotations.

    Units i and i + n/2 of a layer see opposite weights, so that the next kernel receives
    odd(z) = (f(z) - f(-z)) / 2 of each pre-activation z. That is exactly z / 2 for ReLU, GELU,
    SiLU and softplus, (1 + a) z / 2 for a leaky ReLU, and nearly linear for mish, ELU and SELU.
    With matrices A and B that have orthonormal rows or columns, the kernels are

    | place | kernel of (in, out) | default gain |
    | --- | --- | --- |
    | first | gain · [A, -A] | 1, for inputs of mean square 1 |
    | hidden | gain / 2 · [[A, -A], [-A, A]] | `keras_winit.gain(nonlinearity, "odd")` |
    | last | gain / 2 · [[B], [-B]] | 0.1 |

    A matrix with more columns than rows is scaled by sqrt(columns / rows), which keeps the mean
    square of signals. Give every kernel of the chain its place, and all biases zeros.

    Pairs lie along the last axis of the inputs and of the outputs. A unit without a partner
    gets a column that has none, and zeros in the next kernel. In a window the matrix lies at
    the center, as in `DeltaOrthogonal`; a first kernel uses all taps.

    Do not use it where a normalization or a skip lies between the kernels; nothing is gained.

    Args:
        place: "first", "hidden" or "last": the place of the kernel in its chain. Defaults to
            "hidden".
        gain: Factor of the kernel, at least 0. Defaults to None: as in the table.
        noise: Share of the variance, from 0 to 1, that independent normal weights at all taps
            have in A and B, except in a first kernel: A = sqrt(1 - noise) Q at the center, plus
            weights from N(0, noise / (taps · rows)). Convolutions train better with some.
            Defaults to 0.
        channels: Number of channels before a `Flatten` whose output the kernel takes: channel c
            of a position is then paired with channel c + channels/2 of the same position.
            Defaults to None: the size of the last input axis.
        nonlinearity: The activation between the kernels, whose outputs the kernel takes.
            Defaults to "relu".
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if an argument is out of its range, or the activation is
            odd, such as tanh: the two units of a pair would stay the same for ever. At call, if
            the shape has fewer than two axes, there is no pair of units, `channels` does not
            divide the inputs, or the kernel has groups, gates or depthwise channels.

    Example:
        >>> places = ("first", *["hidden"] * 48)
        >>> starts = [LooksLinear(place, nonlinearity="gelu") for place in places]
        >>> hidden = [keras.layers.Dense(64, "gelu", kernel_initializer=start) for start in starts]
        >>> output = keras.layers.Dense(10, kernel_initializer=LooksLinear("last"))

    Departs: The paper treats ReLU. Other activations, gains from their odd part, noise and the
        small last kernel are additions. A constant even part, as that of the sigmoid, is
        accepted: the gradients of the next kernel break its symmetry.
    """

    formula = "gain/2 · [[A, -A], [-A, A]], A orthogonal, gain from odd(f) (2 for relu)"
    use = "deep networks without normalization or skips, activations that are not odd"
    source = "Balduzzi et al. 2017, arXiv:1702.08591, section 4"

    place: str = "hidden"
    gain: float | None = None
    noise: float = 0.0
    channels: int | None = None
    nonlinearity: Any = field(default="relu", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels is not None:
            self._require_whole("channels", 2)
        if self.nonlinearity is None or _odd_share(self.nonlinearity) > 1 - EVEN_SHARE:
            raise ValueError(
                f"`LooksLinear(nonlinearity=...)` must be an activation that is not odd: with "
                f"f(-z) = -f(z), the two units of a pair never part. Received: "
                f"nonlinearity={self.nonlinearity!r}. Use `winit>near_linear_orthogonal`."
            )
        self.nonlinearity_gain("odd")

    def _default_gain(self) -> float:
        if self.place == "hidden":
            return self.nonlinearity_gain("odd")
        return 1.0 if self.place == "first" else 0.1

    def _matrix_sizes(self, shape: Shape, axes: Axes, sizes: _Sizes) -> tuple[int, ...]:
        rows, columns = sizes.inputs, [sizes.outputs]
        if self.place != "first":
            channels = self._paired_channels(shape, axes)
            self._require_pairs("inputs", channels, shape)
            if sizes.inputs % max(channels, 1):
                raise ValueError(
                    f"`LooksLinear(channels=...)` must divide the number of inputs. Received: "
                    f"channels={channels}, shape={shape}."
                )
            rows = sizes.inputs // max(channels, 1) * (channels // 2)
        if self.place != "last":
            units = shape[axes.outputs[-1]] if axes.outputs else 1
            self._require_pairs("outputs", units, shape)
            rest = sizes.outputs // max(units, 1)
            columns = [rest * (units // 2), rest * (units % 2)]
        return rows, *columns

    def _paired_channels(self, shape: Shape, axes: Axes) -> int:
        return self.channels or (shape[axes.inputs[-1]] if axes.inputs else 1)

    def _require_pairs(self, side: str, units: int, shape: Shape) -> None:
        if units == 1:
            raise ValueError(
                f"`LooksLinear(place={self.place!r})` needs at least two {side} along the last "
                f"axis of them, to be paired. Received: shape={shape}."
            )

    def _arranged(self, sizes: _Sizes, shape: Shape, axes: Axes, *matrices: Array) -> Array:
        half = matrices[0]
        if self.place != "last":
            units = shape[axes.outputs[-1]]
            rest = sizes.outputs // max(units, 1)
            half, single = (
                matrix.reshape(*matrix.shape[:3], rest, columns)
                for matrix, columns in zip(matrices, (units // 2, units % 2), strict=True)
            )
            half = np.concatenate([half, -half, single], axis=4)
            half = half.reshape(*half.shape[:3], sizes.outputs)
        if self.place != "first":
            channels = self._paired_channels(shape, axes)
            rest = sizes.inputs // max(channels, 1)
            paired = half.reshape(*half.shape[:2], rest, channels // 2, sizes.outputs) / 2
            unpaired = np.zeros((*paired.shape[:3], channels % 2, sizes.outputs), half.dtype)
            half = np.concatenate([paired, -paired, unpaired], axis=3)
        return half


@scheme
class NearLinearOrthogonal(_ChainScheme):
    """Orthogonal kernels with small pre-activations, at which an odd activation is nearly linear.

    A network with tanh, softsign, a sine or another odd activation then starts as a product of
    orthogonal matrices. With a matrix Q that has orthonormal rows or columns, and q the standard
    deviation of the pre-activations, the kernel is gain · Q; the default gain is

    | place | gain |
    | --- | --- |
    | first | q, for inputs of mean square 1 |
    | hidden | 1 / sqrt(E[f'(q z)**2]), z ~ N(0, 1) |
    | last | 1 |

    A matrix with more columns than rows is scaled by sqrt(columns / rows), which keeps the mean
    square of signals. In a window the matrix lies at the center, as in `DeltaOrthogonal`; a first
    kernel uses all taps. Give every kernel of the chain its place, and all biases zeros.

    The sigmoid is odd up to the constant 1/2. With `centered=True` the kernel takes no notice of
    a constant that all its inputs share: Q maps the vectors that sum to zero to such vectors.
    As training then moves all inputs along the constant, pre-activations must be larger: give
    all kernels of the chain stddev=1.

    Args:
        place: "first", "hidden" or "last": the place of the kernel in its chain. Defaults to
            "hidden".
        gain: Factor of the matrix, at least 0. Defaults to None: as in the table.
        noise: Share of the variance, from 0 to 1, that independent normal weights at all taps
            have, except in a first kernel. Defaults to 0.
        stddev: The standard deviation q of the pre-activations, above 0. Defaults to 0.1.
        centered: Whether the activation is odd up to a constant, as the sigmoid is: at every
            tap, the weights of each output sum to zero, except in a first kernel. Defaults to
            False.
        nonlinearity: The activation between the kernels, whose outputs the kernel takes.
            Defaults to "tanh".
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if an argument is out of its range, or the activation has
            a jump or no slope. At call, if the shape has fewer than two axes, the kernel has
            groups, gates or depthwise channels, or there is only one unit to be centered.

    Example:
        >>> first = NearLinearOrthogonal("first")
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer=first)

    Departs: The paper takes q from the weights and biases; here the first kernel sets it, and
        biases are zero. Centered kernels are an addition.
    """

    formula = "gain · Q, gain = 1/√E[f'(q z)²] (q 0.1, tanh)"
    use = "deep networks without normalization or skips, with tanh or another odd activation"
    source = "Pennington, Schoenholz and Ganguli 2017, arXiv:1711.04735, section 2"

    place: str = "hidden"
    gain: float | None = None
    noise: float = 0.0
    stddev: float = 0.1
    centered: bool = False
    nonlinearity: Any = field(default="tanh", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("stddev", "a number > 0", lambda value: value > 0)
        self._require("centered", "True or False", isinstance(self.centered, bool), TypeError)
        slope = 1.0 if self.nonlinearity is None else _slope(self.nonlinearity, self.stddev)
        self._require(
            "nonlinearity", "an activation with a slope", 0 < slope < math.inf, ValueError
        )
        self._slope = slope

    def _default_gain(self) -> float:
        if self.place == "hidden":
            return 1 / self._slope
        return self.stddev if self.place == "first" else 1.0

    @property
    def _centers_inputs(self) -> bool:
        return self.centered and self.place != "first"

    @property
    def _centers_outputs(self) -> bool:
        return self.centered and self.place != "last"

    def _matrix_sizes(self, shape: Shape, axes: Axes, sizes: _Sizes) -> tuple[int, ...]:
        """Return the dimensions of the vectors that are mapped: one less if they sum to zero."""
        sides = sizes.inputs - self._centers_inputs, sizes.outputs - self._centers_outputs
        if (self._centers_inputs and sides[0] == 0) or (self._centers_outputs and sides[1] == 0):
            raise ValueError(
                f"`NearLinearOrthogonal(centered=True, place={self.place!r})` needs at least two "
                f"units on each centered side. Received: shape={shape}."
            )
        return sides

    def _arranged(self, sizes: _Sizes, shape: Shape, axes: Axes, *matrices: Array) -> Array:
        (matrix,) = matrices
        matrix = _summing_to_zero(matrix, 2) if self._centers_inputs else matrix
        return _summing_to_zero(matrix, 3) if self._centers_outputs else matrix


def _widening(rows: int, columns: int) -> float:
    """Return the factor that keeps the mean square if there are more columns than rows."""
    return math.sqrt(max(columns / max(rows, 1), 1))


def _summing_to_zero(vectors: Array, axis: int) -> Array:
    """Embed vectors in one more dimension, where all sum to zero; their products stay.

    This is a Householder reflection that takes the first axis to the diagonal.
    """
    count = vectors.shape[axis] + 1
    root = math.sqrt(count)
    total = vectors.sum(axis, keepdims=True)
    return np.concatenate([total / root, vectors - total / (count - root)], axis)


# Both are cached because a chain has many kernels. The theory is imported when it is needed, as
# importing keras_winit must be fast.
@functools.lru_cache(maxsize=64)
def _odd_share(nonlinearity: Any) -> float:
    from keras_winit.theory.gains import odd_share

    return odd_share(nonlinearity)


@functools.lru_cache(maxsize=64)
def _slope(nonlinearity: Any, stddev: float) -> float:
    """Return sqrt(E[f'(stddev z)**2])."""
    from keras_winit.theory.mean_field import chi_1

    return math.sqrt(chi_1(nonlinearity, stddev**2, 1.0))
