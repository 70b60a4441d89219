"""Finds how an output ends: its last activation, behind all that only passes values on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras

from keras_winit.models.activations import certain_activation_name
from keras_winit.models.graph import Call, is_from_keras
from keras_winit.models.kernels import kernel_uses

layers = keras.layers

# Operations, and layers of the same name, that change no value and keep the last axis, or
# remove it when it has size 1.
KEEPING_VALUES = frozenset(("Cast", "Reshape", "Flatten", "Squeeze", "ExpandDims", "Identity"))


@dataclass(frozen=True)
class OutputEnd:
    """The last activation before a tensor, and where it is applied.

    Args:
        activation: Its name, or "linear" after a kernel without one. None if not known.
        units: Size of the last axis there. None if it is not known or varies.
        position: Position of the call that applies it.
    """

    activation: str | None
    units: int | None
    position: int


def output_end(calls: Sequence[Call], position: int | None) -> OutputEnd | None:
    """Return the last activation before the output of a call; None if it cannot be known."""
    while position is not None:
        call = calls[position]
        if not keeps_values(calls, position):
            units = call.shape[-1] if call.shape else None
            return OutputEnd(certain_activation_name(call), units, position)
        position = call.inputs[0]
    return None


def keeps_values(calls: Sequence[Call], position: int) -> bool:
    """Return whether a call hands on the values of the units of the only call that it takes."""
    call = calls[position]
    if len(call.inputs) != 1 or call.takes_model_input or not is_from_keras(call.operation):
        return False
    is_linear = (
        isinstance(call.operation, layers.Activation)
        and call.operation.activation is keras.activations.linear
    )
    before = calls[call.inputs[0]].shape
    keeps_units = bool(before) and (before[-1] == 1 or before[-1:] == call.shape[-1:])
    return keeps_units and (is_linear or type(call.operation).__name__ in KEEPING_VALUES)


def repeated_softmaxes(calls: Sequence[Call]) -> Iterator[int]:
    """Yield the positions of the calls that apply a softmax to the output of another one."""
    for position, call in enumerate(calls):
        is_softmax = certain_activation_name(call) == "softmax"
        if is_softmax and not kernel_uses(call.operation) and len(call.inputs) == 1:
            end = output_end(calls, call.inputs[0])
            if end is not None and end.activation == "softmax":
                yield position
