"""Schemes whose kernels keep lengths and angles: orthonormal rows or columns."""

import math
from collections.abc import Callable

import numpy as np

from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import GainScheme
from keras_winit.initializers.placement import Array, Part, Shape, cut, empty, whole, zeros
from keras_winit.initializers.streams import Stream
from keras_winit.theory.fans import Axes, kernel_axes, split_outputs

# Reflections that are applied at once, as products of matrices.
PANEL = 64


class _Orthogonal(GainScheme):
    gain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain", "a number >= 0", lambda value: value >= 0)

    def _axes(self, shape: Shape) -> Axes:
        if len(shape) < 2:
            raise ValueError(
                f"`{type(self).__name__}` needs a kernel of at least two axes. "
                f"Received: shape={shape}. Use `winit>zeros` or `winit>constant` for a bias."
            )
        return kernel_axes(shape, self.kernel_use)

    def _fill(self, out: Array, stream: Stream, axes: Axes, scale: float) -> None:
        """Fill an array with an orthogonal matrix for each kernel and block in it."""
        rows = axes.window + axes.inputs
        blocks = split_outputs(out.shape, self.kernel_use, axes)
        *most, last = (out.shape[axis] for axis in axes.outputs) if axes.outputs else (1,)
        kernels, inputs = (math.prod(out.shape[i] for i in side) for side in (axes.apart, rows))
        outputs = math.prod(most) * last // blocks
        wide = np.float64 if out.dtype == np.float64 else np.float32
        matrices = _orthogonal(stream, kernels * blocks, inputs, outputs, wide)
        matrices *= wide(scale)
        split = (kernels, blocks, inputs, math.prod(most), last // blocks)
        joined = np.moveaxis(matrices.reshape(split), 1, 3)
        order = axes.apart + rows + axes.outputs
        out.transpose(order)[...] = joined.reshape([out.shape[axis] for axis in order])


@scheme
class Orthogonal(_Orthogonal):
    """A random orthogonal matrix, uniformly distributed: keeps the length of signals.

    The kernel as a matrix of inputs by outputs, `(prod(window) * in, out)`, has
    orthonormal columns or, if there are fewer inputs than outputs, orthonormal rows. Each
    group, each gate, each expert and each depthwise channel is a matrix by itself, once
    `for_layer` or the arguments below have told of them. The kernel is made as a whole,
    also where JAX asks for one shard.

    Args:
        gain: Multiplies the matrix. At least 0. Defaults to 1.
        nonlinearity: An activation whose gain multiplies `gain`. See `VarianceScaling`.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is negative or not finite. At call, if the
            shape has fewer than two axes.

    Example:
        >>> layer = keras.layers.SimpleRNN(64, recurrent_initializer="winit>orthogonal")

    Departs: Made of random reflections (Stewart 1980, SIAM Journal on Numerical Analysis
        17, section 3) and not by decomposing a normal matrix, which has the same
        distribution. In float32 at least, so that 16-bit layers build. Equal on all
        backends of a machine; on another one, up to the rounding of its matrix products.
    """

    formula = "gain · Q, Q uniform over orthogonal matrices"
    use = "recurrent kernels; deep linear, tanh and ReLU networks"
    source = "Saxe et al. 2013, arXiv:1312.6120, section 3"

    gain: float = 1.0

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        axes = self._axes(shape)
        scale = self.gain * self.nonlinearity_gain("second_moment")
        split_outputs(shape, self.kernel_use, axes)
        stream = self.stream()

        def make() -> Array:
            out = empty(shape, dtype)
            self._fill(out, stream, axes, scale)
            return out

        return cut(make, shape, dtype)


class _Delta(_Orthogonal):
    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        axes = self._axes(shape)
        blocks = split_outputs(shape, self.kernel_use, axes)
        fan_in = math.prod(shape[axis] for axis in axes.inputs)
        fan_out = math.prod(shape[axis] for axis in axes.outputs) // blocks
        scale = self._scale(shape, fan_in, fan_out) * self.nonlinearity_gain("second_moment")
        # Where Keras' "same" padding puts the window's own place, for even windows too.
        tap = {axis: (shape[axis] - 1) // 2 for axis in axes.window}
        center = tuple(slice(tap[i], tap[i] + 1) if i in tap else slice(None) for i in _all(shape))
        stream = self.stream()

        def make() -> Array:
            out = zeros(shape, dtype)
            self._fill(out[center], stream, axes, scale)
            return out

        return cut(make, shape, dtype)

    def _scale(self, shape: Shape, fan_in: int, fan_out: int) -> float:
        raise NotImplementedError


@scheme
class DeltaOrthogonal(_Delta):
    """An orthogonal matrix at the center of the window, zero elsewhere.

    A convolution with stride 1 and "same" padding then keeps the length of its input
    exactly, however deep the stack. The center is `(size - 1) // 2` along each axis of the
    window, where Keras' padding wants it.

    Args:
        gain: Multiplies the matrix. At least 0. Defaults to 1.
        nonlinearity: An activation whose gain multiplies `gain`. See `VarianceScaling`.
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
class ScaledOrthogonal(_Delta):
    """An orthogonal matrix, enlarged where there are more outputs than inputs.

    The factor `max(sqrt(out / in), 1)` keeps the mean square of a signal, which a matrix
    with orthonormal rows spreads over more units. In a convolution the matrix stands at
    the center of the window, as in `DeltaOrthogonal`.

    Args:
        gain: Multiplies the matrix. At least 0. Defaults to 1.
        nonlinearity: An activation whose gain multiplies `gain`. See `VarianceScaling`.
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


def _all(shape: Shape) -> range:
    return range(len(shape))


def _orthogonal(stream: Stream, count: int, rows: int, columns: int, wide: type) -> Array:
    """`count` matrices with orthonormal columns or, if these are more, rows."""
    tall = (count, max(rows, columns), min(rows, columns))
    normal: Array = stream.normal(tall, "float32", whole(tall), 1.0).astype(wide, copy=False)
    made = reflected(normal)
    return made if rows >= columns else made.transpose(0, 2, 1)


def reflected(vectors: Array) -> Array:
    """The first columns of products of Householder reflections, given normal vectors.

    As uniform as the Q of a normal matrix with its signs made good, without decomposing
    one. `vectors`, of shape (count, rows, columns), is used up.
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
        # The reflections of a panel at once: I - V T V', T the inverse of what Puglisi 1992
        # (SIAM Journal on Scientific and Statistical Computing 13) reads off V' V.
        exact = panel.astype(np.float64)
        gram = exact.transpose(0, 2, 1) @ exact
        inverse = np.triu(gram)
        inverse[:, diagonal, diagonal] = np.maximum(gram[:, diagonal, diagonal] / 2, 1e-30)
        rest = out[:, start:, start:]
        shares = np.linalg.solve(inverse, panel.transpose(0, 2, 1) @ rest)
        rest -= panel @ shares.astype(vectors.dtype)
    return out
