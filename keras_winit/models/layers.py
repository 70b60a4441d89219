"""Describes the layers and kernels of a built model before it sees data."""

import contextlib
import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_winit import theory
from keras_winit.initializers.upsampling import Bilinear, Icnr
from keras_winit.models.eager import calls_in_order
from keras_winit.models.graph import Trace
from keras_winit.models.kernels import Kernel, kernels
from keras_winit.models.names import Names
from keras_winit.models.structure import Structure
from keras_winit.theory.fans import kernel_axes

layers = keras.layers

INITIALIZER_ARGUMENTS = (
    *("kernel_initializer", "depthwise_initializer", "pointwise_initializer"),
    *("recurrent_initializer", "embeddings_initializer"),
)


@dataclass(frozen=True)
class KernelInfo:
    """Description of a trainable kernel before training.

    Args:
        name: Name of the variable, see `Names`.
        size: Number of entries.
        role: "kernel", "recurrent", "embedding", or "other" where its use is not known.
        unit_axes: Axes that index its units. Empty if it has no units of its own.
        variances: Smallest and largest variance of the entries that a common scheme would
            choose to keep the signal or the gradient at its size. None where that is not known.
        repeats_units: Whether its initializer makes units equal on purpose.
    """

    name: str
    size: int
    role: str = "kernel"
    unit_axes: tuple[int, ...] = ()
    variances: tuple[float, float] | None = None
    repeats_units: bool = False


@dataclass(frozen=True)
class LayerInfo:
    """Description of a layer before training. Composite layers are listed by their parts.

    Args:
        name: Name of the layer.
        kind: Name of its class.
        kernels: Its trainable kernels.
        activation: First activation that its output meets, in the layer itself or in those
            after it. None if there is none before the next kernel.
        hidden: Whether another kernel follows.
        branch: Number of the residual branch that it lies in, or None.
        ends_branch: Whether it holds the last kernel of its branch, which may start at zero.
        normalized: Whether its output meets a normalization before the next kernel.
        takes_raw_input: Whether it holds a kernel and takes an input of the model, with no
            kernel and no normalization in between.
        initializers: Names of the arguments that initialize its kernels, each with the name of
            its present scheme, as in `("kernel_initializer", "glorot_uniform")`.
        makes_scores: Whether its output only decides how much other tensors count, as that of
            a query or a key of attention. The loss hardly depends on it at first.
    """

    name: str
    kind: str = ""
    kernels: tuple[KernelInfo, ...] = ()
    activation: str | None = None
    hidden: bool = True
    branch: int | None = None
    ends_branch: bool = False
    normalized: bool = False
    takes_raw_input: bool = False
    makes_scores: bool = False
    initializers: tuple[tuple[str, str], ...] = ()

    @property
    def is_embedding(self) -> bool:
        """Whether it looks its output up in a table."""
        return any(kernel.role == "embedding" for kernel in self.kernels)


def describe_layers(model: Any, names: Names, trace: Trace | None) -> dict[int, LayerInfo]:
    """Describe the layers of a built model, by the `id` of the layer.

    The layers come in the order of their first calls. A model that cannot be traced is read as a
    plain sequence of its layers in the order of their creation, without branches.

    Args:
        model: Built model.
        names: Names of its layers and variables.
        trace: The calls of the model, see `try_trace`. None if it cannot be traced.
    """
    if trace is None:
        # The order of layers does not tell what becomes of an output.
        structure = Structure(calls_in_order(model), scores_known=False)
    else:
        structure = Structure(trace.calls)
    described: dict[int, LayerInfo] = {}
    for position, call in enumerate(structure.calls):
        layer = call.operation
        if isinstance(layer, layers.Layer) and id(layer) not in described:
            described[id(layer)] = _layer_info(structure, position, names)
    for layer_id in _queries_and_keys(model):
        if layer_id in described:
            described[layer_id] = replace(described[layer_id], makes_scores=True)
    return described


def _queries_and_keys(model: Any) -> Iterator[int]:
    """Yield the `id` of each layer that an attention layer keeps as its query or its key.

    The calls do not show them in a model that cannot be traced, and in a subclass that
    computes its attention without operations of Keras.
    """
    for layer in model._flatten_layers():
        # The names of Keras' own attention layers, which other packages have taken over.
        for attribute in ("_query_dense", "_key_dense"):
            inner = getattr(layer, attribute, None)
            if isinstance(inner, layers.Layer):
                yield id(inner)


def unit_axes_of_kernels(model: Any, names: Names) -> dict[str, tuple[int, ...]]:
    """Return the axes that index the units of each kernel, by the name of the variable.

    Kernels without units of their own are left out.
    """
    axes = [(kernel.variable, _unit_axes_of_kernel(kernel)) for kernel in kernels(model)]
    return {names.of(variable): of_units for variable, of_units in axes if of_units}


def _layer_info(structure: Structure, position: int, names: Names) -> LayerInfo:
    layer, layer_kernels = structure.calls[position].operation, structure.kernels[position]
    activation = structure.first_activation(position)
    return LayerInfo(
        name=layer.name,
        kind=type(layer).__name__,
        kernels=tuple(_kernel_infos(layer, layer_kernels, activation, names)),
        activation=activation,
        hidden=structure.kernel_follows(position),
        branch=structure.branch(position),
        ends_branch=structure.ends_branch(position),
        normalized=structure.is_normalized(position),
        takes_raw_input=bool(layer_kernels) and structure.takes_raw_input(position),
        makes_scores=structure.only_scores(position),
        initializers=tuple(_initializers(layer)) if layer_kernels else (),
    )


def _initializers(layer: Any) -> Iterator[tuple[str, str]]:
    """Yield the arguments that initialize kernels, each with the name of its scheme."""
    owner = layer.forward_layer if isinstance(layer, layers.Bidirectional) else layer
    owner = getattr(owner, "cell", owner)
    for argument in INITIALIZER_ARGUMENTS:
        scheme = getattr(owner, argument, None)
        if scheme is not None:
            class_name = getattr(scheme, "__name__", type(scheme).__name__)
            yield argument, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()


def _kernel_infos(
    layer: Any, layer_kernels: list[Kernel], activation: str | None, names: Names
) -> Iterator[KernelInfo]:
    scheme = getattr(layer, "kernel_initializer", None)
    for kernel in layer_kernels:
        if kernel.variable.trainable:
            yield KernelInfo(
                name=names.of(kernel.variable),
                size=math.prod(kernel.variable.shape),
                role=_role(kernel),
                unit_axes=_unit_axes_of_kernel(kernel),
                variances=_variances(layer, kernel, activation),
                repeats_units=isinstance(scheme, Icnr | Bilinear),
            )


def _role(kernel: Kernel) -> str:
    if "embeddings" in kernel.name:
        return "embedding"
    if "recurrent_kernel" in kernel.name:
        return "recurrent"
    return "other" if kernel.use is None else "kernel"


def _unit_axes_of_kernel(kernel: Kernel) -> tuple[int, ...]:
    shape = kernel.variable.shape
    if kernel.use is None or _role(kernel) == "embedding" or len(shape) < 2:
        return ()
    axes = kernel_axes(shape, kernel.use)
    return (*axes.apart, *axes.outputs)


def _variances(layer: Any, kernel: Kernel, activation: str | None) -> tuple[float, float] | None:
    """Return the smallest and the largest gain**2 / fan that suit a kernel.

    The gain lies between 1 and that of the activation, or is that of its odd part for units in
    pairs, which share the variance. The fan is fan_in or fan_out. A recurrent kernel is square for
    each gate: its variance is 1 / units.
    """
    role, shape = _role(kernel), kernel.variable.shape
    if role == "recurrent":
        variance = 1 / max(shape[-2], 1)
        return variance, variance
    if role != "kernel" or isinstance(layer, layers.RNN | layers.Bidirectional):
        return None
    fans = theory.fans(shape, **vars(kernel.use))
    if min(fans) <= 0:
        return None
    smallest, largest = _squared_gains(activation)
    return smallest / max(fans), largest / min(fans)


# Cached because a gain is an integral, and a model has many kernels but few activations.
@functools.lru_cache(maxsize=64)
def _squared_gains(activation: str | None) -> tuple[float, float]:
    """Return the smallest and the largest squared gain that suit an activation."""
    gain = paired = 1.0
    if activation is not None:
        with contextlib.suppress(ValueError):
            gain = theory.gain(activation) ** 2
            paired = theory.gain(activation, "odd") ** 2 / 2
    return min(1.0, gain, paired), max(1.0, gain)
