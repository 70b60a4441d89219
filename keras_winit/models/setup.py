"""Describes how the outputs of a model end, and what it was compiled with."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_winit.models.activations import certain_activation_name
from keras_winit.models.equal_kernels import equal_kernels
from keras_winit.models.graph import Call, Trace
from keras_winit.models.kernels import kernel_uses
from keras_winit.models.layer_codes import layer_codes
from keras_winit.models.layers import LayerInfo
from keras_winit.models.learning_rates import learning_rates
from keras_winit.models.linear_pairs import linear_pairs
from keras_winit.models.losses import NEVER_NEGATIVE, LossSetup, output_losses
from keras_winit.models.names import Names
from keras_winit.models.output_ends import OutputEnd, output_end, repeated_softmaxes

layers = keras.layers

# The attributes of Keras' layers that hold a dropout rate.
DROPOUT_RATES = ("rate", "dropout", "recurrent_dropout", "_dropout")
ATTENTIONS = (layers.MultiHeadAttention, layers.GroupQueryAttention)
DROPOUTS = (
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.AlphaDropout, layers.GaussianDropout, layers.Attention, layers.AdditiveAttention),
    *(*ATTENTIONS, layers.RNN),
)


@dataclass(frozen=True)
class OutputSetup:
    """An output of a model and its loss.

    Args:
        layer: Name of the layer that ends it.
        kind: Class of this layer.
        activation: Its last activation, "linear" after a kernel without one, None if not known.
        units: Number of units that the activation takes. None if not known.
        loss: Its loss. None if it is not one of Keras' own.
        target: Name of its targets in the records. None if that cannot be told.
        code: Expression of the layer whose attribute `activation` is its last activation. Empty
            if there is no such layer.
    """

    layer: str
    kind: str = "Dense"
    activation: str | None = None
    units: int | None = None
    loss: LossSetup | None = None
    target: str | None = None
    code: str = ""


@dataclass(frozen=True, eq=False)
class ModelSetup:
    """Facts about a compiled model that are known before it sees data.

    Args:
        outputs: The outputs, flattened; those about which nothing is known are left out.
        softmax_of_softmax: Layers that apply a softmax to the output of another one, each with
            the expression of the layer whose attribute `activation` is the other softmax.
        one_unit_softmax: Hidden layers that apply a softmax to a single unit.
        linear_pairs: Pairs of layers with no activation between their kernels.
        dropout_rates: The dropout rate of each layer that drops values.
        equal_kernels: Pairs of layers with equal kernels.
        trainable_count: Number of trainable weights. None if the model has no weights at all.
        learning_rates: Learning rates by step, see `learning_rates`.
        never_negative: Whether no output has a loss that can be below zero.
        codes: The expression that reaches each layer, see `layer_codes`.
        dropout_codes: The expression of the rate of each layer in `dropout_rates`. A rate that
            cannot be set is left out.
    """

    outputs: tuple[OutputSetup, ...] = ()
    softmax_of_softmax: Mapping[str, str] = field(default_factory=dict)
    one_unit_softmax: tuple[str, ...] = ()
    linear_pairs: tuple[tuple[str, str], ...] = ()
    dropout_rates: Mapping[str, float] = field(default_factory=dict)
    equal_kernels: tuple[tuple[str, str], ...] = ()
    trainable_count: int | None = None
    learning_rates: Mapping[int, float] = field(default_factory=dict)
    never_negative: bool = False
    codes: Mapping[str, str] = field(default_factory=dict)
    dropout_codes: Mapping[str, str] = field(default_factory=dict)


def collect_setup(
    model: Any, parts: Mapping[int, LayerInfo], names: Names, trace: Trace | None = None
) -> ModelSetup:
    """Describe a built and compiled model. What cannot be read is left out.

    Args:
        model: Built and compiled model.
        parts: The descriptions of its layers, by the `id` of the layer.
        names: Names of its layers and variables.
        trace: Its calls. None if it cannot be traced: nothing is known of its outputs.
    """
    calls: list[Call] = [] if trace is None else trace.calls
    codes = layer_codes(model, names)
    outputs = () if trace is None else tuple(_outputs(model, trace, names, codes))
    dropouts = list(_dropouts(model, names, codes))
    pairs = linear_pairs(calls, () if trace is None else trace.outputs)
    hidden = [
        layer for layer in _distinct_layers(model) if id(layer) in parts and parts[id(layer)].hidden
    ]
    equal: list[tuple[Any, Any]] = []
    rates: dict[int, float] = {}
    # On JAX the values of variables cannot be read during an epoch.
    with suppress(Exception):
        equal = equal_kernels(hidden)
    with suppress(Exception):
        rates = learning_rates(model.optimizer)
    return ModelSetup(
        outputs=outputs,
        softmax_of_softmax=dict(_repeated_softmaxes(calls, names, codes)),
        one_unit_softmax=tuple(_hidden_one_unit_softmaxes(calls, outputs, names)),
        linear_pairs=tuple((names.of(one), names.of(other)) for one, other in pairs),
        dropout_rates={name: rate for name, rate, _ in dropouts},
        equal_kernels=tuple((names.of(one), names.of(other)) for one, other in equal),
        trainable_count=_trainable_count(model),
        learning_rates=rates,
        never_negative=_never_negative(model, () if trace is None else trace.keys),
        codes=codes,
        dropout_codes={name: code for name, _, code in dropouts if code},
    )


def _distinct_layers(model: Any) -> list[Any]:
    return list({id(layer): layer for layer in model._flatten_layers()}.values())


def _outputs(
    model: Any, trace: Trace, names: Names, codes: Mapping[str, str]
) -> Iterator[OutputSetup]:
    losses = output_losses(model, trace.keys)
    targets = _target_names(model, trace)
    for position, loss, target in zip(trace.outputs, losses, targets, strict=True):
        end: OutputEnd | None = output_end(trace.calls, position)
        if end is not None:
            layer = _layer_behind(trace.calls, end.position)
            yield OutputSetup(
                layer="" if layer is None else names.of(layer),
                kind=type(layer).__name__,
                activation=end.activation,
                units=end.units,
                loss=loss,
                target=target,
                code=_activation_code(trace.calls[end.position], names, codes),
            )


def _activation_code(call: Call, names: Names, codes: Mapping[str, str]) -> str:
    """Return the expression of the layer whose attribute is the activation of a call, or ""."""
    layer = call.operation
    layer = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
    is_layer = isinstance(layer, layers.Layer) and hasattr(layer, "activation")
    return codes.get(names.of(layer), "") if is_layer else ""


def _repeated_softmaxes(
    calls: list[Call], names: Names, codes: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for position in repeated_softmaxes(calls):
        first = output_end(calls, calls[position].inputs[0])
        code = "" if first is None else _activation_code(calls[first.position], names, codes)
        yield _layer_name(calls, position, names), code


def _target_names(model: Any, trace: Trace) -> list[str | None]:
    """Return the name of the targets of each output, where it is certain.

    Targets in a dictionary are sorted by their names, those in a list by the outputs.
    """
    count = len(trace.outputs)
    keys = trace.keys if None not in trace.keys else getattr(model, "output_names", None) or ()
    if count > 1 and (list(keys) != sorted(keys) or len(keys) != count):
        return [None] * count
    return [f"target:{index}" if index else "target" for index in range(count)]


def _never_negative(model: Any, keys: tuple[str | None, ...]) -> bool:
    compiled = getattr(model, "_compile_loss", None)
    weights = keras.tree.flatten(getattr(compiled, "_user_loss_weights", None) or 1.0)
    losses = output_losses(model, keys or (None,))
    return all(loss is not None and loss.name in NEVER_NEGATIVE for loss in losses) and all(
        isinstance(weight, int | float) and weight >= 0 for weight in weights
    )


def _layer_behind(calls: list[Call], position: int) -> Any:
    """Return the nearest layer at or before a call; None if there is none."""
    while not isinstance(calls[position].operation, layers.Layer):
        if len(calls[position].inputs) != 1:
            return None
        position = calls[position].inputs[0]
    return calls[position].operation


def _layer_name(calls: list[Call], position: int, names: Names) -> str:
    layer = _layer_behind(calls, position)
    return calls[position].operation.name if layer is None else names.of(layer)


def _hidden_one_unit_softmaxes(
    calls: list[Call], outputs: tuple[OutputSetup, ...], names: Names
) -> Iterator[str]:
    ends = {output.layer for output in outputs}
    for call in calls:
        one_unit = call.shape[-1:] == (1,) and certain_activation_name(call) == "softmax"
        if one_unit and kernel_uses(call.operation) and names.of(call.operation) not in ends:
            yield names.of(call.operation)


def _dropouts(
    model: Any, names: Names, codes: Mapping[str, str]
) -> Iterator[tuple[str, float, str]]:
    """Yield the name, the largest rate, and the expression of that rate, of layers with dropout."""
    for layer in _distinct_layers(model):
        # The rates of a recurrent layer are in its cell.
        is_recurrent = isinstance(layer, layers.RNN)
        owner = layer.cell if is_recurrent else layer
        rates = {name: getattr(owner, name, None) for name in DROPOUT_RATES}
        known = {name: rate for name, rate in rates.items() if isinstance(rate, int | float)}
        if isinstance(layer, DROPOUTS) and known and max(known.values()) > 0:
            attribute = max(known, key=lambda name: known[name])
            code = codes.get(names.of(layer), "") + ".cell" * is_recurrent
            # Attention reads its rate only when it is built.
            can_be_set = names.of(layer) in codes and not isinstance(layer, ATTENTIONS)
            yield names.of(layer), known[attribute], f"{code}.{attribute}" if can_be_set else ""


def _trainable_count(model: Any) -> int | None:
    return len(model.trainable_variables) if model.weights else None
