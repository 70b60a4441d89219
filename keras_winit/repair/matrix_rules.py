"""The rules by which mean and variance pass through products of matrices and attention."""

import math

import keras
import numpy as np

from keras_winit.repair import signals
from keras_winit.repair.call_with_signals import OPEN_SIZE, CallWithSignals
from keras_winit.repair.signals import Signal


def contraction(call: CallWithSignals) -> Signal:
    """Return the sums of products, over the letters of an equation that the output lacks."""
    operation = call.operation
    if hasattr(operation, "subscripts"):
        inputs, output = operation.subscripts.replace("...", "").split("->")
        sizes: dict[str, int] = {}
        for letters, shape in zip(inputs.split(","), call.shapes, strict=True):
            tail = shape[len(shape) - len(letters) :]
            sizes.update({k: size or OPEN_SIZE for k, size in zip(letters, tail, strict=True)})
        count = math.prod(size for letter, size in sizes.items() if letter not in output)
    else:
        count = call.size(-1)
    if len(call.operands) == 1:
        return signals.averaged(call.input, count).scaled(count)
    return signals.contracted(call.operands[0], call.operands[1], count)


def dot_product_attention(call: CallWithSignals) -> Signal:
    """Return the outputs of the operation `keras.ops.dot_product_attention`."""
    query, key, value = call.operands[:3]
    length, _, dimension = (size or OPEN_SIZE for size in call.shapes[1][1:])
    scale = call.options.get("scale") or 1 / math.sqrt(dimension)
    scores = signals.contracted(query, key, dimension).scaled(float(scale))
    return _attended(scores, value, length, call.operation.is_causal)


def attention_layer(call: CallWithSignals) -> Signal:
    """Return the outputs of `keras.layers.Attention`."""
    layer, query, value = call.operation, call.operands[0], call.operands[1]
    key = call.operands[2] if len(call.operands) > 2 else value
    length, dimension = call.shapes[1][1] or OPEN_SIZE, call.size(-1)
    scores = signals.contracted(query, key, dimension)
    if layer.scale is not None:
        scores = scores.scaled(float(np.mean(keras.ops.convert_to_numpy(layer.scale))))
    causal = bool(call.options.get("use_causal_mask", False))
    return _attended(scores, value, length, causal)


def _attended(scores: Signal, values: Signal, length: int, causal: bool) -> Signal:
    if not causal:
        return signals.attended(scores, values, length)
    # Each position sees itself and those before it.
    counts = np.unique(np.linspace(1, length, min(length, 16)).round().astype(int))
    each = [signals.attended(scores, values, int(count)) for count in counts]
    return signals.mixture(each, [1 / len(each)] * len(each))
