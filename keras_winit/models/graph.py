"""The graph of a built model's layers, by calling it once on symbols."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute

from keras_winit.models.call_hook import hooked

# Made of layers that are told apart; others of Keras' own count as one.
COMPOSITE = (
    keras.Model,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)


@dataclass(frozen=True)
class Call:
    """One call of a layer or an operation.

    Args:
        operation: That was called.
        inputs: The places, in the graph, of the calls whose results it takes.
        reads: Whether it takes an input of the model itself.
    """

    operation: Any
    inputs: tuple[int, ...]
    reads: bool


def graph(model: Any) -> list[Call]:
    """The calls that make the outputs of a model, each after those that it needs.

    Layers made of layers are seen through, whether by Keras or by a class of its own.

    Raises:
        Exception: Of many kinds, if the model does not run on symbols, such as a `call` that
            asks for values or uses a backend's own functions.
    """
    arguments, named = _symbols(model)
    # What a `call` assigns, or draws from a generator, must not come to pass.
    with keras.StatelessScope(), _seen_through(model), _counts_kept():
        outputs = model.call(*arguments, **named)
        return _walk(keras.tree.flatten(outputs))


def _symbols(model: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for `call` of the shapes that the model was built with."""
    if getattr(model, "inputs", None):
        functional = getattr(model, "_functional", None) or model
        return [keras.tree.map_structure(_symbol, functional._inputs_struct)], {}
    shapes = dict(model._build_shapes_dict)
    single = len(shapes) == 1
    made = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, "float32"), shape
        )
        for name, shape in shapes.items()
    }
    return (list(made.values()), {}) if single else ([], made)


def _symbol(tensor: Any) -> Any:
    return keras.KerasTensor(tensor.shape, tensor.dtype)


def _is_composite(layer: Any) -> bool:
    if isinstance(layer, COMPOSITE):
        return True
    if isinstance(layer, keras.layers.TimeDistributed):
        # It calls what it holds past `__call__`, of which nothing is left on the symbols.
        layer = layer.layer
        return any(layer._flatten_layers(include_self=False, recursive=False))
    own = type(layer).__module__.startswith("keras.")
    return not own and any(layer._flatten_layers(include_self=False, recursive=False))


@contextlib.contextmanager
def _seen_through(model: Any) -> Iterator[None]:
    """Symbols run through composite layers; what the calls leave on layers is taken off."""
    thread = threading.get_ident()
    parts = list(model._flatten_layers())
    # Operations of a graph are no layers.
    parts += [one for part in parts for one in getattr(part, "_operations", ())]
    nodes = [(part._inbound_nodes, len(part._inbound_nodes)) for part in parts]
    nodes += [(part._outbound_nodes, len(part._outbound_nodes)) for part in parts]

    def through(call: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
        symbolic = threading.get_ident() == thread and any(
            isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs))
        )
        if symbolic and layer.built and _is_composite(layer):
            return layer.call(*args, **kwargs)
        return call(layer, *args, **kwargs)

    try:
        with hooked(through):
            yield
    finally:
        for kept, count in nodes:
            del kept[count:]


@contextlib.contextmanager
def _counts_kept() -> Iterator[None]:
    """Names of layers made later are what they would have been without the operations made here."""
    counts = get_global_attribute("object_name_uids", {})
    before = dict(counts)
    try:
        yield
    finally:
        counts.clear()
        counts.update(before)


def _walk(outputs: Sequence[Any]) -> list[Call]:
    """From the outputs back, without recursion: models may be deep."""
    places: dict[tuple[int, int], int] = {}
    calls: list[Call] = []
    pending = [(tensor, False) for tensor in reversed(outputs)]
    while pending:
        tensor, ready = pending.pop()
        made = _maker(tensor)
        if made is None or made[0] in places:
            continue
        key, operation, inputs = made
        if not ready:
            pending.append((tensor, True))
            pending += [(needed, False) for needed in reversed(inputs)]
            continue
        makers = [_maker(needed) for needed in inputs]
        found = dict.fromkeys(places[maker[0]] for maker in makers if maker is not None)
        places[key] = len(calls)
        calls.append(Call(operation, tuple(found), None in makers))
    return calls


def _maker(tensor: Any) -> tuple[tuple[int, int], Any, Sequence[Any]] | None:
    """Which call made a symbol; None of an input."""
    operation, number, _ = getattr(tensor, "_keras_history", (None, 0, 0))
    if operation is None or isinstance(operation, keras.layers.InputLayer):
        return None
    return (id(operation), number), operation, operation._inbound_nodes[number].input_tensors
