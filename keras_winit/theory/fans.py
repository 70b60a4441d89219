"""True fans of a kernel: the terms that its layer sums (`fan_in`) and feeds (`fan_out`)."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

KINDS = ("dense", "depthwise", "transposed")


@dataclass(frozen=True)
class Use:
    """The use that a layer makes of its kernel, where the shape alone does not tell.

    Args:
        input_axes: Axes that are summed over when the kernel is applied. None: all axes that
            are not in `output_axes`, or, if that is None too, the input axes of the `kind`.
        output_axes: Axes that the output keeps. None: all axes that are not in
            `input_axes`, or the output axes of the `kind`. Axes in neither list separate
            independent kernels, such as those of experts.
        kind: Storage order of a kernel without given axes. "dense": `(*window, in, out)`,
            also for convolutions. "depthwise": `(*window, channels, multiplier)`, each
            channel by itself. "transposed": `(*window, out, in)`. Defaults to "dense".
        groups: Number of groups into which the inputs and outputs of a dense kernel are
            split. The kernel holds the inputs of one group and the outputs of all. Defaults
            to 1.
        gates: Number of blocks of outputs side by side, each a kernel of its own, such as
            the 4 gates of an LSTM. Defaults to 1.
        strides: Strides of a convolution, one for each axis of the window or one for all.
            Defaults to 1.
    """

    input_axes: Sequence[int] | None = field(default=None, kw_only=True)
    output_axes: Sequence[int] | None = field(default=None, kw_only=True)
    kind: str = field(default="dense", kw_only=True)
    groups: int = field(default=1, kw_only=True)
    gates: int = field(default=1, kw_only=True)
    strides: int | Sequence[int] = field(default=1, kw_only=True)


@dataclass(frozen=True)
class Axes:
    """The axes of a kernel by their role, each counted from 0.

    Args:
        window: Axes of the positions that slide over the input.
        inputs: Axes that are summed over.
        outputs: Axes that the output keeps.
        apart: Axes that separate independent kernels.
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
    """Return the true `(fan_in, fan_out)` of a kernel.

    With variance 1 / fan_in, inputs from N(0, 1) give outputs of variance 1. With variance
    1 / fan_out, gradients from N(0, 1) give gradients of variance 1 at the inputs. If strides
    make the number of terms differ by position, the fan is their mean. Padding is not
    counted.

    | kind | shape | fan_in | fan_out |
    | --- | --- | --- | --- |
    | dense | (*window, in, out) | window · in | window · out / (groups · gates · strides) |
    | depthwise | (*window, channels, m) | window | window · m / strides |
    | transposed | (*window, out, in) | window · in / strides | window · out |
    | by axes | any | input axes | output axes / (groups · gates) |

    A vector has its length as both fans, a scalar has 1.

    Args:
        shape: Shape of the kernel. Sizes may be zero.
        input_axes: As in `Use`.
        output_axes: As in `Use`.
        **use: `kind`, `groups`, `gates` and `strides`, as in `Use`.

    Returns:
        Two counts: integers where they are whole, zero where a size is zero.

    Raises:
        TypeError: If a size, a stride, an axis or a number of groups or gates is not an integer.
        ValueError: If one of them is too small or not below 2**63, a fan is too large for a
            float, the kind is unknown, an axis lies outside the shape or is given twice, the
            kernel has too few axes for its kind, its outputs cannot be split into so many groups
            and gates, or the strides do not fit its window.

    Example:
        >>> fans((3, 3, 64, 128))
        (576, 1152)
        >>> fans((3, 3, 128, 1), kind="depthwise")
        (9, 9)
        >>> fans((512, 8, 64), input_axes=[0], output_axes=[1, 2])
        (512, 512)
    """
    kernel_use = Use(input_axes=input_axes, output_axes=output_axes, **use)
    _require_counts(shape, kernel_use)
    if len(shape) < 2 and input_axes is None and output_axes is None:
        size = shape[0] if len(shape) else 1
        return size, size
    axes = kernel_axes(shape, kernel_use)
    window, fan_in, fan_out = (
        math.prod(shape[axis] for axis in side) for side in (axes.window, axes.inputs, axes.outputs)
    )
    blocks = split_outputs(shape, kernel_use, axes)
    positions = _stride_product(kernel_use, len(axes.window))
    by_input, by_output = (positions, 1) if kernel_use.kind == "transposed" else (1, positions)
    try:
        return (
            _mean_count(window * fan_in, by_input),
            _mean_count(window * fan_out, blocks * by_output),
        )
    except OverflowError:
        raise ValueError(
            "the fans of a kernel must be finite numbers. "
            f"Received: shape={tuple(shape)}, strides={kernel_use.strides!r}."
        ) from None


def _require_counts(shape: Sequence[int], use: Use) -> None:
    """Raise an error unless the kind is known and all numbers are integers in their ranges."""
    if not isinstance(use.kind, str) or use.kind not in KINDS:
        raise ValueError(
            f"`fans(kind=...)` must be one of {', '.join(map(repr, KINDS))}. "
            f"Received: kind={use.kind!r}."
        )
    for name, value, least, several in (
        ("shape", shape, 0, True),
        ("groups", use.groups, 1, False),
        ("gates", use.gates, 1, False),
        ("strides", use.strides, 1, isinstance(use.strides, Sequence)),
    ):
        try:
            numbers: Any = value if several else (value,)
            # An iterator could not be read again: it has no length.
            counts = [operator.index(count) for count in numbers] if len(numbers) else []
        except TypeError:
            counts = None
        if counts is None or not all(least <= count < 2**63 for count in counts):
            what = "integers" if several else "an integer"
            raise (TypeError if counts is None else ValueError)(
                f"`fans({name}=...)` must be {what} >= {least} and below 2**63. "
                f"Received: {name}={value!r}."
            )


def kernel_axes(shape: Sequence[int], use: Use) -> Axes:
    """Return the axes of a kernel by their role.

    Raises:
        ValueError: As in `fans`.
    """
    rank = len(shape)
    if use.input_axes is not None or use.output_axes is not None:
        inputs, outputs = _input_and_output_axes(shape, use.input_axes, use.output_axes)
        apart = tuple(axis for axis in range(rank) if axis not in inputs + outputs)
        return Axes((), inputs, outputs, apart)
    if rank < 2:
        raise ValueError(
            f"A {use.kind} kernel must have at least two axes. Received: shape={tuple(shape)}."
        )
    window = tuple(range(rank - 2))
    if use.kind == "depthwise":
        return Axes(window, (), (rank - 1,), (rank - 2,))
    if use.kind == "transposed":
        return Axes(window, (rank - 1,), (rank - 2,), ())
    return Axes(window, (rank - 2,), (rank - 1,), ())


def split_outputs(shape: Sequence[int], use: Use, axes: Axes) -> int:
    """Return the number of kernels into which groups and gates split the last output axis.

    Raises:
        ValueError: If they do not split it evenly.
    """
    blocks = use.groups * use.gates
    size = shape[axes.outputs[-1]] if axes.outputs else 1
    if size % blocks:
        raise ValueError(
            f"the {size} outputs of a kernel cannot be split evenly into {use.groups} groups of "
            f"{use.gates} gates. Received: shape={tuple(shape)}."
        )
    return blocks


def _stride_product(use: Use, window_rank: int) -> int:
    if isinstance(use.strides, int):
        return int(use.strides**window_rank)
    if len(use.strides) != window_rank:
        raise ValueError(
            f"`strides` must be one number, or one for each of the {window_rank} axes of the "
            f"window. Received: strides={tuple(use.strides)!r}."
        )
    return math.prod(use.strides)


def _mean_count(terms: int, positions: int) -> float:
    mean = Fraction(terms, positions)
    return int(mean) if mean.denominator == 1 else float(mean)


def _input_and_output_axes(
    shape: Sequence[int],
    input_axes: Sequence[int] | None,
    output_axes: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Count the axes of both sides from 0; a side that is None gets those that the other leaves."""
    rank = len(shape)
    if not (_are_axes(input_axes) and _are_axes(output_axes)):
        raise TypeError(
            "`input_axes` and `output_axes` must be lists of integers, or None. "
            f"Received: input_axes={input_axes!r}, output_axes={output_axes!r}."
        )
    given = [*(input_axes or ()), *(output_axes or ())]
    if any(not -rank <= axis < rank for axis in given) or len(
        {axis % rank for axis in given}
    ) < len(given):
        raise ValueError(
            f"`input_axes` and `output_axes` must name different axes of the kernel, "
            f"each from {-rank} to {rank - 1} for shape={tuple(shape)}. "
            f"Received: input_axes={input_axes!r}, output_axes={output_axes!r}."
        )

    def resolved(side: Sequence[int] | None, other: Sequence[int] | None) -> tuple[int, ...]:
        if side is not None:
            return tuple(axis % rank for axis in side)
        taken = {axis % rank for axis in other or ()}
        return tuple(axis for axis in range(rank) if axis not in taken)

    return resolved(input_axes, output_axes), resolved(output_axes, input_axes)


def _are_axes(given: Any) -> bool:
    return given is None or (
        isinstance(given, Sequence) and all(isinstance(axis, int | np.integer) for axis in given)
    )
