"""Finds pairs of kernels with no activation between them."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_winit.models.activations import certain_activation_name
from keras_winit.models.graph import Call, is_from_keras
from keras_winit.models.kernels import kernel_uses
from keras_winit.models.structure import NORMALIZATIONS

layers = keras.layers

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
# Depthwise and transposed convolutions are subclasses of none of these.
KINDS = (layers.Dense, *CONVOLUTIONS)

# Layers between two kernels that leave the pair linear.
LINEAR = (
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.GaussianDropout, layers.Identity, layers.Flatten, layers.Reshape),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
)

# An ordinary pair takes its input from these and gives its output to them. Anything else, such as
# the product of an attention or a sum of branches, may need a kernel of its own on each side.
POOLINGS = (
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
)
ORDINARY = (
    *(*KINDS, *POOLINGS, *NORMALIZATIONS),
    *(layers.Embedding, layers.Flatten, layers.Rescaling, layers.RNN),
)

# Operations that Keras itself puts before the inputs of a model.
CONVERSIONS = ("Cast", "ConvertToTensor")


def linear_pairs(calls: Sequence[Call], outputs: Sequence[int | None]) -> list[tuple[Any, Any]]:
    """Return the pairs of layers that one linear layer could replace, in the order of calls.

    A pair has two trainable kernels of one kind, and nothing but dropout and padding between
    them. Not counted are a first layer with fewer units than its inputs and than the second
    layer, which limits the rank on purpose; convolutions over different axes, which factorize a
    window; and pairs around other operations, such as the projections of an attention.

    Args:
        calls: The calls of a model, each after those that it needs.
        outputs: Positions of the calls that make its outputs.
    """
    users: list[list[int]] = [[] for _ in calls]
    for position, call in enumerate(calls):
        for source in call.inputs:
            users[source].append(position)
    pairs = []
    for first, call in enumerate(calls):
        if _is_plain(call) and certain_activation_name(call) == "linear":
            second = _next_kernel(calls, users, outputs, first)
            if second is not None and _multiply_alike(calls, first, second):
                starts = _comes_from_ordinary(calls, first)
                if starts and _goes_to_ordinary(calls, users, second):
                    pairs.append((_layer(call), _layer(calls[second])))
    return pairs


def _layer(call: Call) -> Any:
    """Return the layer of a call without a `TimeDistributed` around it."""
    layer = call.operation
    return layer.layer if isinstance(layer, layers.TimeDistributed) else layer


def _is_plain(call: Call) -> bool:
    layer = _layer(call)
    return isinstance(layer, KINDS) and is_from_keras(layer) and bool(layer.trainable)


def _only_drops_or_pads(calls: Sequence[Call], position: int) -> bool:
    """Return whether a call changes the values of its input by dropout and padding at most."""
    call = calls[position]
    operation = call.operation
    is_linear = isinstance(operation, LINEAR) or (
        isinstance(operation, layers.Activation)
        and operation.activation is keras.activations.linear
    )
    if not is_linear or len(call.inputs) != 1:
        return False
    before = calls[call.inputs[0]].shape
    # A kernel before a `Flatten` is shared by all positions, which is no plain product.
    return len(before) == len(call.shape) and before[-1] == call.shape[-1]


def _next_kernel(
    calls: Sequence[Call], users: list[list[int]], outputs: Sequence[int | None], first: int
) -> int | None:
    """Return the only kernel that takes the output of a call, if nothing else does."""
    position = first
    while len(users[position]) == 1 and position not in outputs:
        (position,) = users[position]
        if not _only_drops_or_pads(calls, position):
            return position if _is_plain(calls[position]) else None
    return None


def _multiply_alike(calls: Sequence[Call], first: int, second: int) -> bool:
    one, other = _layer(calls[first]), _layer(calls[second])
    if type(one) is not type(other) or one is other or max(_groups(one), _groups(other)) > 1:
        return False
    inputs, middle = one.kernel.shape[-2:]
    narrow = middle < inputs and middle < other.kernel.shape[-1]
    return not narrow and _window_axes(one) == _window_axes(other)


def _groups(layer: Any) -> int:
    return getattr(layer, "groups", 1)


def _window_axes(layer: Any) -> list[int]:
    """Return the axes along which the kernel of a convolution is larger than 1."""
    return [axis for axis, size in enumerate(layer.kernel.shape[:-2]) if size > 1]


def _comes_from_ordinary(calls: Sequence[Call], position: int) -> bool:
    while True:
        call = calls[position]
        if call.takes_model_input or len(call.inputs) != 1:
            return not call.inputs
        position = call.inputs[0]
        if not _only_drops_or_pads(calls, position):
            return _is_ordinary(calls[position])


def _goes_to_ordinary(calls: Sequence[Call], users: list[list[int]], position: int) -> bool:
    pending = [position] if certain_activation_name(calls[position]) == "linear" else []
    while pending:
        for user in users[pending.pop()]:
            if _only_drops_or_pads(calls, user):
                pending.append(user)
            elif not _is_ordinary(calls[user]):
                return False
    return True


def _is_ordinary(call: Call) -> bool:
    operation = _layer(call)
    if call.takes_model_input and not call.inputs:
        # Keras converts the inputs of a model by an operation of its own.
        return isinstance(operation, layers.Layer) or type(operation).__name__ in CONVERSIONS
    is_kind = isinstance(operation, ORDINARY) and is_from_keras(operation)
    return is_kind or (not kernel_uses(operation) and certain_activation_name(call) is not None)
