"""The rules by which mean and variance pass through layers and operations without kernels.

`RULES` is the table. Entries at different positions of a tensor count as independent.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_winit.models.structure import activation_name
from keras_winit.repair import signals
from keras_winit.repair.matrix_rules import attention_layer, contraction, dot_product_attention
from keras_winit.repair.passage import Passage, entries
from keras_winit.repair.signals import Signal
from keras_winit.theory.activations import unwrap

layers = keras.layers
ACTIVATION_LAYERS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)

Rule = Callable[[Passage], Signal]


def passed(passage: Passage) -> Signal | None:
    """Return the signal after a call, or None if there is no rule for it.

    A subclass of a layer of Keras keeps its rule unless it has a `call` of its own.
    """
    kind: Any = type(passage.operation)
    for base in kind.__mro__:
        rule = RULES.get(base.__name__) if base.__module__.startswith("keras.") else None
        if rule is not None and kind.call is base.call:
            return rule(passage)
    if isinstance(passage.operation, layers.Layer):
        return _activation(passage) if isinstance(passage.operation, ACTIVATION_LAYERS) else None
    return _activation(passage) if activation_name(passage.operation) else None


def activate(signal: Signal, activation: Any, size: int) -> Signal:
    """Return the signal after the activation of a layer with outputs of some size."""
    if activation is None:
        return signal
    name, _ = unwrap(activation, {})
    if name in ("softmax", "log_softmax"):
        after = signals.softmax(signal, size)
        return signals.combined([after], np.log) if name == "log_softmax" else after
    return signals.activated(signal, activation)


def _unchanged(passage: Passage) -> Signal:
    return passage.input


def _activation(passage: Passage) -> Signal:
    operation = passage.operation
    function = operation if isinstance(operation, keras.layers.Layer) else operation.call
    name = activation_name(operation)
    if name in ("softmax", "log_softmax"):
        return _softmax(passage, name)
    return signals.activated(passage.input, function)


def _softmax(passage: Passage, name: str = "softmax") -> Signal:
    axis = getattr(passage.operation, "axis", -1)
    after = signals.softmax(passage.input, passage.size(axis if isinstance(axis, int) else -1))
    return signals.combined([after], np.log) if name == "log_softmax" else after


def _prelu(passage: Passage) -> Signal:
    slope = float(np.mean(keras.ops.convert_to_numpy(passage.operation.alpha)))
    return signals.activated(passage.input, lambda x: np.where(x > 0, x, slope * x))


def _dropout(passage: Passage) -> Signal:
    # This is dropout in training mode: kept entries are scaled so that the mean stays the same.
    share = 1 - passage.operation.rate
    return signals.kept(passage.input, share, 1 / share if share else 0.0)


def _stochastic_depth(passage: Passage) -> Signal:
    share = 1 - passage.operation.drop_path_rate
    return signals.kept(passage.input, share, 1 / share if share else 0.0)


def _noise(passage: Passage) -> Signal:
    signal, stddev = passage.input, passage.operation.stddev
    return signal.with_moments(signal.mean, signal.variance + stddev**2)


def _padding(passage: Passage) -> Signal:
    return signals.kept(passage.input, entries(passage.shapes[0]) / entries(passage.output_shape))


def _window(passage: Passage) -> int:
    return math.prod(passage.operation.pool_size)


def _concatenate(passage: Passage) -> Signal:
    sizes = np.array([entries(shape) for shape in passage.shapes], float)
    return signals.mixture(passage.operands, sizes / sizes.sum())


def _subtract(passage: Passage) -> Signal:
    first, second = passage.operands
    return signals.total([first, second.scaled(-1)])


def _mean_of_signals(passage: Passage) -> Signal:
    return signals.total(passage.operands).scaled(1 / len(passage.operands))


def _sum_of_entries(passage: Passage) -> Signal:
    return signals.averaged(passage.input, passage.merged).scaled(passage.merged)


def _rescaling(passage: Passage) -> Signal:
    scale, offset = (np.asarray(v) for v in (passage.operation.scale, passage.operation.offset))
    scaled = signals.product([passage.input, signals.constant(scale)])
    return signals.total([scaled, signals.constant(offset)])


def _normalized(passage: Passage) -> Signal:
    """Return the signal of mean 0 and variance 1, with the layer's own scale and shift."""
    variance = passage.input.variance
    share = variance / (variance + _epsilon(passage) or 1.0)
    return _with_weights(passage, passage.input.with_moments(0.0, share), "gamma", "beta")


def _fixed_normalization(passage: Passage) -> Signal:
    layer = passage.operation
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
    centered = signals.total([passage.input, signals.constant(-mean)])
    stddev = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return signals.product([centered, signals.constant(stddev if layer.invert else 1 / stddev)])


def _rms_normalized(passage: Passage) -> Signal:
    square = passage.input.second_moment
    factor = 1 / math.sqrt(square + _epsilon(passage) or 1.0)
    return _with_weights(passage, passage.input.scaled(factor), "scale")


def _epsilon(passage: Passage) -> float:
    return float(getattr(passage.operation, "epsilon", 0.0))


def _with_weights(passage: Passage, signal: Signal, scale: str, shift: str = "") -> Signal:
    factor, offset = (getattr(passage.operation, name or "-", None) for name in (scale, shift))
    if keras.backend.is_keras_tensor(factor) or isinstance(factor, bool):
        return signal
    if factor is not None:
        signal = signals.product([signal, _constant(factor)])
    return signal if offset is None else signals.total([signal, _constant(offset)])


def _unit_normalized(passage: Passage) -> Signal:
    axis = passage.operation.axis
    count = math.prod(passage.size(a) for a in ([axis] if isinstance(axis, int) else axis))
    return passage.input.scaled(1 / math.sqrt(count * passage.input.second_moment or 1.0))


def _constant(variable: Any) -> Signal:
    return signals.constant(keras.ops.convert_to_numpy(variable))


def _by_draws(function: Callable[..., Any]) -> Rule:
    return lambda passage: signals.combined(passage.operands, function)


def _clip(passage: Passage) -> Signal:
    low, high = passage.operation.x_min, passage.operation.x_max
    return signals.activated(passage.input, lambda x: np.clip(x, low, high))


def _power(passage: Passage) -> Signal:
    return signals.combined(passage.operands, lambda x, y: np.nan_to_num(np.power(x, y)))


def _each(rank_names: str, rule: Rule) -> dict[str, Rule]:
    """Return a rule for the layers of one, two and three dimensions."""
    return {f"{rank_names}{rank}D": rule for rank in (1, 2, 3)}


def _largest_in_window(passage: Passage) -> Signal:
    return signals.largest(passage.input, _window(passage))


def _mean_in_window(passage: Passage) -> Signal:
    return signals.averaged(passage.input, _window(passage))


def _largest_of_entries(passage: Passage) -> Signal:
    return signals.largest(passage.input, passage.merged)


def _mean_of_entries(passage: Passage) -> Signal:
    return signals.averaged(passage.input, passage.merged)


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
    "Add": lambda passage: signals.total(passage.operands),
    "Subtract": _subtract,
    "Average": _mean_of_signals,
    "Multiply": lambda passage: signals.product(passage.operands),
    **dict.fromkeys(("Concatenate", "Stack"), _concatenate),
    "Maximum": _by_draws(lambda *values: np.max(np.stack(values), axis=0)),
    "Minimum": _by_draws(lambda *values: np.min(np.stack(values), axis=0)),
    **dict.fromkeys(("Divide", "TrueDivide"), _by_draws(np.divide)),
    "Power": _power,
    # Functions of one entry that are no activations.
    "Clip": _clip,
    "Negative": lambda passage: passage.input.scaled(-1),
    "Square": lambda passage: signals.activated(passage.input, np.square),
    "Absolute": lambda passage: signals.activated(passage.input, np.abs),
    "Exp": lambda passage: signals.activated(passage.input, np.exp),
    "Sin": lambda passage: signals.activated(passage.input, np.sin),
    "Cos": lambda passage: signals.activated(passage.input, np.cos),
    "PReLU": _prelu,
    "Softmax": _softmax,
    # A layer of ConvNeXt in `keras.applications`.
    "LayerScale": lambda passage: _with_weights(passage, passage.input, "gamma"),
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
