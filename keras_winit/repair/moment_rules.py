"""The rules by which mean and variance pass through layers and operations without kernels.

`RULES` is the table. Entries at different positions of a tensor count as independent.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_winit.models.activations import ACTIVATION_LAYERS, activation_name
from keras_winit.repair import signals
from keras_winit.repair.call_with_signals import CallWithSignals, entries
from keras_winit.repair.matrix_rules import attention_layer, contraction, dot_product_attention
from keras_winit.repair.signals import Signal
from keras_winit.theory.activations import unwrap

layers = keras.layers

Rule = Callable[[CallWithSignals], Signal]


def passed(call: CallWithSignals) -> Signal | None:
    """Return the signal after a call, or None if there is no rule for it.

    A subclass of a layer of Keras keeps its rule unless it has a `call` of its own.
    """
    kind: Any = type(call.operation)
    for base in kind.__mro__:
        rule = RULES.get(base.__name__) if base.__module__.startswith("keras.") else None
        if rule is not None and kind.call is base.call:
            return rule(call)
    if isinstance(call.operation, layers.Layer):
        return _activation(call) if isinstance(call.operation, ACTIVATION_LAYERS) else None
    return _activation(call) if activation_name(call.operation) else None


def activate(signal: Signal, activation: Any, size: int) -> Signal:
    """Return the signal after the activation of a layer with outputs of some size."""
    if activation is None:
        return signal
    name, _ = unwrap(activation, {})
    if name in ("softmax", "log_softmax"):
        after = signals.softmax(signal, size)
        return signals.combined([after], np.log) if name == "log_softmax" else after
    return signals.activated(signal, activation)


def _unchanged(call: CallWithSignals) -> Signal:
    return call.input


def _activation(call: CallWithSignals) -> Signal:
    operation = call.operation
    function = operation if isinstance(operation, keras.layers.Layer) else operation.call
    name = activation_name(operation)
    if name in ("softmax", "log_softmax"):
        return _softmax(call, name)
    return signals.activated(call.input, function)


def _softmax(call: CallWithSignals, name: str = "softmax") -> Signal:
    axis = getattr(call.operation, "axis", -1)
    after = signals.softmax(call.input, call.size(axis if isinstance(axis, int) else -1))
    return signals.combined([after], np.log) if name == "log_softmax" else after


def _prelu(call: CallWithSignals) -> Signal:
    slope = float(np.mean(keras.ops.convert_to_numpy(call.operation.alpha)))
    return signals.activated(call.input, lambda x: np.where(x > 0, x, slope * x))


def _dropout(call: CallWithSignals) -> Signal:
    # This is dropout in training mode: kept entries are scaled so that the mean stays the same.
    share = 1 - call.operation.rate
    return signals.kept(call.input, share, 1 / share if share else 0.0)


def _stochastic_depth(call: CallWithSignals) -> Signal:
    share = 1 - call.operation.drop_path_rate
    return signals.kept(call.input, share, 1 / share if share else 0.0)


def _noise(call: CallWithSignals) -> Signal:
    signal, stddev = call.input, call.operation.stddev
    return signal.with_moments(signal.mean, signal.variance + stddev**2)


def _padding(call: CallWithSignals) -> Signal:
    return signals.kept(call.input, entries(call.shapes[0]) / entries(call.output_shape))


def _window(call: CallWithSignals) -> int:
    return math.prod(call.operation.pool_size)


def _concatenate(call: CallWithSignals) -> Signal:
    sizes = np.array([entries(shape) for shape in call.shapes], float)
    return signals.mixture(call.operands, sizes / sizes.sum())


def _subtract(call: CallWithSignals) -> Signal:
    first, second = call.operands
    return signals.total([first, second.scaled(-1)])


def _mean_of_signals(call: CallWithSignals) -> Signal:
    return signals.total(call.operands).scaled(1 / len(call.operands))


def _sum_of_entries(call: CallWithSignals) -> Signal:
    return signals.averaged(call.input, call.merged).scaled(call.merged)


def _rescaling(call: CallWithSignals) -> Signal:
    scale, offset = (np.asarray(v) for v in (call.operation.scale, call.operation.offset))
    scaled = signals.product([call.input, signals.constant(scale)])
    return signals.total([scaled, signals.constant(offset)])


def _normalized(call: CallWithSignals) -> Signal:
    """Return the signal of mean 0 and variance 1, with the layer's own scale and shift."""
    variance = call.input.variance
    share = variance / (variance + _epsilon(call) or 1.0)
    return _with_weights(call, call.input.with_moments(0.0, share), "gamma", "beta")


def _fixed_normalization(call: CallWithSignals) -> Signal:
    layer = call.operation
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
    centered = signals.total([call.input, signals.constant(-mean)])
    stddev = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return signals.product([centered, signals.constant(stddev if layer.invert else 1 / stddev)])


def _rms_normalized(call: CallWithSignals) -> Signal:
    square = call.input.second_moment
    factor = 1 / math.sqrt(square + _epsilon(call) or 1.0)
    return _with_weights(call, call.input.scaled(factor), "scale")


def _epsilon(call: CallWithSignals) -> float:
    return float(getattr(call.operation, "epsilon", 0.0))


def _with_weights(call: CallWithSignals, signal: Signal, scale: str, shift: str = "") -> Signal:
    factor, offset = (getattr(call.operation, name or "-", None) for name in (scale, shift))
    if keras.backend.is_keras_tensor(factor) or isinstance(factor, bool):
        return signal
    if factor is not None:
        signal = signals.product([signal, _constant(factor)])
    return signal if offset is None else signals.total([signal, _constant(offset)])


def _unit_normalized(call: CallWithSignals) -> Signal:
    axis = call.operation.axis
    count = math.prod(call.size(a) for a in ([axis] if isinstance(axis, int) else axis))
    return call.input.scaled(1 / math.sqrt(count * call.input.second_moment or 1.0))


def _constant(variable: Any) -> Signal:
    return signals.constant(keras.ops.convert_to_numpy(variable))


def _by_draws(function: Callable[..., Any]) -> Rule:
    return lambda call: signals.combined(call.operands, function)


def _clip(call: CallWithSignals) -> Signal:
    low, high = call.operation.x_min, call.operation.x_max
    return signals.activated(call.input, lambda x: np.clip(x, low, high))


def _power(call: CallWithSignals) -> Signal:
    return signals.combined(call.operands, lambda x, y: np.nan_to_num(np.power(x, y)))


def _each(rank_names: str, rule: Rule) -> dict[str, Rule]:
    """Return a rule for the layers of one, two and three dimensions."""
    return {f"{rank_names}{rank}D": rule for rank in (1, 2, 3)}


def _largest_in_window(call: CallWithSignals) -> Signal:
    return signals.largest(call.input, _window(call))


def _mean_in_window(call: CallWithSignals) -> Signal:
    return signals.averaged(call.input, _window(call))


def _largest_of_entries(call: CallWithSignals) -> Signal:
    return signals.largest(call.input, call.merged)


def _mean_of_entries(call: CallWithSignals) -> Signal:
    return signals.averaged(call.input, call.merged)


# Names of Keras' layers and operations that pass every entry on, or move it.
UNCHANGED = (
    *("Identity", "Flatten", "Reshape", "Permute", "RepeatVector", "Masking", "Cast"),
    *("ActivityRegularization", "AlphaDropout", "ConvertToTensor", "StopGradient", "Copy"),
    *("Cropping1D", "Cropping2D", "Cropping3D", "CenterCrop", "RandomCrop", "RandomFlip"),
    *("UpSampling1D", "UpSampling2D", "UpSampling3D", "RandomTranslation", "RandomRotation"),
    *("Transpose", "GetItem", "Squeeze", "ExpandDims", "Repeat", "Tile", "BroadcastTo"),
    *("Swapaxes", "Moveaxis", "Ravel", "DepthToSpace", "SpaceToDepth", "Rearrange"),
)
# Operations that pick or exchange entries: outputs are independent of the inputs' other entries.
PICKING = ("Split", "GetItem", "Slice", "Take", "Flip", "Roll")

RULES: dict[str, Rule] = {
    **dict.fromkeys((*UNCHANGED, *PICKING), _unchanged),
    # Entries that are dropped, added or mixed with noise, as in training.
    **dict.fromkeys(("Dropout", "GaussianDropout"), _dropout),
    **_each("SpatialDropout", _dropout),
    "GaussianNoise": _noise,
    **_each("ZeroPadding", _padding),
    "Pad": _padding,
    # Several entries become one.
    **_each("MaxPooling", _largest_in_window),
    **_each("AveragePooling", _mean_in_window),
    **_each("GlobalMaxPooling", _largest_of_entries),
    **_each("GlobalAveragePooling", _mean_of_entries),
    **_each("AdaptiveMaxPooling", _largest_of_entries),
    **_each("AdaptiveAveragePooling", _mean_of_entries),
    "Max": _largest_of_entries,
    "Mean": _mean_of_entries,
    "Sum": _sum_of_entries,
    # Several signals become one. Each name is that of a layer and of an operation.
    "Add": lambda call: signals.total(call.operands),
    "Subtract": _subtract,
    "Average": _mean_of_signals,
    "Multiply": lambda call: signals.product(call.operands),
    **dict.fromkeys(("Concatenate", "Stack"), _concatenate),
    "Maximum": _by_draws(lambda *values: np.max(np.stack(values), axis=0)),
    "Minimum": _by_draws(lambda *values: np.min(np.stack(values), axis=0)),
    **dict.fromkeys(("Divide", "TrueDivide"), _by_draws(np.divide)),
    "Power": _power,
    # Functions of one entry that are no activations.
    "Clip": _clip,
    "Negative": lambda call: call.input.scaled(-1),
    "Square": lambda call: signals.activated(call.input, np.square),
    "Absolute": lambda call: signals.activated(call.input, np.abs),
    "Exp": lambda call: signals.activated(call.input, np.exp),
    "Sin": lambda call: signals.activated(call.input, np.sin),
    "Cos": lambda call: signals.activated(call.input, np.cos),
    "PReLU": _prelu,
    "Softmax": _softmax,
    # A layer of ConvNeXt in `keras.applications`.
    "LayerScale": lambda call: _with_weights(call, call.input, "gamma"),
    "StochasticDepth": _stochastic_depth,
    # Normalizations.
    "Rescaling": _rescaling,
    **dict.fromkeys(
        ("BatchNormalization", "LayerNormalization", "GroupNormalization"), _normalized
    ),
    "Normalization": _fixed_normalization,
    "RMSNormalization": _rms_normalized,
    "UnitNormalization": _unit_normalized,
    # Products of matrices, and attention.
    **dict.fromkeys(("Einsum", "Matmul", "Dot"), contraction),
    "DotProductAttention": dot_product_attention,
    "Attention": attention_layer,
}
