"""Lists the layers of a model that own kernels, and the kernels that must be left alone."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from keras_winit.models.kernels import Kernel, kernel_uses, kernel_variable
from keras_winit.models.names import Names
from keras_winit.models.selection import selection

layers = keras.layers
RECURRENT = (layers.RNN, layers.Bidirectional)
LOOK_UPS = (layers.Embedding, layers.ReversibleEmbedding)


@dataclasses.dataclass(frozen=True)
class Owner:
    """A layer with kernels of its own.

    Args:
        name: Name of the layer, see `Names`.
        layer: The layer, or the cell of a recurrent layer.
        kernels: Its kernels, by the name of the attribute or, if their use is not known, of the
            variable.
        number: Number of its first kernel in the model, from 0.
        is_recurrent: Whether it runs within a loop over time.
        refusal: Why its kernels must be left as they are, or "".
    """

    name: str
    layer: Any
    kernels: tuple[Kernel, ...]
    number: int
    is_recurrent: bool
    refusal: str

    @property
    def is_look_up(self) -> bool:
        """Whether the layer looks rows up in a table."""
        return isinstance(self.layer, LOOK_UPS)

    @property
    def bias(self) -> Any:
        """The bias of the layer, or None."""
        return getattr(self.layer, "bias", None)


def kernel_owners(function: str, model: Any, wanted: Any = None) -> list[Owner]:
    """List the layers that own kernels, in the order of the model.

    Args:
        function: Name of the public function, for messages.
        model: A built layer or model.
        wanted: The layers that may be changed, see `selection`. None: all.

    Raises:
        TypeError: If `wanted` is nothing that selects layers.
        ValueError: If it selects no layer with kernels.
    """
    names = Names(model)
    everything = list({id(layer): layer for layer in model._flatten_layers()}.values())
    selected = {id(layer) for layer in everything}
    if wanted is not None:
        is_chosen = selection(function, wanted)
        chosen = [layer for layer in everything if is_chosen(layer, names.of)]
        selected = {id(inner) for layer in chosen for inner in layer._flatten_layers()}
    within = _refused_wrappers(everything)
    in_loops = {
        id(inner)
        for layer in everything
        if isinstance(layer, RECURRENT)
        for inner in layer._flatten_layers()
    }
    seen: set[int] = set()
    owners, number = [], 0
    for layer in everything:
        kernels = [k for k in _own_kernels(layer) if id(k.variable) not in seen]
        if not kernels:
            continue
        seen.update(id(kernel.variable) for kernel in kernels)
        reason = within.get(id(layer), "") or _refusal(layer, kernels)
        if id(layer) not in selected:
            reason = "not among the selected layers"
        recurrent = id(layer) in in_loops
        owners.append(Owner(names.of(layer), layer, tuple(kernels), number, recurrent, reason))
        number += len(kernels)
    if wanted is not None and not any(id(owner.layer) in selected for owner in owners):
        raise ValueError(
            f"`{function}(layers=...)` must select at least one layer with kernels. "
            f"Received: layers={wanted!r}."
        )
    return owners


def _own_kernels(layer: Any) -> Iterator[Kernel]:
    uses = kernel_uses(layer)
    if uses is not None:
        for name, use in uses.items():
            variable = kernel_variable(layer, name)
            if variable is not None:
                yield Kernel(name, variable, use)
        return
    inner = layer._flatten_layers(include_self=False, recursive=False)
    inner_variables = {id(variable) for inner_layer in inner for variable in inner_layer.variables}
    for variable in layer.trainable_variables:
        if id(variable) not in inner_variables and len(variable.shape) > 1:
            yield Kernel(variable.name, variable, None)


def _refused_wrappers(everything: Iterable[Any]) -> dict[int, str]:
    """Return why the layers within some wrappers are left alone, by the `id` of the layer."""
    reasons = {}
    for wrapper in everything:
        if isinstance(wrapper, layers.SpectralNormalization):
            reason = "spectral normalization sets its scale"
            reasons.update({id(inner): reason for inner in wrapper._flatten_layers()})
    return reasons


def _refusal(layer: Any, kernels: Sequence[Kernel]) -> str:
    if getattr(layer, "quantization_mode", None):
        return "quantized"
    if getattr(layer, "lora_enabled", False):
        return "has a LoRA update"
    if not all(kernel.variable.trainable for kernel in kernels):
        return "frozen"
    if any(kernel.use is None for kernel in kernels):
        return f"how {type(layer).__name__} uses it is not known"
    return ""
