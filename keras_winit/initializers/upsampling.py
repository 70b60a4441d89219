"""Kernels of layers that enlarge, without the checkerboard of random ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import Scheme, scheme
from keras_winit.initializers.kernels import WrappingScheme
from keras_winit.initializers.placement import Array, Part, Shape, empty, part_shape


@scheme
class Icnr(WrappingScheme):
    """One small kernel for all pixels of a block: sub-pixel convolution without a pattern.

    With `keras.ops.depth_to_space` behind it, a convolution `(*window, in, out)` then
    enlarges the output of a convolution of `out / block_size**n` filters by repeating
    each value, n being the axes of the window. `inner` draws the kernel of that small
    convolution, with its fans; filter f gets its filter `f % small`, which is the order of
    `depth_to_space`, where the position in the block comes before the channel.

    Args:
        inner: Draws the small kernel. Any initializer. Defaults to `winit>he_normal`.
        block_size: By how much each axis grows. A count, at least 2, the default.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is the name of none, or `block_size` is less
            than 2. At call, if the kernel has no window of one to three axes, or its
            filters do not fill whole blocks.

    Example:
        >>> layer = keras.layers.Conv2D(64, 3, padding="same", kernel_initializer="winit>icnr")

    Departs: The small kernel has the fan_in of the layer, but a fan_out of the small
        convolution. Made for Keras' order of channels; PyTorch's is another.
    """

    formula = "kernel[..., f] = inner[..., f mod (out / block²)], block 2"
    use = "convolutions before depth_to_space"
    source = "Aitken et al. 2017, arXiv:1707.02937"

    inner: Any = "winit>he_normal"
    block_size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_whole("block_size", 2)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        rank = len(shape)
        if rank not in (3, 4, 5):
            raise ValueError(
                f"`Icnr` needs the kernel of a convolution, of three to five axes. "
                f"Received: shape={shape}."
            )
        block = self.block_size ** (rank - 2)
        if shape[-1] % block:
            raise ValueError(
                f"`Icnr` needs filters in blocks of block_size**{rank - 2} = {block}. "
                f"Received: block_size={self.block_size}, shape={shape}."
            )
        small = shape[-1] // block
        inner = self.inner_plan((*shape[:-1], small), dtype)

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            if out.size:
                filters = np.arange(part[-1].start, part[-1].stop) % small
                out[...] = inner((*part[:-1], slice(0, small)))[..., filters]
            return out

        return draw


@scheme
class Bilinear(Scheme):
    """Bilinear interpolation by a transposed convolution, each channel by itself.

    For kernels `(*window, out, in)` of `Conv1DTranspose` to `Conv3DTranspose`, with
    padding "same", strides s and windows of `2 * s - s % 2` along each axis: away from the
    border the layer enlarges as `keras.ops.image.resize` does. The weights along an axis
    are the triangle `1 - abs(i - c) / f` around c, the middle of the window, with
    `f = ceil(size / 2)`; channel d goes to channel d, and all else is zero.

    Raises:
        ValueError: At call, if the kernel has no window of one to three axes, or a window
            for which there is no such s: 2, 3, 6, 7 and so on.

    Example:
        >>> layer = keras.layers.Conv2DTranspose(
        ...     8, 4, strides=2, padding="same", kernel_initializer="winit>bilinear"
        ... )

    Departs: The paper interpolates a single channel. Kernels that connect all channels,
        also found under this name, would add them up.
    """

    formula = "∏ (1 - |i - c| / f) on the channel diagonal, else 0"
    use = "transposed convolutions that enlarge"
    source = "Long, Shelhamer and Darrell 2015, arXiv:1411.4038, section 3.3"

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"`Bilinear` needs the kernel of a transposed convolution, of three to five "
                f"axes. Received: shape={shape}."
            )
        if any(size % 4 not in (0, 1) for size in shape[:-2]):
            raise ValueError(
                f"`Bilinear` needs windows of 2 * s - s % 2 for strides of s, which are 1, 4, "
                f"5, 8, 9 and so on. Received: shape={shape}."
            )

        def draw(part: Part) -> Array:
            weights = np.ones((1,) * len(shape))
            for axis, size in enumerate(shape[:-2]):
                along = [-1 if other == axis else 1 for other in range(len(shape))]
                weights = weights * _triangle(size)[part[axis]].reshape(along)
            row, column = (np.arange(side.start, side.stop) for side in part[-2:])
            out = empty(part_shape(part), dtype)
            out[...] = weights * (row[:, None] == column)
            return out

        return draw


def _triangle(size: int) -> npt.NDArray[np.float64]:
    """Weights that fall off linearly from the middle of a window."""
    distance: npt.NDArray[np.float64] = np.abs(np.arange(size) - (size - 1) / 2)
    return 1 - distance / max(-(-size // 2), 1)
