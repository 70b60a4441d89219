"""Schemes for convolutions that enlarge images, without the checkerboards of random kernels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import Scheme, scheme
from keras_winit.initializers.calling_layer import (
    calling_layer,
    require_convolution,
    use_in_calling_layer,
)
from keras_winit.initializers.placement import Array, DrawPart, Part, Shape, empty, part_shape
from keras_winit.initializers.wrapping import WrappingScheme
from keras_winit.theory.fans import Use


@scheme
class Icnr(WrappingScheme):
    """The same small kernel for all pixels of a block: sub-pixel convolution without a pattern.

    The convolution, with a kernel `(*window, in, out)`, is followed by
    `keras.ops.depth_to_space`. Let n be the number of axes of the window, and small =
    out / block_size**n. The two operations then equal a convolution with `small` filters, whose
    output is enlarged by repeating each value. `inner` draws the kernel of that small
    convolution, with its fans. Filter f of the kernel is filter `f % small` of the small one,
    because `depth_to_space` orders filters by position in the block first, then by channel.

    Args:
        inner: Any initializer, which draws the small kernel. Defaults to `winit>he_normal`.
        block_size: Factor by which each axis grows, at least 2. Defaults to 2.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is a name that Keras does not know, or
            `block_size` is less than 2. At call, if the kernel has no window of one to three
            axes, or the number of filters is not a multiple of block_size**n.

    Example:
        >>> layer = keras.layers.Conv2D(64, 3, padding="same", kernel_initializer="winit>icnr")

    Departs: The small kernel has the fan_in of the layer, but the fan_out of the small
        convolution. The order of channels is that of Keras, which differs from PyTorch's.
    """

    formula = "kernel[..., f] = inner[..., f mod (out / block²)], block 2"
    use = "convolutions before depth_to_space"
    source = "Aitken et al. 2017, arXiv:1707.02937"

    inner: Any = "winit>he_normal"
    block_size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_whole("block_size", 2)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        rank = len(shape)
        require_convolution(self, shape, "a convolution")
        block = self.block_size ** (rank - 2)
        if shape[-1] % block:
            raise ValueError(
                f"`Icnr` needs a number of filters that is a multiple of "
                f"block_size**{rank - 2} = {block}. "
                f"Received: block_size={self.block_size}, shape={shape}."
            )
        small = shape[-1] // block
        draw_small = self.inner_plan((*shape[:-1], small), dtype)

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            if out.size:
                filters = np.arange(part[-1].start, part[-1].stop) % small
                out[...] = draw_small((*part[:-1], slice(0, small)))[..., filters]
            return out

        return draw


@scheme
class Bilinear(Scheme):
    """Bilinear interpolation by a transposed convolution, for each channel separately.

    For kernels `(*window, out, in)` of `Conv1DTranspose`, `Conv2DTranspose` and
    `Conv3DTranspose` with padding "same", stride s and window size `2 * s - s % 2` along each
    axis. Away from the border, the layer enlarges images as `keras.ops.image.resize` does. The
    weights along an axis are the triangle `1 - abs(i - c) / f` around the middle c of the
    window, with `f = ceil(size / 2)`. Channel d goes to channel d, and all other weights are
    zero.

    Raises:
        ValueError: At call, if the kernel has no window of one to three axes, a window size
            that belongs to no stride, 2, 3, 6, 7 and so on, or is that of another layer.

    Example:
        >>> layer = keras.layers.Conv2DTranspose(
        ...     8, 4, strides=2, padding="same", kernel_initializer="winit>bilinear"
        ... )

    Departs: The paper interpolates a single channel. Other implementations of this name connect
        all channels, and so add them up.
    """

    formula = "∏ (1 - |i - c| / f) on the channel diagonal, else 0"
    use = "transposed convolutions that enlarge"
    source = "Long, Shelhamer and Darrell 2015, arXiv:1411.4038, section 3.3"

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        self._require_transposed(shape)
        if any(size % 4 not in (0, 1) for size in shape[:-2]):
            raise ValueError(
                f"`Bilinear` needs a window of size 2 * s - s % 2 for stride s: 1, 4, 5, 8, 9 and "
                f"so on. Received: shape={shape}."
            )

        def draw(part: Part) -> Array:
            weights = np.ones((1,) * len(shape))
            for axis, size in enumerate(shape[:-2]):
                broadcast_shape = [-1 if other == axis else 1 for other in range(len(shape))]
                weights = weights * _triangle(size)[part[axis]].reshape(broadcast_shape)
            output, input_ = (np.arange(axis.start, axis.stop) for axis in part[-2:])
            out = empty(part_shape(part), dtype)
            out[...] = weights * (output[:, None] == input_)
            return out

        return draw

    def _require_transposed(self, shape: Shape) -> None:
        """Raise an error if the weight is known not to be the kernel of such a layer."""
        require_convolution(self, shape, "a transposed convolution")
        use = use_in_calling_layer(shape)
        if use not in (None, Use(), Use(kind="transposed")):
            layer = calling_layer()
            raise ValueError(
                f"`Bilinear` needs the kernel of a transposed convolution. Received: layer "
                f"{layer.name!r} of class {type(layer).__name__}, shape={shape}. Use "
                f"`winit>identity` to pass each channel on."
            )


def _triangle(size: int) -> npt.NDArray[np.float64]:
    """Return weights that fall off linearly from the middle of a window."""
    distance: npt.NDArray[np.float64] = np.abs(np.arange(size) - (size - 1) / 2)
    return 1 - distance / max(-(-size // 2), 1)
