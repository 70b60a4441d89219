"""Computes the share of a convolution's window that lies on the map rather than in the padding."""

from typing import Any

import keras
import numpy as np

layers = keras.layers
CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D),
    *(layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D),
)


def valid_share(layer: Any, shape: tuple[int | None, ...]) -> float:
    """Return the mean share of the window that lies on the map, for inputs of some shape.

    It is 1 for layers without padding, and where the size of the map is not known.
    """
    if not isinstance(layer, CONVOLUTIONS) or layer.padding == "valid":
        return 1.0
    is_first = layer.data_format == "channels_first"
    sizes = shape[2:] if is_first else shape[1:-1]
    share = 1.0
    for size, window, stride, dilation in zip(
        sizes, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        if size is None:
            continue
        reach = (window - 1) * dilation
        count = -(-size // stride)
        padding = max((count - 1) * stride + reach + 1 - size, 0)
        before = reach if layer.padding == "causal" else padding // 2
        taps = np.arange(count)[:, None] * stride - before + np.arange(window) * dilation
        share *= float(np.mean((taps >= 0) & (taps < size)))
    return share
