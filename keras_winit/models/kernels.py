"""Lists the kernels of layers and models, how each layer uses its kernels, and their fans."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from keras_winit import theory
from keras_winit.theory.fans import Use

layers = keras.layers
CONV_LSTM = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)

# The use of each kernel of a layer, by attribute name; None where no `Use` describes it.
Uses = dict[str, Use | None]


class Kernel(NamedTuple):
    """A weight of two or more axes, with its name, its variable and how its layer uses it.

    `use` is None where that is not known.
    """

    name: str
    variable: Any
    use: Use | None


def fans(layer: Any) -> dict[str, tuple[float, float] | None]:
    """Return the true `(fan_in, fan_out)` of each kernel of a layer or a model.

    A kernel with Var[w] = 1 / fan_in turns inputs from N(0, 1) into outputs of variance 1; one
    with Var[w] = 1 / fan_out does the same for gradients. The fans follow from how the layer
    uses the kernel: its groups, strides and gates, and whether it is depthwise or transposed.
    Padding, which removes terms at the border, is not counted.

    Args:
        layer: A built layer of any kind, or a built model. Layers that contain layers give
            the kernels of all of them.

    Returns:
        A dictionary from the name of a kernel, such as `"kernel"` or `"query/kernel"`, to its
        two fans, as integers where they are whole. The fans are None for a weight of two or
        more axes in a layer whose use of it is not known, such as a subclass with its own
        `call`.

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
    result: dict[str, tuple[float, float] | None] = {}
    for name, variable, use in kernels(layer):
        count, unique = 1, name
        while unique in result:
            count, unique = count + 1, f"{name}@{count + 1}"
        result[unique] = None if use is None else theory.fans(variable.shape, **vars(use))
    return result


def kernels(layer: Any) -> Iterator[Kernel]:
    """Yield the kernels of a built layer or model, each layer's once."""
    yield from _kernels(layer, "", set())


def _kernels(layer: Any, prefix: str, seen: set[int]) -> Iterator[Kernel]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    uses = kernel_uses(layer)
    if uses is not None:
        for name, use in uses.items():
            variable = kernel_variable(layer, name)
            if variable is not None:
                yield Kernel(prefix + name, variable, use)
        return
    inner_layers = list(layer._flatten_layers(include_self=False, recursive=False))
    inner_variables = {id(variable) for inner in inner_layers for variable in inner.variables}
    for variable in layer.trainable_variables:
        if id(variable) not in inner_variables and len(variable.shape) > 1:
            yield Kernel(prefix + variable.name, variable, None)
    # The names of kernels leave out a layer that only wraps another one.
    is_wrapper = isinstance(layer, layers.RNN | layers.TimeDistributed)
    for inner in inner_layers:
        yield from _kernels(inner, prefix if is_wrapper else f"{prefix}{inner.name}/", seen)


def kernel_uses(layer: Any) -> Uses | None:
    """Return how a layer uses each of its own kernels, or None if its class is not known."""
    for kind, uses_of_layer in USES.items():
        # A subclass with its own `call` may do anything with its kernels.
        if isinstance(layer, kind) and type(layer).call is kind.call:
            return uses_of_layer(layer)
    return None


def kernel_variable(layer: Any, name: str) -> Any:
    """Return the variable behind the kernel attribute of a layer, or None if there is none."""
    owner = layer.cell if isinstance(layer, CONV_LSTM) else layer
    # With LoRA, `Dense.kernel` is a tensor, the sum of `_kernel` and the low-rank update.
    private = f"_{name}"
    return getattr(owner, private if hasattr(owner, private) else name, None)


def _einsum(layer: Any) -> Uses:
    """Read the axes of the kernel from the equation, such as `abc,cd->abd`.

    A letter of the kernel that the output lacks is summed over: an input axis. A letter that
    the output shares with the inputs separates independent kernels.
    """
    operands, output = layer.equation.replace("...", "0").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    if set(inputs) - set(kernel) - set(output):
        # The inputs are summed before the kernel applies, over a size that is not known here.
        return {"kernel": None}
    input_axes = tuple(i for i, letter in enumerate(kernel) if letter not in output)
    output_axes = tuple(
        i for i, letter in enumerate(kernel) if letter in output and letter not in inputs
    )
    return {"kernel": Use(input_axes=input_axes, output_axes=output_axes)}


def _separable(layer: Any) -> Uses:
    depthwise = Use(kind="depthwise", strides=_strides(layer))
    return {"depthwise_kernel": depthwise, "pointwise_kernel": Use()}


def _conv_lstm(layer: Any) -> Uses:
    return {"kernel": Use(gates=4, strides=_strides(layer.cell)), "recurrent_kernel": Use(gates=4)}


def _strides(layer: Any) -> Any:
    return layer.strides if max(layer.strides) > 1 else 1


def _embedding(layer: Any) -> Uses:
    # A look-up sums nothing, so the fan_in is 1. An output layer that shares the table sends
    # gradients back through all entries of a row, so the fan_out is the length of a row.
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


USES: dict[Any, Callable[[Any], Uses]] = {
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
