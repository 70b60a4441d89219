"""One call of a layer or an operation, with the signals that it takes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from keras_winit.repair.signals import Signal

# This number stands for a size that the model leaves open, such as the length of a sequence.
OPEN_SIZE = 32

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class CallWithSignals:
    """One call of a layer or an operation, with the signals that it takes.

    Args:
        operation: The layer or the operation.
        operands: Signals of its arguments in order; numbers and arrays are constant signals.
        shapes: Shapes of its symbolic arguments.
        output_shape: Shape of its first output.
        options: Other arguments of the call, by name.
    """

    operation: Any
    operands: Sequence[Signal]
    shapes: Sequence[Shape]
    output_shape: Shape
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def input(self) -> Signal:
        """The signal of the first argument."""
        return self.operands[0]

    @property
    def merged(self) -> int:
        """The number of input entries for each output entry."""
        return max(round(entries(self.shapes[0]) / entries(self.output_shape)), 1)

    def size(self, axis: int) -> int:
        """Return the size of an axis of the first argument."""
        return self.shapes[0][axis] or OPEN_SIZE


def entries(shape: Shape) -> int:
    """Return the number of entries of a sample."""
    return math.prod(size or OPEN_SIZE for size in shape[1:])
