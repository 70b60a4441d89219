"""Schemes that pass the input on: identity and Hadamard matrices, also within a window."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import Scheme, scheme
from keras_winit.initializers.calling_layer import (
    require_convolution,
    require_kernel,
    require_known_use,
    use_in_calling_layer,
)
from keras_winit.initializers.kernels import AxesScheme
from keras_winit.initializers.placement import Array, DrawPart, Part, Shape, part_shape, zeros
from keras_winit.theory.fans import Use, kernel_axes, split_outputs

Index = npt.NDArray[np.uint32]
# Fills zeros with a matrix. The two indices are the row and the column of each entry, in shapes
# that broadcast to it.
FillMatrix = Callable[[Array, Index, Index], None]


class FixedMatrix(AxesScheme):
    """A matrix of inputs by outputs that is not random; in a window it lies at one tap.

    Unless its arguments state it, the layer that asks for the kernel shows how it is used.
    """

    gain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain")

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        self._require_fits("gain", dtype)
        require_kernel(self, shape, "Use `winit>zeros` for a bias.")
        use = self._find_use(shape)
        axes = kernel_axes(shape, use)
        blocks = split_outputs(shape, use, axes)
        rows = math.prod(shape[axis] for axis in axes.inputs)
        columns = math.prod(shape[axis] for axis in axes.outputs) // blocks
        fill = self._matrix(rows, columns)
        sides = axes.inputs, axes.outputs
        return lambda part: _at_tap(shape, dtype, part, axes.window, sides, fill)

    def _find_use(self, shape: Shape) -> Use:
        """Return how the layer uses the kernel, from the arguments or else from the layer."""
        if self.kernel_use != Use():
            return self.kernel_use
        use = use_in_calling_layer(shape)
        require_known_use(self, shape, use)
        return use or self.kernel_use

    def _matrix(self, rows: int, columns: int) -> FillMatrix:
        """Return a function that fills in the matrix of one block of this size."""
        return _diagonal(self.gain, columns)


@scheme
class Identity(FixedMatrix):
    """Ones on the diagonal, zeros elsewhere: the layer passes its input on.

    The kernel is a matrix of `prod(inputs)` rows and `prod(outputs)` columns. If it is not
    square, the layer drops the surplus inputs, or leaves the surplus outputs at zero. With a
    window, `(*window, in, out)`, the matrix lies at the same tap as in `Dirac`. Each group, gate
    and depthwise channel of Keras' layers gets a matrix of its own.

    Args:
        gain: The value on the diagonal. Defaults to 1.
        **shared: axes, `kind`, `groups`, `gates`, as in `AxesScheme`.

    Raises:
        ValueError: At construction, if `gain` is not finite. At call, if the shape has
            fewer than two axes, or may be that of a depthwise convolution and no layer tells.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>identity")

    Departs: Keras' `identity` accepts matrices only.
    """

    formula = "gain · I (1)"
    use = "layers that start by passing their input on"
    source = "Bartlett, Helmbold and Long 2018, arXiv:1802.06093"

    gain: float = 1.0


@scheme
class Hadamard(FixedMatrix):
    """Identity if a layer narrows, a Hadamard matrix if it widens; nothing is random.

    With out <= in, the kernel is a partial identity. With out > in it is
    gain / sqrt(out) * H[i, j], where H[i, j] = (-1)**(number of ones that i and j share in
    binary). The outputs are then sums of the inputs with different signs; with an identity, the
    surplus outputs would all be zero and stay equal. Each row of the kernel has norm `gain`. If
    `out` is a power of two, the rows are also orthogonal, and the layer keeps the norm of any
    signal. With a window, the matrix lies at the same tap as in `Dirac`. Each group, gate and
    depthwise channel of Keras' layers gets a matrix of its own.

    Args:
        gain: Factor of the kernel. Defaults to 1.
        **shared: axes, `kind`, `groups`, `gates`, as in `AxesScheme`.

    Raises:
        ValueError: At construction, if `gain` is not finite. At call, if the shape has
            fewer than two axes, or may be that of a depthwise convolution and no layer tells.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>hadamard")

    Departs: The paper multiplies H by sqrt(2 / p), p being the smallest power of two that is
        not below `out`, so that a layer that widens multiplies the norm by
        sqrt(2 * out / p). Here the layer keeps the norm, unless `gain` differs from 1. Other
        rules of the paper, such as zeros in the last layer of a residual branch, are not part
        of this scheme.
    """

    formula = "gain · I if out ≤ in, else gain · H / √out (Hadamard), gain 1"
    use = "deep residual networks without randomness"
    source = "Zhao, Schäfer and Anandkumar 2022, arXiv:2110.12661, algorithms 1 and 2"

    gain: float = 1.0

    def _matrix(self, rows: int, columns: int) -> FillMatrix:
        if columns <= rows:
            return super()._matrix(rows, columns)

        def fill(out: Array, row: Index, column: Index) -> None:
            out[...] = self.gain / math.sqrt(max(columns, 1))
            odd = (np.bitwise_count(row & column % max(columns, 1)) & 1).astype(bool)
            np.negative(out, out=out, where=odd)

        return fill


@scheme
class Irnn(Scheme):
    """The identity as a recurrent kernel: a SimpleRNN of ReLUs that starts by remembering.

    Without input, the state stays as it is, and gradients pass back over any number of time
    steps without growing or vanishing. The biases are meant to be zero, which is Keras' default.

    Args:
        gain: Value on the diagonal. Below 1 the network forgets. Defaults to 1.

    Raises:
        ValueError: At construction, if `gain` is not finite. At call, if the kernel is
            not a square matrix.

    Example:
        >>> layer = keras.layers.SimpleRNN(64, "relu", recurrent_initializer="winit>irnn")
    """

    formula = "gain · I (1), square"
    use = "recurrent kernels of SimpleRNN with ReLU"
    source = "Le, Jaitly and Hinton 2015, arXiv:1504.00941"

    gain: float = 1.0

    def __post_init__(self) -> None:
        self._require_real("gain")

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        self._require_fits("gain", dtype)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                f"`Irnn` needs the recurrent kernel of a SimpleRNN, (units, units). "
                f"Received: shape={shape}. Wrap it in `winit>per_gate` for a kernel of "
                f"several gates; use `winit>identity` for other kernels."
            )
        return Identity(self.gain).plan(shape, dtype)


@scheme
class Dirac(FixedMatrix):
    """An identity at one tap of a convolution's window: `conv(x) == x`.

    In each group, `kernel[*tap, d, d]` is `gain` for each channel d, and all else is zero. The
    tap is at `(size - 1) // 2` along each axis of the window: with Keras' "same" padding it
    meets the input at the output's own position, also in a window of even size. Surplus filters
    and surplus channels stay zero. The scheme also suits transposed convolutions of stride 1. In
    a depthwise convolution, the first filter of each channel passes the channel on.

    Args:
        groups: Number of groups of the layer, at least 1. Defaults to 1, or to the groups of the
            convolution of Keras that asks for the kernel.
        gain: Value at the tap. Defaults to 1.
        **shared: `kind`, `gates`, as in `AxesScheme`. Axes are refused.

    Raises:
        ValueError: At construction, if `groups` is less than 1 or `gain` is not finite.
            At call, if the kernel has no window of one to three axes, or the number of its
            filters is not a multiple of `groups`.

    Example:
        >>> layer = keras.layers.Conv2D(64, 3, padding="same", kernel_initializer="winit>dirac")

    Departs: PyTorch's `dirac_` uses the tap `size // 2`. In a window of even size, with Keras'
        padding, that tap would shift the input by one.
    """

    formula = "gain · I (1) at the tap (size - 1) // 2, else 0"
    use = "convolutions that start by passing their input on"
    source = "Zagoruyko and Komodakis 2017, arXiv:1706.00388"

    groups: int = 1
    gain: float = 1.0

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        require_convolution(self, shape, "a convolution", "Use `winit>identity`.")
        if shape[-1] % self.groups and self.kind == "dense":
            raise ValueError(
                f"`Dirac(groups=...)` must divide the number of filters, {shape[-1]}. "
                f"Received: groups={self.groups}, shape={shape}."
            )
        return super().plan(shape, dtype)


def _diagonal(value: float, width: int) -> FillMatrix:
    """Return a function that sets the diagonal of each block of `width` columns."""

    def fill(out: Array, row: Index, column: Index) -> None:
        np.copyto(out, out.dtype.type(value), where=row == column % max(width, 1))

    return fill


def _at_tap(
    shape: Shape,
    dtype: str,
    part: Part,
    window: Sequence[int],
    sides: tuple[Sequence[int], Sequence[int]],
    fill: FillMatrix,
) -> Array:
    """Return a part of a kernel that is zero except for a matrix at one tap of its window.

    `sides` are the axes of the matrix's rows and of its columns.
    """
    out = zeros(part_shape(part), dtype)
    at_tap = list(part)
    for axis in window:
        # "same" padding adds (size - 1) // 2 entries before the input.
        tap = (shape[axis] - 1) // 2
        if not part[axis].start <= tap < part[axis].stop:
            return out
        at_tap[axis] = slice(tap, tap + 1)
    local = tuple(
        slice(tap.start - axis.start, tap.stop - axis.start)
        for tap, axis in zip(at_tap, part, strict=True)
    )
    row, column = (_flat_index(shape, tuple(at_tap), side) for side in sides)
    fill(out[local], row, column)
    return out


def _flat_index(shape: Shape, part: Part, axes: Sequence[int]) -> Index:
    """Return the index of a part's entries on some axes, flattened, in a shape that broadcasts."""
    flat = np.zeros((1,) * len(shape), np.uint32)
    for axis in axes:
        index = np.arange(part[axis].start, part[axis].stop, dtype=np.uint32)
        broadcast_shape = [-1 if other == axis else 1 for other in range(len(shape))]
        flat = flat * np.uint32(shape[axis]) + index.reshape(broadcast_shape)
    return flat
