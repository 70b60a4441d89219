"""Binds an initializer to the layer and the weight that it is for."""

from typing import Any

import keras

from keras_winit.initializers import Scheme
from keras_winit.initializers.arguments import find_initializer
from keras_winit.initializers.bias import FanInBias
from keras_winit.initializers.recurrent import Chrono, ForgetBias
from keras_winit.initializers.wrapping import bound_to
from keras_winit.models.kernels import CONV_LSTM, kernel_uses, kernel_variable
from keras_winit.theory.fans import Use

layers = keras.layers


def for_layer(initializer: Any, layer: Any, weight: str | None = None) -> Any:
    """Return the initializer, bound to the way in which a layer uses the weight.

    Keras passes an initializer only the shape of a weight. That is too little for a depthwise,
    grouped, strided, transposed or gated kernel: its variance comes out wrong, for a depthwise
    kernel by a factor of the number of channels. The returned initializer uses the layer's
    true fans, and keeps them when the layer is saved and loaded:

        layer = keras.layers.DepthwiseConv2D(3)
        layer.depthwise_initializer = keras_winit.for_layer("winit>he_normal", layer)

    Args:
        initializer: A name, a config, a class or an instance. A name gets a new seed; an
            instance keeps its seed. Axes, `kind`, `groups`, `gates` and `strides` that an
            instance already states are kept.
        layer: A layer, built or not. Of the layers that contain others, recurrent layers,
            `Bidirectional` and `TimeDistributed` are accepted.
        weight: The attribute name of the weight, such as "pointwise_kernel". Required only if
            the layer has several weights that it uses differently. For a bias the use of the
            kernel counts.

    Returns:
        An initializer of the same class. It is the same one if there is nothing to add: for a
        dense layer, and for attention layers, where Keras itself passes the axes.

    Raises:
        ValueError: If the class of the layer is not known; if `weight` is required or is none
            of the layer's weights; if the scheme does not fit the layer; or if it must read a
            kernel that is not built yet.
        TypeError: If the layer needs more than the shape, and the initializer is not of this
            package and cannot take it.

    Example:
        >>> for_layer("winit>he_normal", keras.layers.DepthwiseConv2D(3, strides=2))
        HeNormal(kind='depthwise', strides=(2, 2))
    """
    unbound = find_initializer(initializer)
    if isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention):
        return unbound
    owner = _weight_owner(layer)
    name, use = _choose_kernel(owner, layer, weight)
    kernel = kernel_variable(owner, name) if owner.built else None
    if isinstance(unbound, ForgetBias | Chrono):
        _require_gates(unbound, use, owner, layer)
    bound = bound_to(unbound, use, None if kernel is None else tuple(kernel.shape))
    if isinstance(bound, FanInBias) and bound.fan_in is None:
        raise ValueError(
            f"`for_layer` reads the fan_in of a `FanInBias` from the kernel. Received: layer "
            f"{layer.name!r}, not built. Give the fan_in, `FanInBias(fan_in=...)`, or build the "
            f"layer first and assign the bias."
        )
    if not isinstance(unbound, Scheme) and bound is unbound and use != Use():
        raise TypeError(
            f"`for_layer` needs a scheme of this package to bind it to layer {layer.name!r}. "
            f"Received: initializer={initializer!r}. Use a name such as 'winit>he_normal'."
        )
    return bound


def _weight_owner(layer: Any) -> Any:
    """Return the layer or cell that has the weights of a layer."""
    if isinstance(layer, layers.Bidirectional):
        return _weight_owner(layer.forward_layer)
    if isinstance(layer, layers.TimeDistributed):
        return _weight_owner(layer.layer)
    if isinstance(layer, layers.RNN) and not isinstance(layer, CONV_LSTM):
        return layer.cell
    return layer


def _choose_kernel(owner: Any, layer: Any, weight: str | None) -> tuple[str, Use]:
    """Return the name and the use of the kernel that `weight` names or implies."""
    uses = kernel_uses(owner) or {}
    known = {name: use for name, use in uses.items() if use is not None}
    if not known:
        raise ValueError(
            f"`for_layer` does not know how layer {layer.name!r} of class "
            f"{type(layer).__name__} uses its weights. Give the scheme `input_axes` and "
            f"`output_axes` yourself."
        )
    if weight in known:
        return weight, known[weight]
    first = next(iter(known))
    if weight in (None, "bias") and all(use == known[first] for use in known.values()):
        return first, known[first]
    names = ", ".join(repr(name) for name in known)
    raise ValueError(
        f"`for_layer(weight=...)` must be one of {names} for layer {layer.name!r}. "
        f"Received: weight={weight!r}."
    )


def _require_gates(scheme: Any, use: Use, owner: Any, layer: Any) -> None:
    """Raise an error unless a scheme for the bias of gates fits the layer."""
    if use.gates == 1:
        raise ValueError(
            f"`{type(scheme).__name__}` initializes the bias of an LSTM or a GRU. Received: layer "
            f"{layer.name!r} of class {type(layer).__name__}. Use 'winit>constant'."
        )
    if getattr(owner, "unit_forget_bias", False):
        raise ValueError(
            f"`{type(scheme).__name__}` initializes the whole bias of an LSTM, but layer "
            f"{layer.name!r} sets its forget gate itself. Received: unit_forget_bias=True. "
            f"Give the layer `unit_forget_bias=False`."
        )
