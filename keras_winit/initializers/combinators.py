"""Schemes made of other schemes: scaled, masked, side by side."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Self

import keras
import numpy as np

from keras_winit.initializers.base import as_index, scheme
from keras_winit.initializers.kernels import (
    AxesScheme,
    WrappingScheme,
    block_of,
    bound_to,
    plan_of,
    reseeded,
)
from keras_winit.initializers.placement import Array, Part, Shape, side_by_side


@scheme
class Scaled(WrappingScheme):
    """Another scheme, multiplied by a number.

    Args:
        inner: Any initializer. Defaults to `winit>xavier_normal`.
        gain: Multiplies the weights. Defaults to 1.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer or `gain` no number.
        ValueError: At construction, if `inner` is the name of none or `gain` not finite.

    Example:
        >>> scheme = keras_winit.Scaled("winit>orthogonal", gain=0.5)
        >>> layer = keras.layers.Dense(64, kernel_initializer=scheme)
    """

    formula = "gain · inner"
    use = "any scheme, larger or smaller"
    source = "by definition"

    inner: Any = "winit>xavier_normal"
    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("gain")

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        return self.scaled_inner(shape, dtype, self.gain)


@scheme
class Masked(WrappingScheme):
    """Another scheme with fixed places set to zero, such as those of a pruned network.

    Training changes the weights behind the mask like any other; a constraint keeps them at
    zero.

    Args:
        inner: Any initializer. Defaults to `winit>he_normal`.
        mask: 1 for the weights that stay, 0 for the others: an array, or nested lists, of
            the kernel's shape or one that NumPy broadcasts to it. Defaults to 1: all.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is the name of none, or the mask holds
            anything but 0 and 1. At call, if it does not fit the shape.

    Example:
        >>> causal = keras_winit.Masked("winit>xavier_normal", np.triu(np.ones((64, 64))))
        >>> layer = keras.layers.Dense(64, kernel_initializer=causal)

    Departs: The weights that stay are not made larger, as Frankle and Carbin leave them too.
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

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        mask = np.asarray(self.mask, bool)
        try:
            stays = np.broadcast_to(mask, shape)
        except ValueError:
            raise ValueError(
                f"`Masked(mask=...)` must fit the kernel. Received: a mask of shape "
                f"{mask.shape}, shape={shape}."
            ) from None
        inner = self.inner_plan(shape, dtype)

        def draw(part: Part) -> Array:
            out = inner(part)
            out[~stays[part]] = 0
            return out

        return draw


@scheme
class Blocks(AxesScheme):
    """Several kernels side by side in one, each from a scheme of its own.

    For kernels that hold what could be several layers, such as the query, key and value
    of an attention layer packed into `(in, 3 * out)`: drawn as one, they get the fans of
    the whole.

    Args:
        inners: One initializer for each block, of any kind. Two blocks never draw the
            same numbers, even from one instance. Defaults to three `winit>xavier_uniform`.
        sizes: Of the blocks along the axis. None, the default: all equal.
        axis: Along which they stand. Defaults to the last.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if one of `inners` is not an initializer, or a size not
            an integer.
        ValueError: At construction, if there are none, one is the name of none, or there
            are not as many sizes. At call, if the sizes do not add up to the axis.

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
        self.inners = tuple(self._initializer("inners", inner) for inner in self.inners)
        if self.sizes is not None:
            self.sizes = self._whole_numbers("sizes", "a list of integers, one for each block")
            fitting = len(self.sizes) == len(self.inners) and min(self.sizes) >= 0
            self._require("sizes", f"{len(self.inners)} integers >= 0", fitting, ValueError)
        self._require("axis", "an integer", as_index(self.axis) is not None, TypeError)

    def get_config(self) -> dict[str, Any]:
        inners = [keras.saving.serialize_keras_object(inner) for inner in self.inners]
        return {**super().get_config(), "inners": inners}

    def block(self, number: int) -> Self:
        twin = super().block(number)
        twin.inners = tuple(block_of(inner, number) for inner in self.inners)
        return twin

    def reseeded(self, seed: Any) -> Self:
        twin = copy.copy(self)
        twin.inners = tuple(reseeded(inner, seed) for inner in self.inners)
        return twin

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        rank, count = len(shape), len(self.inners)
        along = shape[self.axis] if -rank <= self.axis < rank else -1
        sizes = self.sizes or (along // count,) * count
        if along < 0 or sum(sizes) != along:
            raise ValueError(
                f"`Blocks` needs blocks that fill the axis. Received: {count} blocks, "
                f"sizes={self.sizes}, axis={self.axis}, shape={shape}."
            )
        axis = self.axis % rank
        plans = []
        for number, (inner, size) in enumerate(zip(self.inners, sizes, strict=True)):
            one = bound_to(block_of(inner, number), self.kernel_use)
            plans.append(plan_of(one, (*shape[:axis], size, *shape[axis + 1 :]), dtype))
        return side_by_side(plans, sizes, axis, dtype)
