"""Decides for each weight of a model which initializer draws it anew, or why it is left."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_winit.initializers import Scheme
from keras_winit.initializers.base import DTYPES
from keras_winit.initializers.constants import Ones, Zeros
from keras_winit.initializers.recurrent import ForgetBias
from keras_winit.initializers.wrapping import bound_to, reseeded
from keras_winit.models.inspect import Inspection, KernelContext, owning_layers
from keras_winit.models.names import Names
from keras_winit.models.seeds import derived_seeds
from keras_winit.repair.choose import Choice, choose, scaled_by_depth
from keras_winit.theory.fans import Use

STATISTICS = ("moving_mean", "moving_variance")
# Weights of Keras' layers, other than kernels and biases, that their own initializers suit.
OWN_INITIALIZER = ("gamma", "beta", "alpha")


@dataclass(frozen=True)
class WeightPlan:
    """The decision on one weight: the initializer that draws it, or none, and the reason.

    Args:
        variable: The weight.
        layer: Unique name of the layer that holds it.
        initializer: Seeded initializer that knows the use of the weight. None to leave it.
        reason: Why, in a few words.
    """

    variable: Any
    layer: str
    initializer: Any
    reason: str


@dataclass(frozen=True)
class Wishes:
    """The arguments of `reinitialize` that decide on weights.

    Args:
        scheme: Initializer for all kernels; None for the table of `choose.py`.
        residual: Rule for residual branches, see `scaled_by_depth`.
        selected: Whether the weights of a layer are to be set.
        reset_statistics: Whether moving statistics are to be reset.
        output_biases: Choices for the biases of outputs, by the `id` of the variable.
    """

    scheme: Any = None
    residual: str | None = None
    selected: Callable[[Any], bool] = lambda layer: True
    reset_statistics: bool = False
    output_biases: Mapping[int, Choice] = field(default_factory=dict)


def weight_plans(
    model: Any, inspection: Inspection, names: Names, wishes: Wishes, seed: int
) -> Iterator[WeightPlan]:
    """Yield a plan for each weight of a model, in the order of `model.weights`."""
    owners = owning_layers(model)
    contexts = {id(context.kernel.variable): context for context in inspection.kernels}
    uses = {id(context.owner): context.kernel.use for context in inspection.kernels}
    seeds = derived_seeds(seed, len(model.weights))
    for variable, own_seed in zip(model.weights, seeds, strict=True):
        owner = owners[id(variable)]
        reason = _reason_to_leave(variable, owner, wishes)
        if reason:
            choice = Choice(None, reason)
        elif id(variable) in contexts and contexts[id(variable)].kernel.use is not None:
            choice = _kernel_choice(contexts[id(variable)], inspection.branches, wishes)
        else:
            choice = _other_choice(variable, owner, uses.get(id(owner)), wishes)
        initializer = None if choice.scheme is None else reseeded(choice.scheme, own_seed)
        yield WeightPlan(variable, names.of(owner), initializer, choice.reason)


def _reason_to_leave(variable: Any, owner: Any, wishes: Wishes) -> str:
    """Return why a weight must be left as it is, or an empty string."""
    is_statistic = _is_statistic(variable, owner)
    reasons = {
        "not selected": not wishes.selected(owner),
        f"quantized, {getattr(owner, 'quantization_mode', None)}": _is_quantized(owner),
        "LoRA": getattr(owner, "lora_enabled", False),
        "frozen": not owner.trainable,
        "not trainable": not (variable.trainable or is_statistic),
        "statistics, see reset_statistics": is_statistic and not wishes.reset_statistics,
        f"dtype {variable.dtype}": variable.dtype not in DTYPES,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_statistic(variable: Any, owner: Any) -> bool:
    return isinstance(owner, keras.layers.BatchNormalization) and variable.name in STATISTICS


def _is_quantized(owner: Any) -> bool:
    return getattr(owner, "quantization_mode", None) is not None


def _kernel_choice(kernel: KernelContext, branches: int, wishes: Wishes) -> Choice:
    """Return the choice for a kernel of known use, bound to its layer."""
    table = getattr(getattr(kernel.owner, "embeddings_initializer", None), "value", None)
    if kernel.role == "embedding" and table is not None:
        return Choice(None, "embedding with a given table")
    is_auto = wishes.scheme is None
    choice = choose(kernel) if is_auto else Choice(wishes.scheme, "the scheme given")
    if choice.scheme is None:
        return choice
    scheme, reason = scaled_by_depth(choice, kernel, branches, wishes.residual, is_auto)
    if kernel.calls > 1:
        reason += f", shared by {kernel.calls} calls"
    return Choice(_bound_to_kernel(scheme, kernel), reason)


def _bound_to_kernel(scheme: Any, kernel: KernelContext) -> Any:
    """Return a scheme that knows how the layer uses the kernel."""
    use = kernel.kernel.use
    assert use is not None
    bound = bound_to(scheme, use, tuple(kernel.kernel.variable.shape))
    is_unaware = not isinstance(scheme, Scheme) and bound is scheme
    if is_unaware and use != Use() and "seed" in getattr(scheme, "get_config", dict)():
        raise TypeError(
            f"`reinitialize(scheme=...)` needs a scheme of this package for the kernel "
            f"{kernel.name!r}, whose shape does not tell its fans. Received: a "
            f"`{type(scheme).__name__}` of another package. Use a name such as 'winit>he_normal'."
        )
    return bound


def _other_choice(variable: Any, owner: Any, use: Use | None, wishes: Wishes) -> Choice:
    """Return the choice for a weight that is no kernel of known use."""
    name = variable.name
    if id(variable) in wishes.output_biases:
        return wishes.output_biases[id(variable)]
    if name == "bias" and use is not None:
        if use.gates == 4:
            return Choice(ForgetBias(), "bias, forget gates 1")
        return Choice(Zeros(), "bias")
    if type(owner).__module__.startswith("keras."):
        own = getattr(owner, f"{name}_initializer", None)
        if own is not None and name in (*OWN_INITIALIZER, *STATISTICS):
            return Choice(own, "the layer's own initializer")
        if isinstance(owner, keras.layers.RMSNormalization):
            return Choice(Ones(), "scale of a normalization")
    return Choice(None, "use not known")
