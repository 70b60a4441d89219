"""Lists the layer calls of a model by running it on zeros, where it cannot be traced."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_winit.models.call_hook import hooked
from keras_winit.models.graph import COMPOSITE, SIZES, Call

layers = keras.layers


def run_calls(model: Any, data: Any = None) -> list[Call]:
    """List the layer calls of one forward pass, each after the calls that it needs.

    A tensor that no layer made, but a function of the backend, is taken to come from the call
    before. The sums of residual branches are therefore not seen. The model stays as it was.

    Args:
        model: Built model.
        data: A batch of inputs. Defaults to zeros of the shapes that the model was built with.

    Raises:
        Exception: Of any type, if the model does not run on the inputs.
    """
    arguments, keywords = ((data,), {}) if data is not None else _zeros(model)
    given = {id(leaf) for leaf in keras.tree.flatten((arguments, keywords))}
    calls: list[Call] = []
    makers: dict[int, int] = {}
    # Keeps the tensors alive, so that no two have the same id.
    tensors: list[Any] = []

    def note(call: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_single_call(layer):
            return call(layer, *args, **kwargs)
        taken = [leaf for leaf in keras.tree.flatten((args, kwargs)) if ops.is_tensor(leaf)]
        outputs = call(layer, *args, **kwargs)
        takes_input = any(id(leaf) in given for leaf in taken) or not calls
        last = None if takes_input else len(calls) - 1
        sources = dict.fromkeys(makers.get(id(leaf), last) for leaf in taken)
        calls.append(Call(layer, tuple(s for s in sources if s is not None), takes_input))
        tensors.extend([taken, outputs])
        for leaf in keras.tree.flatten(outputs):
            makers[id(leaf)] = len(calls) - 1
        return outputs

    # The stateless scope discards what a `call` assigns or draws from a generator.
    with keras.StatelessScope(), hooked(note):
        model(*arguments, **keywords, training=False)
    return calls


def calls_in_order(model: Any) -> list[Call]:
    """List the layers of a model as if each took the output of the one created before."""
    leaves = {id(layer): layer for layer in _single_calls(model)}.values()
    return [Call(leaf, (i - 1,) if i else (), i == 0) for i, leaf in enumerate(leaves)]


def _single_calls(layer: Any) -> Iterator[Any]:
    """Yield the layers inside a layer, or itself, that count as one call."""
    if not is_single_call(layer):
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            yield from _single_calls(inner)
    elif not isinstance(layer, layers.InputLayer):
        yield layer


def is_single_call(layer: Any) -> bool:
    """Return whether a layer counts as one call; if not, its inner layers are listed one by one."""
    if isinstance(layer, COMPOSITE):
        return False
    if type(layer).__module__.startswith("keras.") and not isinstance(
        layer, layers.TimeDistributed
    ):
        return True
    owner = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
    return not any(owner._flatten_layers(include_self=False, recursive=False))


def _zeros(model: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return zeros as arguments of a call, of the shapes that the model was built with."""

    def zeros(shape: Any, dtype: str = "float32") -> Any:
        sizes = [SIZES[min(i, 1)] if size is None else size for i, size in enumerate(shape)]
        return ops.zeros(sizes, dtype)

    if getattr(model, "inputs", None):
        functional = getattr(model, "_functional", None) or model
        structure = functional._inputs_struct
        return (keras.tree.map_structure(lambda t: zeros(t.shape, t.dtype), structure),), {}
    tensors = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(zeros, shape)
        for name, shape in model._build_shapes_dict.items()
    }
    return (tuple(tensors.values()), {}) if len(tensors) == 1 else ((), tensors)
