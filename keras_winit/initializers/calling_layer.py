"""Finds the layer that asks an initializer for a weight, and how that layer uses the weight.

Keras passes an initializer the shape and the dtype of a weight only. That is enough for schemes
with one scale for all entries, but an identity at the wrong place silences channels. Only the call
stack shows which layer calls.
"""

import sys
from collections.abc import Iterator
from typing import Any

import keras

from keras_winit.initializers.placement import Shape
from keras_winit.theory.fans import Use

# Names that layers of Keras give to kernels.
KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel")


def calling_layer() -> Any:
    """Return the layer whose weight is being made, or None."""
    variable = None
    for owner, function in _callers():
        if variable is None and isinstance(owner, keras.Variable):
            variable = owner
        elif variable is not None and hasattr(owner, "_flatten_layers"):
            if function == "add_weight":
                return owner
            # In a model that is built by its first call, Keras makes the weights of all layers
            # when the model has been traced.
            for layer in owner._flatten_layers():
                if any(own is variable for own in layer._trainable_variables):
                    return layer
    return None


def weight_name() -> str:
    """Return the name of the variable that is being made, or an empty string."""
    variables = (owner for owner, _ in _callers() if isinstance(owner, keras.Variable))
    return str(getattr(next(variables, None), "name", ""))


def _callers() -> Iterator[tuple[Any, str]]:
    """Yield the objects whose methods are running, from the innermost, and the methods' names."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_varnames[:1] == ("self",):
            yield frame.f_locals.get("self"), code.co_name
        frame = frame.f_back  # type: ignore[assignment]


def use_in_calling_layer(shape: Shape) -> Use | None:
    """Return how the calling layer uses its kernel, or None if that is not known.

    Layers are recognized by their attributes, so that subclasses of Keras' layers are as well.
    `EinsumDense` and attention layers pass the axes of their kernels themselves.
    """
    layer, name = calling_layer(), weight_name()
    if layer is None or name not in KERNELS:
        return None
    if hasattr(layer, "depthwise_initializer"):
        return Use() if name == "pointwise_kernel" else Use(kind="depthwise")
    if hasattr(layer, "output_padding"):
        return Use(kind="transposed")
    if hasattr(layer, "recurrent_initializer"):
        units = getattr(layer, "units", None) or getattr(layer, "filters", None)
        if not isinstance(units, int) or shape[-1] % units:
            return None
        return Use(gates=shape[-1] // units or 1)
    return Use(groups=getattr(layer, "groups", 1)) if hasattr(layer, "kernel_size") else None


def require_kernel(scheme: Any, shape: Shape, remedy: str) -> None:
    """Raise an error if the shape or the name of the weight shows that it is no kernel."""
    is_bias = len(shape) > 1 and weight_name() == "bias"
    if len(shape) < 2 or is_bias:
        received = "a bias of " if is_bias else ""
        raise ValueError(
            f"`{type(scheme).__name__}` needs a kernel of at least two axes. "
            f"Received: {received}shape={shape}. {remedy}"
        )


def require_convolution(scheme: Any, shape: Shape, layer_kind: str, remedy: str = "") -> None:
    """Raise an error unless the weight may be the kernel of a convolution."""
    requirement = f"`{type(scheme).__name__}` needs the kernel of {layer_kind}"
    end = f". {remedy}" if remedy else "."
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"{requirement}, of three to five axes. Received: shape={shape}{end}")
    axes = getattr(scheme, "input_axes", None), getattr(scheme, "output_axes", None)
    layer = calling_layer()
    if axes != (None, None):
        received = f"input_axes={axes[0]}, output_axes={axes[1]}, shape={shape}"
    elif hasattr(layer, "equation"):
        received = f"layer {layer.name!r} of class {type(layer).__name__}, shape={shape}"
    else:
        return
    raise ValueError(
        f"{requirement}, whose axes follow from its shape. `EinsumDense` and attention layers "
        f"state the axes of their kernels. Received: {received}{end}"
    )


def require_known_use(scheme: Any, shape: Shape, use: Use | None) -> None:
    """Raise an error if a kernel may be depthwise or not, and nothing shows which."""
    if use is None and len(shape) > 2 and shape[-1] == 1 < shape[-2]:
        raise ValueError(
            f"`{type(scheme).__name__}` cannot tell from a shape whether a kernel belongs to a "
            f"depthwise convolution or to a convolution with one filter. Received: "
            f"shape={shape}. Bind the scheme to a depthwise layer with `for_layer`; a layer of "
            f"Keras also tells by itself."
        )
