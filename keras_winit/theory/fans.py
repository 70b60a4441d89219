"""How many numbers a kernel adds up (`fan_in`), and how many it feeds (`fan_out`)."""

import math
from collections.abc import Sequence


def fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """The `(fan_in, fan_out)` of a kernel of a given shape.

    Without axes the kernel is taken as Keras stores dense and convolution kernels,
    `(*window, in, out)`: `fan_in = prod(window) * in`, `fan_out = prod(window) * out`.
    A vector counts as its own fan on both sides, a scalar as 1. With axes, each fan is
    the product of the sizes of its axes.

    Args:
        shape: Of the kernel. Sizes may be zero.
        input_axes: Axes that are summed over when the kernel is applied. None: those
            that `output_axes` leaves, or the rule above when both are None.
        output_axes: Axes that the output keeps. None: likewise.

    Returns:
        Two counts, zero where a size is zero.

    Raises:
        ValueError: If an axis lies outside the shape or is named twice.

    Example:
        >>> fans((3, 3, 64, 128))
        (576, 1152)
        >>> fans((512, 8, 64), input_axes=[0], output_axes=[1, 2])
        (512, 512)
    """
    if input_axes is not None or output_axes is not None:
        inputs, outputs = split_axes(shape, input_axes, output_axes)
        return math.prod(shape[i] for i in inputs), math.prod(shape[i] for i in outputs)
    if len(shape) == 0:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def split_axes(
    shape: Sequence[int],
    input_axes: Sequence[int] | None,
    output_axes: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both sides counted from 0; a side that is None is what the other one leaves."""
    rank = len(shape)
    named = [*(input_axes or ()), *(output_axes or ())]
    if any(not -rank <= axis < rank for axis in named) or len(
        {axis % rank for axis in named}
    ) < len(named):
        raise ValueError(
            f"`input_axes` and `output_axes` must name different axes of the kernel, "
            f"each from {-rank} to {rank - 1} for shape={tuple(shape)}. "
            f"Received: input_axes={input_axes!r}, output_axes={output_axes!r}."
        )

    def side(own: Sequence[int] | None, other: Sequence[int] | None) -> tuple[int, ...]:
        if own is not None:
            return tuple(axis % rank for axis in own)
        taken = {axis % rank for axis in other or ()}
        return tuple(axis for axis in range(rank) if axis not in taken)

    return side(input_axes, output_axes), side(output_axes, input_axes)
