"""Kernels that pass their input on: identities, alone or at one tap of a window."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import Scheme, scheme
from keras_winit.initializers.kernels import AxesScheme
from keras_winit.initializers.placement import Array, Part, Shape, part_shape, zeros
from keras_winit.theory.fans import kernel_axes, split_outputs

Index = npt.NDArray[np.uint32]
# Fills a matrix of zeros, given the row and the column of each entry, to be broadcast.
Fill = Callable[[Array, Index, Index], None]


class _Matrix(AxesScheme):
    """A matrix of inputs by outputs, which lies at one tap where there is a window."""

    gain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain")

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        rank = len(shape)
        if rank < 2:
            raise ValueError(
                f"`{type(self).__name__}` needs a kernel of at least two axes. "
                f"Received: shape={shape}. Use `winit>zeros` for a bias."
            )
        axes = kernel_axes(shape, self.kernel_use)
        blocks = split_outputs(shape, self.kernel_use, axes)
        rows = math.prod(shape[axis] for axis in axes.inputs)
        columns = math.prod(shape[axis] for axis in axes.outputs) // blocks
        fill = self._fill(rows, columns)
        sides = axes.inputs, axes.outputs
        return lambda part: _at_tap(shape, dtype, part, axes.window, sides, fill)

    def _fill(self, rows: int, columns: int) -> Fill:
        """For one block, given its rows and columns."""
        return _diagonal(self.gain, columns)


@scheme
class Identity(_Matrix):
    """Ones on the diagonal, zeros elsewhere: the layer passes its input on.

    As a matrix of `prod(inputs)` rows and `prod(outputs)` columns; of a rectangular one the
    smaller side is passed on, and what is left over stays zero. With a window,
    `(*window, in, out)`, the matrix lies at the tap that passes signals on, as in `Dirac`.

    Args:
        gain: The value on the diagonal. Defaults to 1.
        **shared: axes, `kind`, `groups`, `gates`, as in `AxesScheme`.

    Raises:
        ValueError: At construction, if `gain` is not finite. At call, if the shape has
            fewer than two axes.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>identity")

    Departs: Keras' `identity` takes matrices only.
    """

    formula = "gain · I (1)"
    use = "layers that start by passing their input on"
    source = "Bartlett, Helmbold and Long 2018, arXiv:1802.06093"

    gain: float = 1.0


@scheme
class Hadamard(_Matrix):
    """Identity where a layer narrows, a Hadamard matrix where it widens: nothing is drawn.

    With out <= in, the kernel is a partial identity. With out > in it holds
    gain / sqrt(out) * H[i, j], H[i, j] = (-1)**(number of ones that i and j share in
    binary): sums of the inputs with different signs, where outputs beyond an identity
    would all be zero and stay alike. Each input goes out with norm gain; where `out` is a
    power of two, they stay at right angles too, and the norm of any signal is kept. With
    a window, the matrix lies at the tap that passes signals on, as in `Dirac`.

    Args:
        gain: Multiplies the kernel. Defaults to 1.
        **shared: axes, `kind`, `groups`, `gates`, as in `AxesScheme`.

    Raises:
        ValueError: At construction, if `gain` is not finite. At call, if the shape has
            fewer than two axes.

    Example:
        >>> layer = keras.layers.Dense(64, kernel_initializer="winit>hadamard")

    Departs: The paper multiplies H by sqrt(2 / p), p being the next power of two from
        `out` on, so that a layer that widens makes the norm sqrt(2 * out / p) times as
        large; here it keeps it, and `gain` may say otherwise. What the paper does beyond
        a kernel, such as zeros in the last layer of a residual branch, is left to you.
    """

    formula = "gain · I if out ≤ in, else gain · H / √out (Hadamard), gain 1"
    use = "deep residual networks without randomness"
    source = "Zhao, Schäfer and Anandkumar 2022, arXiv:2110.12661, algorithms 1 and 2"

    gain: float = 1.0

    def _fill(self, rows: int, columns: int) -> Fill:
        if columns <= rows:
            return super()._fill(rows, columns)

        def fill(out: Array, row: Index, column: Index) -> None:
            out[...] = self.gain / math.sqrt(max(columns, 1))
            odd = (np.bitwise_count(row & column % max(columns, 1)) & 1).astype(bool)
            np.negative(out, out=out, where=odd)

        return fill


@scheme
class Irnn(Scheme):
    """The identity as recurrent kernel: a SimpleRNN of ReLUs that starts by remembering.

    Without input, the state is then the last one; errors come back over any number of
    steps without growing or fading. Biases are meant to be zero, which is Keras' default.

    Args:
        gain: The value on the diagonal; below 1 the network forgets. Defaults to 1.

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

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                f"`Irnn` needs the recurrent kernel of a SimpleRNN, (units, units). "
                f"Received: shape={shape}. Wrap it in `winit>per_gate` for a kernel of "
                f"several gates; use `winit>identity` for other kernels."
            )
        return Identity(self.gain).plan(shape, dtype)


@scheme
class Dirac(_Matrix):
    """An identity at one tap of a convolution's window: `conv(x) == x`.

    In each group, `kernel[*tap, d, d]` is gain for each channel d, and all else is zero.
    The tap is `(size - 1) // 2` along each axis, which is where Keras' "same" padding
    puts the input's own place, also in an even window. Filters without a channel of
    their own, and channels without a filter, stay zero. For transposed convolutions of
    stride 1 as well; in a depthwise one, the first filter of each channel passes it on.

    Args:
        groups: Of the layer. A count, at least 1. Defaults to 1.
        gain: The value at the tap. Defaults to 1.
        **shared: axes, `kind`, `gates`, as in `AxesScheme`.

    Raises:
        ValueError: At construction, if `groups` is less than 1 or `gain` is not finite.
            At call, if the kernel has no window of one to three axes, or its filters are
            no multiple of `groups`.

    Example:
        >>> layer = keras.layers.Conv2D(64, 3, padding="same", kernel_initializer="winit>dirac")

    Departs: PyTorch's `dirac_` takes the tap `size // 2`, which moves the input by one
        where Keras pads an even window.
    """

    formula = "gain · I (1) at the tap (size - 1) // 2, else 0"
    use = "convolutions that start by passing their input on"
    source = "Zagoruyko and Komodakis 2017, arXiv:1706.00388"

    groups: int = 1
    gain: float = 1.0

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`Dirac` needs the kernel of a convolution, of three to five axes. "
                f"Received: shape={shape}. Use `winit>identity`."
            )
        if shape[-1] % self.groups and self.kind == "dense":
            raise ValueError(
                f"`Dirac(groups=...)` must divide the number of filters, {shape[-1]}. "
                f"Received: groups={self.groups}, shape={shape}."
            )
        return super().plan(shape, dtype)


def _diagonal(value: float, width: int) -> Fill:
    """A value on the diagonal of each block of so many columns."""

    def fill(out: Array, row: Index, column: Index) -> None:
        np.copyto(out, out.dtype.type(value), where=row == column % max(width, 1))

    return fill


def _at_tap(
    shape: Shape,
    dtype: str,
    part: Part,
    window: Sequence[int],
    sides: tuple[Sequence[int], Sequence[int]],
    fill: Fill,
) -> Array:
    """Part of a kernel that is zero but for a matrix at the tap in its window."""
    out = zeros(part_shape(part), dtype)
    held = list(part)
    for axis in window:
        # What "same" padding puts before the input is (size - 1) // 2 long.
        tap = (shape[axis] - 1) // 2
        if not part[axis].start <= tap < part[axis].stop:
            return out
        held[axis] = slice(tap, tap + 1)
    local = (slice(h.start - p.start, h.stop - p.start) for h, p in zip(held, part, strict=True))
    row, column = (_flat(shape, tuple(held), side) for side in sides)
    fill(out[tuple(local)], row, column)
    return out


def _flat(shape: Shape, part: Part, axes: Sequence[int]) -> Index:
    """Where the entries of a part lie on some axes, flattened; to be broadcast over the part."""
    flat = np.zeros((1,) * len(shape), np.uint32)
    for axis in axes:
        along = np.arange(part[axis].start, part[axis].stop, dtype=np.uint32)
        lying = [-1 if other == axis else 1 for other in range(len(shape))]
        flat = flat * np.uint32(shape[axis]) + along.reshape(lying)
    return flat
