"""Traces a built model on symbolic tensors and lists the calls that make its outputs."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute

from keras_winit.models.call_hook import hooked

# Keras' own layers whose inner layers are listed one by one; any other layer of Keras' own
# counts as one call.
COMPOSITE = (
    keras.Model,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)


@dataclass(frozen=True)
class Call:
    """One call of a layer or an operation.

    Args:
        operation: The layer or operation that is called.
        inputs: Positions, in the list of calls, of the calls whose outputs it takes.
        takes_model_input: Whether it takes an input of the model itself.
        node: Keras' record of the call: its arguments and its symbolic outputs. None if the
            call was not traced.
    """

    operation: Any
    inputs: tuple[int, ...]
    takes_model_input: bool
    node: Any = None


def trace_calls(model: Any) -> list[Call]:
    """List the calls that make the outputs of a model, each after the calls that it needs.

    Calls inside composite layers are listed in place of the composite: those of nested models,
    attention, and layers of a class outside Keras. Tracing leaves the model as it was.

    Raises:
        Exception: Of any type, if the model does not run on symbolic tensors. Its `call` may
            ask for values, or use functions of a backend.
    """
    arguments, keywords = _symbolic_arguments(model)
    # The stateless scope discards what a `call` assigns or draws from a generator.
    with keras.StatelessScope(), _composites_expanded(model), _name_counts_restored():
        outputs = model.call(*arguments, **keywords)
        return _calls_behind(keras.tree.flatten(outputs))


def _symbolic_arguments(model: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments for `model.call` with the shapes that the model was built with."""
    if getattr(model, "inputs", None):
        functional = getattr(model, "_functional", None) or model
        return [keras.tree.map_structure(_symbolic_copy, functional._inputs_struct)], {}
    tensors = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, "float32"), shape
        )
        for name, shape in model._build_shapes_dict.items()
    }
    return (list(tensors.values()), {}) if len(tensors) == 1 else ([], tensors)


def _symbolic_copy(tensor: Any) -> Any:
    return keras.KerasTensor(tensor.shape, tensor.dtype)


def _is_composite(layer: Any) -> bool:
    if isinstance(layer, COMPOSITE):
        return True
    if isinstance(layer, keras.layers.TimeDistributed):
        # It calls its inner layer without `__call__`, which leaves no record on the tensors.
        layer = layer.layer
        return any(layer._flatten_layers(include_self=False, recursive=False))
    from_keras = type(layer).__module__.startswith("keras.")
    return not from_keras and any(layer._flatten_layers(include_self=False, recursive=False))


@contextlib.contextmanager
def _composites_expanded(model: Any) -> Iterator[None]:
    """Run symbolic tensors through composite layers, and remove the nodes that calls add."""
    tracing_thread = threading.get_ident()
    owners = list(model._flatten_layers())
    # The operations of a functional model are not among its layers.
    owners += [operation for layer in owners for operation in getattr(layer, "_operations", ())]
    nodes = [(owner._inbound_nodes, len(owner._inbound_nodes)) for owner in owners]
    nodes += [(owner._outbound_nodes, len(owner._outbound_nodes)) for owner in owners]

    def expand(call: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
        symbolic = threading.get_ident() == tracing_thread and any(
            isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs))
        )
        if symbolic and layer.built and _is_composite(layer):
            return layer.call(*args, **kwargs)
        return call(layer, *args, **kwargs)

    try:
        with hooked(expand):
            yield
    finally:
        for node_list, count in nodes:
            del node_list[count:]


@contextlib.contextmanager
def _name_counts_restored() -> Iterator[None]:
    """Restore Keras' counts of automatic names, such as the 2 of `dense_2`.

    The operations made while tracing count too; they would change the names of later layers.
    """
    counts = get_global_attribute("object_name_uids", {})
    before = dict(counts)
    try:
        yield
    finally:
        counts.clear()
        counts.update(before)


def _calls_behind(outputs: Sequence[Any]) -> list[Call]:
    """List the calls behind some tensors, without recursion: models may be deep."""
    positions: dict[tuple[int, int], int] = {}
    calls: list[Call] = []
    pending = [(tensor, False) for tensor in reversed(outputs)]
    while pending:
        tensor, inputs_listed = pending.pop()
        origin = _origin(tensor)
        if origin is None or origin[0] in positions:
            continue
        key, operation, inputs = origin
        if not inputs_listed:
            pending.append((tensor, True))
            pending += [(needed, False) for needed in reversed(inputs)]
            continue
        origins = [_origin(needed) for needed in inputs]
        sources = dict.fromkeys(positions[source[0]] for source in origins if source is not None)
        positions[key] = len(calls)
        node = operation._inbound_nodes[key[1]]
        calls.append(Call(operation, tuple(sources), None in origins, node))
    return calls


def _origin(tensor: Any) -> tuple[tuple[int, int], Any, Sequence[Any]] | None:
    """Return the key, the operation and the inputs of the call that made a symbolic tensor.

    The result is None for an input of the model.
    """
    operation, number, _ = getattr(tensor, "_keras_history", (None, 0, 0))
    if operation is None or isinstance(operation, keras.layers.InputLayer):
        return None
    return (id(operation), number), operation, operation._inbound_nodes[number].input_tensors
