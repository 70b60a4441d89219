"""How many numbers a kernel adds up (`fan_in`), and how many it feeds (`fan_out`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

KINDS = ("dense", "depthwise", "transposed")


@dataclass(frozen=True)
class Use:
    """What a layer does with its kernel, where the shape alone cannot tell.

    Args:
        input_axes: Axes that are summed over when the kernel is applied. None: those
            that `output_axes` leaves, or by `kind` when both are None.
        output_axes: Axes that the output keeps. None: likewise. Axes on neither side
            make kernels of their own, such as those of experts.
        kind: How a kernel without axes is stored. "dense": `(*window, in, out)`, also of
            convolutions. "depthwise": `(*window, channels, multiplier)`, each channel by
            itself. "transposed": `(*window, out, in)`.
        groups: Into how many parts a dense kernel's inputs and outputs are split. The
            kernel holds the inputs of one group and the outputs of all.
        gates: How many blocks of outputs stand side by side, such as the 4 of an LSTM,
            each of which is a kernel by itself.
        strides: Of a convolution, one for each axis of the window or one for all.
    """

    input_axes: Sequence[int] | None = field(default=None, kw_only=True)
    output_axes: Sequence[int] | None = field(default=None, kw_only=True)
    kind: str = field(default="dense", kw_only=True)
    groups: int = field(default=1, kw_only=True)
    gates: int = field(default=1, kw_only=True)
    strides: int | Sequence[int] = field(default=1, kw_only=True)


@dataclass(frozen=True)
class Axes:
    """The axes of a kernel by their part in it, each counted from 0.

    `window`: of the positions that slide over the input. `inputs`, `outputs`: of what is
    summed over, and kept. `apart`: of kernels that have nothing to do with each other.
    """

    window: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    apart: tuple[int, ...]


def fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
    **use: Any,
) -> tuple[float, float]:
    """The true `(fan_in, fan_out)` of a kernel.

    With variance 1 / fan_in, inputs from N(0, 1) give outputs of variance 1; with
    variance 1 / fan_out, so do gradients backwards. Where strides make the number of
    terms differ by place, it is their mean. Padding is not counted.

    | kind | shape | fan_in | fan_out |
    | --- | --- | --- | --- |
    | dense | (*window, in, out) | window · in | window · out / (groups · gates · strides) |
    | depthwise | (*window, channels, m) | window | window · m / strides |
    | transposed | (*window, out, in) | window · in / strides | window · out |
    | by axes | any | input axes | output axes / (groups · gates) |

    A vector counts as its own fan on both sides, a scalar as 1.

    Args:
        shape: Of the kernel. Sizes may be zero.
        input_axes: As in `Use`.
        output_axes: As in `Use`.
        **use: `kind`, `groups`, `gates` and `strides`, as in `Use`.

    Returns:
        Two counts: integers where they are whole. Zero where a size is zero.

    Raises:
        ValueError: If an axis lies outside the shape or is named twice, there are no such
            axes in a kernel of that kind, its outputs cannot be split into so many
            groups and gates, or the strides do not fit its window.

    Example:
        >>> fans((3, 3, 64, 128))
        (576, 1152)
        >>> fans((3, 3, 128, 1), kind="depthwise")
        (9, 9)
        >>> fans((512, 8, 64), input_axes=[0], output_axes=[1, 2])
        (512, 512)
    """
    if len(shape) < 2 and input_axes is None and output_axes is None:
        size = shape[0] if shape else 1
        return size, size
    known = Use(input_axes=input_axes, output_axes=output_axes, **use)
    axes = kernel_axes(shape, known)
    window, fan_in, fan_out = (
        math.prod(shape[axis] for axis in side) for side in (axes.window, axes.inputs, axes.outputs)
    )
    blocks, steps = split_outputs(shape, known, axes), _steps(known, len(axes.window))
    into, out_of = (steps, 1) if known.kind == "transposed" else (1, steps)
    return _count(window * fan_in, into), _count(window * fan_out, blocks * out_of)


def kernel_axes(shape: Sequence[int], use: Use) -> Axes:
    """Which axes of a kernel are what.

    Raises:
        ValueError: As in `fans`.
    """
    rank = len(shape)
    if use.input_axes is not None or use.output_axes is not None:
        inputs, outputs = _split(shape, use.input_axes, use.output_axes)
        apart = tuple(axis for axis in range(rank) if axis not in inputs + outputs)
        return Axes((), inputs, outputs, apart)
    if rank < 2:
        raise ValueError(
            f"a {use.kind} kernel has at least two axes. Received: shape={tuple(shape)}."
        )
    window = tuple(range(rank - 2))
    if use.kind == "depthwise":
        return Axes(window, (), (rank - 1,), (rank - 2,))
    if use.kind == "transposed":
        return Axes(window, (rank - 1,), (rank - 2,), ())
    return Axes(window, (rank - 2,), (rank - 1,), ())


def split_outputs(shape: Sequence[int], use: Use, axes: Axes) -> int:
    """Into how many kernels the last output axis is split."""
    blocks = use.groups * use.gates
    size = shape[axes.outputs[-1]] if axes.outputs else 1
    if size % blocks:
        raise ValueError(
            f"the {size} outputs of a kernel cannot be split evenly into {use.groups} groups of "
            f"{use.gates} gates. Received: shape={tuple(shape)}."
        )
    return blocks


def _steps(use: Use, window: int) -> int:
    """By how many places of the input, or output, a window advances in all."""
    if isinstance(use.strides, int):
        return int(use.strides**window)
    if len(use.strides) != window:
        raise ValueError(
            f"`strides` must be one number, or one for each of the {window} axes of the window. "
            f"Received: strides={tuple(use.strides)!r}."
        )
    return math.prod(use.strides)


def _count(terms: int, places: int) -> float:
    mean = Fraction(terms, places)
    return int(mean) if mean.denominator == 1 else float(mean)


def _split(
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
