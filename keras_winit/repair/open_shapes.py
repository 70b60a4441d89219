"""Completes symbolic shapes with sizes that Keras leaves open, although the inputs have them."""

from collections.abc import Sequence
from typing import Any

Shape = tuple[int | None, ...]


def closed_shape(operation: Any, inputs: Sequence[Shape], output: Shape) -> Shape:
    """Return the shape of an output with the sizes that follow from the inputs.

    Keras' einsum layers leave open each size that is not given to them, such as the length of
    the sequences in attention.
    """
    equation = getattr(operation, "equation", None) or getattr(operation, "subscripts", None)
    if isinstance(equation, str) and "->" in equation and "..." not in equation:
        left, right = equation.replace(" ", "").split("->")
        sizes: dict[str, int | None] = {}
        # The last operand of an einsum layer is its kernel.
        for letters, shape in zip(left.split(","), inputs, strict=False):
            sizes.update({k: size for k, size in zip(letters, shape, strict=False) if size})
        if len(right) == len(output):
            return tuple(
                size or sizes.get(letter) for letter, size in zip(right, output, strict=True)
            )
    if inputs and len(inputs[0]) == len(output):
        return tuple(size or before for size, before in zip(output, inputs[0], strict=True))
    return output
