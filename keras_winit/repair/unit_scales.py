"""Finds the units of a layer in its outputs, and scales the kernel of each unit."""

from typing import Any

import keras
import numpy as np

from keras_winit.initializers.placement import Array

layers = keras.layers
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


def unit_axes_of_outputs(layer: Any, rank: int) -> tuple[int, ...]:
    """Return the axes of a layer's outputs that index its units, for outputs of some rank."""
    if isinstance(layer, layers.EinsumDense):
        _, kernel, output = _letters(layer)
        ellipsis = output.find("0")
        return tuple(
            position - len(output) + rank if -1 < ellipsis < position else position
            for position, letter in enumerate(output)
            if letter in kernel
        )
    if getattr(layer, "data_format", None) == "channels_first":
        return (1,)
    return (rank - 1,)


def kernel_factors(layer: Any, factors: Array, shape: tuple[int, ...]) -> Array:
    """Arrange one factor for each unit so that they multiply the kernel of some shape.

    Args:
        layer: The layer. Of a separable convolution, the pointwise kernel is meant.
        factors: Factors, in the order of the outputs' unit axes.
        shape: Shape of the kernel.
    """
    if isinstance(layer, layers.EinsumDense):
        _, kernel, output = _letters(layer)
        of_units = [letter for letter in output if letter in kernel]
        sizes = [shape[kernel.index(letter)] for letter in of_units]
        order = sorted(range(len(of_units)), key=lambda i: kernel.index(of_units[i]))
        arranged = factors.reshape(sizes).transpose(order)
        return arranged.reshape(
            [s if k in of_units else 1 for k, s in zip(kernel, shape, strict=True)]
        )
    if isinstance(layer, TRANSPOSED):
        return factors.reshape(-1, 1)
    if isinstance(layer, DEPTHWISE):
        return factors.reshape(shape[-2:])
    return factors.reshape(-1)


def broadcast_bias(layer: Any, bias: Any, rank: int) -> Any:
    """Return a bias in a shape that broadcasts against the outputs of its layer."""
    if getattr(layer, "data_format", None) == "channels_first":
        return np.reshape(bias, (-1, *(1,) * (rank - 2)))
    return bias


def _letters(layer: Any) -> tuple[str, str, str]:
    operands, output = layer.equation.replace("...", "0").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return inputs, kernel, output
