"""Orthogonal schemes: kernels with orthonormal rows or columns keep lengths and angles."""

import math

import numpy as np

from keras_winit.initializers.base import scheme
from keras_winit.initializers.calling_layer import require_kernel
from keras_winit.initializers.kernels import GainScheme
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Shape,
    cut_from_whole,
    empty,
    require_finite,
    whole,
    zeros,
)
from keras_winit.initializers.streams import Stream
from keras_winit.theory.fans import Axes, kernel_axes, split_outputs

# Number of reflections that are applied at once, as a product of matrices.
PANEL = 64


class _Orthogonal(GainScheme):
    gain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain", "a number >= 0", lambda value: value >= 0)

    def _axes(self, shape: Shape) -> Axes:
        require_kernel(self, shape, "Use `winit>zeros` or `winit>constant` for a bias.")
        return kernel_axes(shape, self.kernel_use)

    def _fill(self, out: Array, stream: Stream, axes: Axes, scale: float) -> None:
        """Fill an array with one orthogonal matrix for each independent kernel and block."""
        row_axes = axes.window + axes.inputs
        blocks = split_outputs(out.shape, self.kernel_use, axes)
        *outer, last = (out.shape[axis] for axis in axes.outputs) if axes.outputs else (1,)
        kernels = math.prod(out.shape[axis] for axis in axes.apart)
        rows = math.prod(out.shape[axis] for axis in row_axes)
        columns = math.prod(outer) * last // blocks
        wide = np.float64 if out.dtype == np.float64 else np.float32
        matrices = _orthogonal_matrices(stream, kernels * blocks, rows, columns, wide)
        with np.errstate(over="ignore", invalid="ignore"):
            matrices *= wide(scale)
        # Blocks, such as gates, stand side by side on the last output axis.
        split = matrices.reshape(kernels, blocks, rows, math.prod(outer), last // blocks)
        joined = np.moveaxis(split, 1, 3)
        order = axes.apart + row_axes + axes.outputs
        with np.errstate(over="ignore"):
            out.transpose(order)[...] = joined.reshape([out.shape[axis] for axis in order])
        require_finite(out)


@scheme
class Orthogonal(_Orthogonal):
    """A uniformly distributed random orthogonal matrix, which keeps the length of signals.

    As a matrix of inputs by outputs, `(prod(window) * in, out)`, the kernel has orthonormal
    columns or, if there are fewer inputs than outputs, orthonormal rows. Each group, gate,
    expert and depthwise channel gets a matrix of its own, if `for_layer` or the arguments below
    say that there are several. The kernel is always made as a whole, even if JAX asks for one
    shard.

    Args:
        gain: Factor of the matrix, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite. At call, if the
            shape has fewer than two axes.

    Example:
        >>> layer = keras.layers.SimpleRNN(64, recurrent_initializer="winit>orthogonal")

    Departs: The matrix is a product of random reflections (Stewart 1980, SIAM Journal on
        Numerical Analysis 17, section 3), which has the same distribution as the Q factor of a
        normal matrix. It is computed in float32 or float64, so that 16-bit layers build. It is
        equal on all backends of one machine, and on another machine up to the rounding of
        matrix products.
    """

    formula = "gain · Q, Q uniform over orthogonal matrices"
    use = "recurrent kernels; deep linear, tanh and ReLU networks"
    source = "Saxe et al. 2013, arXiv:1312.6120, section 3"

    gain: float = 1.0

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        axes = self._axes(shape)
        scale = self.gain * self.nonlinearity_gain("second_moment")
        split_outputs(shape, self.kernel_use, axes)
        stream = self.stream()

        def make() -> Array:
            out = empty(shape, dtype)
            self._fill(out, stream, axes, scale)
            return out

        return cut_from_whole(make, shape, dtype)


class _DeltaOrthogonal(_Orthogonal):
    """An orthogonal matrix at the center of the window, zero elsewhere."""

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        axes = self._axes(shape)
        blocks = split_outputs(shape, self.kernel_use, axes)
        fan_in = math.prod(shape[axis] for axis in axes.inputs)
        fan_out = math.prod(shape[axis] for axis in axes.outputs) // blocks
        scale = self._scale(shape, fan_in, fan_out) * self.nonlinearity_gain("second_moment")
        # With Keras' "same" padding this window position meets the input at the output's own
        # position, also in a window of even size.
        tap = {axis: (shape[axis] - 1) // 2 for axis in axes.window}
        center = tuple(
            slice(tap[axis], tap[axis] + 1) if axis in tap else slice(None)
            for axis in range(len(shape))
        )
        stream = self.stream()

        def make() -> Array:
            out = zeros(shape, dtype)
            self._fill(out[center], stream, axes, scale)
            return out

        return cut_from_whole(make, shape, dtype)

    def _scale(self, shape: Shape, fan_in: int, fan_out: int) -> float:
        raise NotImplementedError


@scheme
class DeltaOrthogonal(_DeltaOrthogonal):
    """An orthogonal matrix at the center of the window, zero elsewhere.

    A convolution with stride 1 and "same" padding then keeps the length of its input exactly,
    however many are stacked. The center is at `(size - 1) // 2` along each axis of the window,
    as Keras' "same" padding requires.

    Args:
        gain: Factor of the matrix, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite. At call, if the
            shape has fewer than two axes, or there are more inputs than outputs.

    Example:
        >>> layer = keras.layers.Conv2D(
        ...     64, 3, padding="same", kernel_initializer="winit>delta_orthogonal"
        ... )
    """

    formula = "gain · Q at the center of the window; else 0"
    use = "very deep convolutional networks without normalization"
    source = "Xiao et al. 2018, arXiv:1806.05393, section 2.4, algorithm 1"

    gain: float = 1.0

    def _scale(self, shape: Shape, fan_in: int, fan_out: int) -> float:
        if fan_in > fan_out:
            raise ValueError(
                f"`DeltaOrthogonal` needs at least as many outputs as inputs, not {fan_in} inputs "
                f"and {fan_out} outputs. Received: shape={shape}. Use `winit>orthogonal` or "
                f"`winit>scaled_orthogonal`."
            )
        return self.gain


@scheme
class ScaledOrthogonal(_DeltaOrthogonal):
    """An orthogonal matrix, scaled up if there are more outputs than inputs.

    A matrix with orthonormal rows spreads a signal over more units. The factor
    `max(sqrt(out / in), 1)` keeps its mean square. In a convolution the matrix lies at the
    center of the window, as in `DeltaOrthogonal`.

    Args:
        gain: Factor of the matrix, at least 0. Defaults to 1.
        nonlinearity: An activation, whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite. At call, if the
            shape has fewer than two axes.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>scaled_orthogonal")
    """

    formula = "gain · max(√(out / in), 1) · Q at the center of the window; else 0"
    use = "deep networks without normalization whose width changes"
    source = "Martens et al. 2021, arXiv:2110.01765, scale-corrected uniform orthogonal weights"

    gain: float = 1.0

    def _scale(self, shape: Shape, fan_in: int, fan_out: int) -> float:
        return self.gain * math.sqrt(max(fan_out / max(fan_in, 1), 1))


def _orthogonal_matrices(stream: Stream, count: int, rows: int, columns: int, dtype: type) -> Array:
    tall = (count, max(rows, columns), min(rows, columns))
    normal: Array = stream.normal(tall, "float32", whole(tall), 1.0).astype(dtype, copy=False)
    return orthogonal_matrices(normal, rows, columns)


def orthogonal_matrices(normal: Array, rows: int, columns: int) -> Array:
    """Return matrices with orthonormal columns, or orthonormal rows if they are fewer.

    Args:
        normal: rows * columns draws from N(0, 1) for each matrix, of any shape whose first axis
            counts the matrices. They are overwritten.
        rows: Number of rows.
        columns: Number of columns.
    """
    tall = (len(normal), max(rows, columns), min(rows, columns))
    matrices = orthonormal_columns(normal.reshape(tall))
    return matrices if rows >= columns else matrices.transpose(0, 2, 1)


def orthonormal_columns(vectors: Array) -> Array:
    """Return uniformly distributed orthonormal columns, made from normal vectors.

    They are the first columns of products of Householder reflections. Their distribution is
    that of the Q factor of a normal matrix with corrected signs, without a decomposition.

    Args:
        vectors: Draws from N(0, 1), of shape (count, rows, columns) with rows >= columns. They
            are overwritten.
    """
    count, rows, columns = vectors.shape
    out = np.zeros((count, rows, columns), vectors.dtype)
    for start in reversed(range(0, columns, PANEL)):
        stop = min(start + PANEL, columns)
        panel = vectors[:, start:, start:stop]
        size = stop - start
        panel[:, :size] = np.tril(panel[:, :size])
        diagonal = np.arange(size)
        leading = panel[:, diagonal, diagonal]
        sign = np.where(leading < 0, -1, 1).astype(vectors.dtype)
        panel[:, diagonal, diagonal] += sign * np.linalg.norm(panel, axis=1)
        out[:, start + diagonal, start + diagonal] = -sign
        # The product of a panel's reflections is I - V T V'. The inverse of T is the triangular
        # matrix that Puglisi 1992 (SIAM Journal on Scientific and Statistical Computing 13)
        # reads off V' V.
        exact = panel.astype(np.float64)
        gram = exact.transpose(0, 2, 1) @ exact
        inverse = np.triu(gram)
        inverse[:, diagonal, diagonal] = np.maximum(gram[:, diagonal, diagonal] / 2, 1e-30)
        block = out[:, start:, start:]
        coefficients = np.linalg.solve(inverse, panel.transpose(0, 2, 1) @ block)
        block -= panel @ coefficients.astype(vectors.dtype)
    return out
