"""Schemes made from other initializers: scaled, masked, or side by side in blocks."""

import copy
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Self

import keras
import numpy as np

from keras_winit.initializers.arguments import as_index
from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import AxesScheme
from keras_winit.initializers.placement import Array, DrawPart, Part, Shape, concatenated
from keras_winit.initializers.wrapping import WrappingScheme, bound_to, for_block, plan_of, reseeded


@scheme
class Scaled(WrappingScheme):
    """Another initializer, multiplied by a number.

    Args:
        inner: Any initializer. Defaults to `winit>xavier_normal`.
        gain: Factor of the weights. Defaults to 1.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer or `gain` not a number.
        ValueError: At construction, if `inner` is a name that Keras does not know, or `gain` is
            not finite.

    Example:
        >>> scheme = keras_winit.Scaled("winit>orthogonal", gain=0.5)
        >>> layer = keras.layers.Dense(64, kernel_initializer=scheme)
    """

    formula = "gain · inner"
    use = "any initializer, larger or smaller"
    source = "by definition"

    inner: Any = "winit>xavier_normal"
    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain")

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        return self.scaled_inner_plan(shape, dtype, self.gain)


@scheme
class Masked(WrappingScheme):
    """Another initializer with some weights set to zero, such as those of a pruned network.

    Training changes the masked weights like all others; only a constraint keeps them at zero.

    Args:
        inner: Any initializer. Defaults to `winit>he_normal`.
        mask: 1 for each weight that stays, 0 for each other one: an array or nested lists, in
            the shape of the kernel or one that NumPy broadcasts to it. Defaults to 1, which
            keeps all weights.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is a name that Keras does not know, or the mask
            holds anything but 0 and 1. At call, if the mask does not broadcast to the shape.

    Example:
        >>> causal = keras_winit.Masked("winit>xavier_normal", np.triu(np.ones((64, 64))))
        >>> layer = keras.layers.Dense(64, kernel_initializer=causal)

    Departs: Not from the source: as there, the weights that stay are not scaled up.
    """

    formula = "inner where the mask is 1, else 0"
    use = "pruned or structured kernels"
    source = "Frankle and Carbin 2018, arXiv:1803.03635, section 1"

    inner: Any = "winit>he_normal"
    mask: Any = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            values = np.asarray(self.mask, np.float64)
        except (TypeError, ValueError):
            values = np.full((), np.nan)
        binary = bool(np.isin(values, (0, 1)).all())
        self._require("mask", "an array of 0 and 1", binary, ValueError)
        self.mask = values.astype(int).tolist()

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        mask = np.asarray(self.mask, bool)
        try:
            kernel_mask = np.broadcast_to(mask, shape)
        except ValueError:
            raise ValueError(
                f"`Masked(mask=...)` must have a shape that broadcasts to the kernel. Received: a "
                f"mask of shape {mask.shape}, shape={shape}."
            ) from None
        draw_inner = self.inner_plan(shape, dtype)

        def draw(part: Part) -> Array:
            out = draw_inner(part)
            out[~kernel_mask[part]] = 0
            return out

        return draw


@scheme
class Blocks(AxesScheme):
    """Several kernels side by side in one, each from an initializer of its own.

    This suits kernels that hold several layers, such as the query, key and value of an attention
    layer packed into `(in, 3 * out)`. If such a kernel is drawn as one, each of its blocks gets
    the fans of the whole.

    Args:
        inners: One initializer of any kind for each block. Two blocks draw different values,
            even from the same instance. Defaults to three `winit>xavier_uniform`.
        sizes: Sizes of the blocks along the axis. Defaults to None: all sizes are equal.
        axis: Axis along which the blocks lie. Defaults to the last axis.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if one of `inners` is not an initializer, or a size is not
            an integer.
        ValueError: At construction, if `inners` is empty or holds a name that Keras does not
            know, or the number of sizes differs from that of `inners`. At call, if the sizes do
            not add up to the size of the axis.

    Example:
        >>> packed = keras_winit.Blocks(["winit>xavier_uniform"] * 2 + ["winit>orthogonal"])
        >>> layer = keras.layers.Dense(3 * 64, kernel_initializer=packed)
    """

    formula = "inners side by side (3 · xavier_uniform)"
    use = "packed kernels, such as query, key and value in one"
    source = "by definition"

    inners: Sequence[Any] = ("winit>xavier_uniform",) * 3
    sizes: Sequence[int] | None = None
    axis: int = field(default=-1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = isinstance(self.inners, list | tuple) and len(self.inners) > 0
        self._require("inners", "a list of initializers", listed, ValueError)
        self.inners = tuple(self._checked_initializer("inners", inner) for inner in self.inners)
        if self.sizes is not None:
            self.sizes = self._whole_numbers("sizes", "a list of integers, one for each block")
            valid = len(self.sizes) == len(self.inners) and min(self.sizes) >= 0
            self._require("sizes", f"{len(self.inners)} integers >= 0", valid, ValueError)
        self._require("axis", "an integer", as_index(self.axis) is not None, TypeError)

    def get_config(self) -> dict[str, Any]:
        inners = [keras.saving.serialize_keras_object(inner) for inner in self.inners]
        return {**super().get_config(), "inners": inners}

    def for_block(self, number: int) -> Self:
        twin = super().for_block(number)
        twin.inners = tuple(for_block(inner, number) for inner in self.inners)
        return twin

    def reseeded(self, seed: Any) -> Self:
        twin = copy.copy(self)
        twin.inners = tuple(reseeded(inner, seed) for inner in self.inners)
        return twin

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        rank, count = len(shape), len(self.inners)
        total = shape[self.axis] if -rank <= self.axis < rank else -1
        sizes = self.sizes or (total // count,) * count
        if total < 0 or sum(sizes) != total:
            raise ValueError(
                f"`Blocks` needs blocks whose sizes add up to the size of the axis. Received: "
                f"{count} blocks, sizes={self.sizes}, axis={self.axis}, shape={shape}."
            )
        axis = self.axis % rank
        draws = []
        for number, (inner, size) in enumerate(zip(self.inners, sizes, strict=True)):
            initializer = bound_to(for_block(inner, number), self.kernel_use)
            block_shape = (*shape[:axis], size, *shape[axis + 1 :])
            draws.append(plan_of(initializer, block_shape, dtype))
        return concatenated(draws, sizes, axis, dtype)
