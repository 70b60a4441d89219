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

# Numbers that stand in for the unknown batch size and for other unknown sizes, in models that do
# not run without known sizes. They are small, because a table of positions may be short.
SIZES = 2, 4


@dataclass(frozen=True)
class Call:
    """One call of a layer or an operation.

    Args:
        operation: The layer or operation that is called.
        inputs: Positions, in the list of calls, of the calls whose outputs it takes.
        takes_model_input: Whether it takes an input of the model itself.
        arguments: For each tensor that it takes, in turn, the position of the call that makes
            it; None for an input of the model.
        shape: Shape of its first output, None for sizes that vary. Empty if it is not known.
        node: Keras' record of the call: its arguments and its symbolic outputs. None if the
            call was not traced.
    """

    operation: Any
    inputs: tuple[int, ...]
    takes_model_input: bool
    arguments: tuple[int | None, ...] = ()
    shape: tuple[int | None, ...] = ()
    node: Any = None

    @property
    def takes_several(self) -> bool:
        """Whether it takes at least two tensors of the model, from different calls."""
        return len(self.inputs) + self.takes_model_input > 1


def is_from_keras(operation: Any) -> bool:
    """Return whether Keras itself says what an operation or a layer computes."""
    call = type(operation).call
    return bool(call.__module__.startswith("keras."))


@dataclass(frozen=True)
class Trace:
    """The calls of a model and where its outputs come from.

    Args:
        calls: Each after the calls that it needs.
        outputs: For each output of the model, the position of the call that makes it. None for
            an output that is an input. The outputs are flattened as by `keras.tree.flatten`.
        keys: For each output, its key in a dictionary of outputs; None where there is no key.
    """

    calls: list[Call]
    outputs: tuple[int | None, ...]
    keys: tuple[str | None, ...]


def trace_calls(model: Any) -> list[Call]:
    """List the calls that make the outputs of a model, see `trace_model`."""
    return trace_model(model).calls


def trace_model(model: Any) -> Trace:
    """List the calls that make the outputs of a model, each after the calls that it needs.

    Calls inside composite layers are listed in place of the composite: those of nested models,
    attention, and layers of a class outside Keras. Tracing leaves the model as it was.

    Raises:
        Exception: Of any type, if the model does not run on symbolic tensors. Its `call` may
            ask for values, or use functions of a backend.
    """
    try:
        return _trace_with_sizes(model, ())
    except Exception:
        # Some layers of other packages pass a size to functions that need a number.
        return _trace_with_sizes(model, SIZES)


def _trace_with_sizes(model: Any, sizes: Sequence[int]) -> Trace:
    arguments, keywords = _symbolic_arguments(model, sizes)
    # The stateless scope discards what a `call` assigns or draws from a generator.
    with keras.StatelessScope(), _composites_expanded(model), _name_counts_restored():
        # A layer that is no model, such as `Dense`, is a call by itself.
        call = model.call if _is_composite(model) else model
        outputs = call(*arguments, **keywords)
        calls, positions = _calls_behind(keras.tree.flatten(outputs))
        return Trace(calls, positions, _keys(outputs))


def _keys(outputs: Any) -> tuple[str | None, ...]:
    paths = [path for path, _ in keras.tree.flatten_with_path(outputs)]
    return tuple(path[0] if len(path) == 1 and isinstance(path[0], str) else None for path in paths)


def try_trace(model: Any) -> Trace | None:
    """Return the calls of a model, or None if it does not run on symbolic tensors."""
    try:
        return trace_model(model)
    except Exception:
        return None


def _symbolic_arguments(model: Any, sizes: Sequence[int]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments for `model.call` with the shapes that the model was built with.

    Args:
        model: Built model.
        sizes: What takes the place of unknown sizes: of the first axis and of all others. Empty
            to leave them unknown.
    """

    def symbolic(shape: Sequence[int | None], dtype: str = "float32") -> Any:
        if sizes:
            shape = [sizes[min(i, 1)] if size is None else size for i, size in enumerate(shape)]
        return keras.KerasTensor(shape, dtype)

    if getattr(model, "inputs", None):
        functional = getattr(model, "_functional", None) or model
        structure = keras.tree.map_structure(
            lambda tensor: symbolic(tensor.shape, tensor.dtype), functional._inputs_struct
        )
        return [structure], {}
    if not model._build_shapes_dict:
        raise ValueError("Keras could not run it on symbolic tensors either when it was built")
    tensors = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(symbolic, shape)
        for name, shape in model._build_shapes_dict.items()
    }
    return (list(tensors.values()), {}) if len(tensors) == 1 else ([], tensors)


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


def _calls_behind(outputs: Sequence[Any]) -> tuple[list[Call], tuple[int | None, ...]]:
    """List the calls behind some tensors, and the position of the call that makes each.

    There is no recursion, because models may be deep.
    """
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
        arguments = tuple(None if source is None else positions[source[0]] for source in origins)
        sources = dict.fromkeys(source for source in arguments if source is not None)
        positions[key] = len(calls)
        node = operation._inbound_nodes[key[1]]
        shape = tuple(node.output_tensors[0].shape)
        calls.append(Call(operation, tuple(sources), None in arguments, arguments, shape, node))
    origins = [_origin(tensor) for tensor in outputs]
    return calls, tuple(None if one is None else positions[one[0]] for one in origins)


def _origin(tensor: Any) -> tuple[tuple[int, int], Any, Sequence[Any]] | None:
    """Return the key, the operation and the inputs of the call that made a symbolic tensor.

    The result is None for an input of the model.
    """
    operation, number, _ = getattr(tensor, "_keras_history", (None, 0, 0))
    if operation is None or isinstance(operation, keras.layers.InputLayer):
        return None
    return (id(operation), number), operation, operation._inbound_nodes[number].input_tensors
