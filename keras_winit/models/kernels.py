"""Which layers hold kernels, and what they do with them."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_winit import theory
from keras_winit.initializers import Scheme
from keras_winit.initializers.bias import FanInBias
from keras_winit.initializers.kernels import bound_to
from keras_winit.initializers.recurrent import Chrono, ForgetBias
from keras_winit.theory.fans import Use

layers = keras.layers
CONV_LSTM = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)

# The uses of the weights of a layer by their names; None for one that no `Use` describes.
Uses = dict[str, Use | None]


def fans(layer: Any) -> dict[str, tuple[float, float] | None]:
    """The true `(fan_in, fan_out)` of each kernel of a layer or a model.

    A kernel with Var[w] = 1 / fan_in gives outputs of variance 1 for inputs from N(0, 1);
    one with 1 / fan_out does so for gradients. Groups, strides, gates, the channels of a
    depthwise and the sides of a transposed kernel are counted as the layer uses them.
    Padding, which leaves out terms at the border, is not.

    Args:
        layer: Built. Of any kind; a model, or a layer made of layers, gives the kernels
            of all of them.

    Returns:
        By the name of the kernel, such as `"kernel"` or `"query/kernel"`: two counts, or
        None for a weight of two axes or more in a layer that is not known, which includes
        a subclass with a `call` of its own. Integers where they are whole.

    Raises:
        ValueError: If the layer is not built.

    Example:
        >>> layer = keras.layers.Conv2D(64, 3, strides=2, groups=4)
        >>> layer.build((None, 32, 32, 16))
        >>> fans(layer)
        {'kernel': (36, 36)}
    """
    if not layer.built:
        raise ValueError(
            f"`fans` needs a built layer. Received: {layer.name!r}, not built. Call it on data, "
            f"or `layer.build(input_shape)`."
        )
    found: dict[str, tuple[float, float] | None] = {}
    for name, variable, use in kernels(layer):
        taken, unique = 1, name
        while unique in found:
            taken, unique = taken + 1, f"{name}@{taken + 1}"
        found[unique] = None if use is None else theory.fans(variable.shape, **vars(use))
    return found


def for_layer(initializer: Any, layer: Any, weight: str | None = None) -> Any:
    """An initializer that knows what the layer does with the weight.

    Keras tells an initializer the shape of a weight and no more, so that a depthwise,
    grouped, strided, transposed or gated kernel gets a variance that is off, by the
    number of channels in the first case. This one has the layer's true fans, in whatever
    form the layer later saves and loads it:

        layer = keras.layers.DepthwiseConv2D(3)
        layer.depthwise_initializer = keras_winit.for_layer("winit>he_normal", layer)

    Args:
        initializer: A name, a config, a class or an instance. A name draws with a seed of
            its own; an instance keeps its seed. What an instance says of axes, `kind`,
            `groups`, `gates` or `strides` itself is left as it is.
        layer: Built or not. Of those that hold others, recurrent layers, `Bidirectional`
            and `TimeDistributed`.
        weight: Which one, where a layer has several that it uses differently: the name
            of its attribute, such as "pointwise_kernel". A bias counts as its kernel.

    Returns:
        An initializer of the same class. The same one if there is nothing to know, as for
        a dense layer, or where Keras passes the axes by itself, as in attention layers.

    Raises:
        ValueError: If the layer is not known, `weight` is none of its weights or is
            needed, the scheme does not fit the layer, or needs a kernel that is not built.
        TypeError: If the initializer is not of this package and ignores what it ought to
            know.

    Example:
        >>> for_layer("winit>he_normal", keras.layers.DepthwiseConv2D(3, strides=2))
        HeNormal(kind='depthwise', strides=(2, 2))
    """
    found = keras.initializers.get(initializer)
    if isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention):
        return found
    holder = _holder(layer)
    name, use = _use_of(holder, layer, weight)
    kernel = _variable(holder, name) if holder.built else None
    if isinstance(found, ForgetBias | Chrono):
        _check_gates(found, use, holder, layer)
    bound = bound_to(found, use, None if kernel is None else tuple(kernel.shape))
    if isinstance(bound, FanInBias) and bound.fan_in is None:
        raise ValueError(
            f"`for_layer` reads the fan_in of a `FanInBias` from the kernel. Received: layer "
            f"{layer.name!r}, not built. Give the fan_in, `FanInBias(fan_in=...)`, or build the "
            f"layer first and assign the bias."
        )
    if not isinstance(found, Scheme) and bound is found and use != Use():
        raise TypeError(
            f"`for_layer` needs a scheme of this package to bind it to layer {layer.name!r}. "
            f"Received: initializer={initializer!r}. Use a name such as 'winit>he_normal'."
        )
    return bound


def kernels(layer: Any) -> Iterator[tuple[str, Any, Use | None]]:
    """The name, the variable and the use of each kernel of a built layer or model."""
    yield from _kernels(layer, "", set())


def _kernels(layer: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any, Use | None]]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    uses = uses_of(layer)
    if uses is not None:
        named = ((name, _variable(layer, name), use) for name, use in uses.items())
        yield from (
            (prefix + name, kernel, use) for name, kernel, use in named if kernel is not None
        )
        return
    children = list(layer._flatten_layers(include_self=False, recursive=False))
    theirs = {id(variable) for child in children for variable in child.variables}
    for variable in layer.trainable_variables:
        if id(variable) not in theirs and len(variable.shape) > 1:
            yield prefix + variable.name, variable, None
    transparent = isinstance(layer, layers.RNN | layers.TimeDistributed)
    for child in children:
        yield from _kernels(child, prefix if transparent else f"{prefix}{child.name}/", seen)


def uses_of(layer: Any) -> Uses | None:
    """What a single layer does with each of its kernels; None if that is not known."""
    for kind, rule in RULES.items():
        # A subclass that calls otherwise may do anything with its kernels.
        if isinstance(layer, kind) and type(layer).call is kind.call:
            return rule(layer)
    return None


def _variable(layer: Any, name: str) -> Any:
    owner = layer.cell if isinstance(layer, CONV_LSTM) else layer
    # `Dense.kernel` adds a low-rank update, `_kernel` is the variable.
    private = f"_{name}"
    return getattr(owner, private if hasattr(owner, private) else name, None)


def _holder(layer: Any) -> Any:
    """The layer or cell that has the weights."""
    if isinstance(layer, layers.Bidirectional):
        return _holder(layer.forward_layer)
    if isinstance(layer, layers.TimeDistributed):
        return _holder(layer.layer)
    if isinstance(layer, layers.RNN) and not isinstance(layer, CONV_LSTM):
        return layer.cell
    return layer


def _use_of(holder: Any, layer: Any, weight: str | None) -> tuple[str, Use]:
    """The name and the use of the kernel that is meant."""
    uses = uses_of(holder) or {}
    known = {name: use for name, use in uses.items() if use is not None}
    if not known:
        raise ValueError(
            f"`for_layer` does not know what layer {layer.name!r} of class "
            f"{type(layer).__name__} does with its weights. Give the scheme `input_axes` and "
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


def _check_gates(scheme: Any, use: Use, holder: Any, layer: Any) -> None:
    """Whether a layer lets a scheme make the bias of its gates."""
    if use.gates == 1:
        raise ValueError(
            f"`{type(scheme).__name__}` makes the bias of an LSTM or a GRU. Received: layer "
            f"{layer.name!r} of class {type(layer).__name__}. Use 'winit>constant'."
        )
    if getattr(holder, "unit_forget_bias", False):
        raise ValueError(
            f"`{type(scheme).__name__}` makes the whole bias of an LSTM, but layer {layer.name!r} "
            f"sets the forget gate itself. Received: unit_forget_bias=True. Give the layer "
            f"`unit_forget_bias=False`."
        )


def _einsum(layer: Any) -> Uses:
    """By its equation: a letter that the output lacks is summed over, one of all is apart."""
    sides = layer.equation.replace("...", "0").replace(" ", "")
    (inputs, weight), output = sides.split("->")[0].split(","), sides.split("->")[1]
    if set(inputs) - set(weight) - set(output):
        return {"kernel": None}  # Summed before the kernel: how many terms, it cannot tell.
    into = tuple(i for i, letter in enumerate(weight) if letter not in output)
    out_of = tuple(i for i, x in enumerate(weight) if x in output and x not in inputs)
    return {"kernel": Use(input_axes=into, output_axes=out_of)}


def _separable(layer: Any) -> Uses:
    depthwise = Use(kind="depthwise", strides=_strides(layer))
    return {"depthwise_kernel": depthwise, "pointwise_kernel": Use()}


def _conv_lstm(layer: Any) -> Uses:
    return {"kernel": Use(gates=4, strides=_strides(layer.cell)), "recurrent_kernel": Use(gates=4)}


def _strides(layer: Any) -> Any:
    return layer.strides if max(layer.strides) > 1 else 1


def _embedding(layer: Any) -> Uses:
    # A look-up adds up nothing; a head that shares the table feeds all of a row.
    return {"embeddings": Use(input_axes=(), output_axes=(1,))}


def _reversible(layer: Any) -> Uses:
    uses = _embedding(layer)
    return uses if layer.tie_weights else {**uses, "reverse_embeddings": Use()}


def _recurrent(gates: int) -> Callable[[Any], Uses]:
    use = Use(gates=gates)
    return lambda cell: {"kernel": use, "recurrent_kernel": use}


def _convolution(layer: Any) -> Uses:
    return {"kernel": Use(groups=layer.groups, strides=_strides(layer))}


def _depthwise(layer: Any) -> Uses:
    return {"kernel": Use(kind="depthwise", strides=_strides(layer))}


def _transposed(layer: Any) -> Uses:
    return {"kernel": Use(kind="transposed", strides=_strides(layer))}


RULES: dict[Any, Callable[[Any], Uses]] = {
    layers.Dense: lambda layer: {"kernel": Use()},
    layers.EinsumDense: _einsum,
    layers.Embedding: _embedding,
    layers.ReversibleEmbedding: _reversible,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    **dict.fromkeys(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed
    ),
    layers.SimpleRNNCell: _recurrent(1),
    layers.LSTMCell: _recurrent(4),
    layers.GRUCell: _recurrent(3),
    # Keras does not export the class of their cells.
    **dict.fromkeys(CONV_LSTM, _conv_lstm),
}
