"""Predicts the signal of each layer by mean-field theory, from the kernels and the inputs.

The walk goes along the calls of a model as far as each takes one input and is a kernel, an
elementwise activation, or a layer that keeps the values. Of a kernel only its mean square and
its true fan_in count, as in wide layers; of an activation its exact moments.

Source: that of `keras_winit.theory.mean_field`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_winit import theory
from keras_winit.models.activations import sole_activation
from keras_winit.models.graph import Call, Trace, is_from_keras
from keras_winit.models.kernels import kernel_uses, kernel_variable
from keras_winit.models.names import Names
from keras_winit.models.output_ends import KEEPING_VALUES
from keras_winit.models.valid_taps import valid_share
from keras_winit.models.variable_values import float64_on_host
from keras_winit.monitor.row_names import row_name
from keras_winit.theory.activations import Activation, find_activation
from keras_winit.theory.maps import mean_squared_slope, pair_mean_by_series
from keras_winit.theory.quadrature import adaptive_quadrature

layers = keras.layers
nan = math.nan

# Layers whose whole effect is a product with one kernel, a bias and an activation.
PREDICTABLE = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)
# Operations, and layers of the same name, that change no value.
UNCHANGING = KEEPING_VALUES | {"ConvertToTensor"}
# Layers that change nothing outside of training.
TRAINING_ONLY = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.GaussianNoise,
)

# A kernel is taken for random with mean zero if the square of its mean, times fan_in, is at most
# this share of its mean square: the entries then add up like independent ones. A mean of at most
# so many standard errors is chance.
MOST_MEAN, MOST_ERRORS = 0.5, 5.0
# It is not random either, but mirrored or centered, if the weights of each unit cancel: the mean
# square of their sums is below this share of what independent weights give. With this many units
# or more, that is no chance.
LEAST_SUM, LEAST_UNITS = 0.01, 8


@dataclass(frozen=True)
class Prediction:
    """The prediction of theory for one row; NaN where it makes none.

    Args:
        stddev: Standard deviation of all entries.
        unit_stddev: Standard deviation of a unit over the samples.
        cosine: Cosine between the outputs for two samples.
        gradient: Root mean square of the gradient of an entry.
    """

    stddev: float = nan
    unit_stddev: float = nan
    cosine: float = nan
    gradient: float = nan


@dataclass(frozen=True)
class SignalMoments:
    """Moments of a signal, and what the gradient meets on its way back through the last call.

    Args:
        mean: Mean of the entries.
        square: Mean square of the entries.
        cosine: Mean cosine between two samples.
        normal: Whether the entries are normal with mean zero.
        slope: Mean squared slope of the activation of this call, 1 without.
        shape: Shape of the signal, None for sizes that vary.
        growth: Factor from the squared gradient of this call's pre-activation to that of an
            entry that the call takes. None if it takes no kernel: it is 1.
    """

    mean: float
    square: float
    cosine: float
    normal: bool
    shape: tuple[int | None, ...] = ()
    slope: float = 1.0
    growth: float | None = None

    @property
    def prediction(self) -> Prediction:
        """The prediction of its row, without the gradient."""
        return Prediction(
            stddev=math.sqrt(max(self.square - self.mean**2, 0.0)),
            unit_stddev=math.sqrt(max(self.square * (1 - self.cosine), 0.0)),
            cosine=self.cosine,
        )


def predict(
    trace: Trace | None, names: Names, start: SignalMoments | None, training: bool
) -> dict[str, Prediction]:
    """Return predictions by row name, for the layers that theory covers.

    Args:
        trace: The calls of the model. None if it could not be traced.
        names: Names of its layers.
        start: Moments of its input. None if it has several inputs, or none of floats.
        training: Whether it runs in training mode.
    """
    if trace is None or start is None:
        return {}
    calls, signals = trace.calls, _signals(trace.calls, start, training)
    gradients = _gradients(trace, signals)
    predictions: dict[str, Prediction] = {}
    counts: dict[str, int] = {}
    for position, call in enumerate(calls):
        if not isinstance(call.operation, layers.Layer):
            continue
        name = names.of(call.operation)
        counts[name] = counts.get(name, 0) + 1
        signal = signals[position]
        if signal is not None:
            predictions[row_name(name, call=counts[name])] = replace(
                signal.prediction, gradient=gradients.get(position, nan)
            )
    return predictions


def _signals(
    calls: Sequence[Call], start: SignalMoments, training: bool
) -> list[SignalMoments | None]:
    signals: list[SignalMoments | None] = []
    for call in calls:
        before = None
        if call.takes_model_input and not call.inputs and len(call.arguments) == 1:
            before = start
        elif len(call.inputs) == 1 and not call.takes_model_input:
            before = signals[call.inputs[0]]
        try:
            after = None if before is None else _after(call, before, training)
            signals.append(None if after is None else replace(after, shape=call.shape))
        except (ValueError, TypeError):
            # The activation does not act on each entry by itself, or has no second moment.
            signals.append(None)
    return signals


def _after(call: Call, before: SignalMoments, training: bool) -> SignalMoments | None:
    """Return the signal after a call; None if theory does not cover it."""
    operation = call.operation
    if not is_from_keras(operation):
        return None
    kept = replace(before, slope=1.0, growth=None)
    if type(operation).__name__ in UNCHANGING:
        return kept
    if isinstance(operation, TRAINING_ONLY) and not (training and _rate(operation) > 0):
        return kept
    if isinstance(operation, PREDICTABLE):
        linear = _after_kernel(operation, before)
        return None if linear is None else _after_activation(operation.activation, linear)
    function = sole_activation(operation)
    return None if function is None else _after_activation(function, kept)


def _rate(layer: Any) -> float:
    return float(getattr(layer, "rate", getattr(layer, "stddev", 0.0)))


def _after_kernel(layer: Any, before: SignalMoments) -> SignalMoments | None:
    uses = kernel_uses(layer)
    if not uses or list(uses) != ["kernel"] or uses["kernel"] is None:
        return None
    values = float64_on_host(kernel_variable(layer, "kernel"))
    fan_in, fan_out = theory.fans(values.shape, **vars(uses["kernel"]))
    square = float(np.mean(values**2))
    mean_square = float(np.mean(values)) ** 2
    is_chance = mean_square * values.size <= MOST_ERRORS**2 * square
    if mean_square * fan_in > MOST_MEAN * square and not is_chance:
        return None
    units = values.reshape(-1, values.shape[-1])
    expected = square * len(units)
    if units.shape[1] >= LEAST_UNITS and np.mean(units.sum(axis=0) ** 2) < LEAST_SUM * expected:
        return None
    if getattr(layer, "padding", "valid") != "valid" and None in before.shape[1:]:
        return None
    share = valid_share(layer, before.shape)
    bias = float64_on_host(layer.bias) if getattr(layer, "bias", None) is not None else np.zeros(1)
    of_bias = float(np.mean(bias**2))
    of_signal = square * fan_in * share * before.square
    q = of_signal + of_bias
    cosine = (of_signal * before.cosine + of_bias) / q if q > 0 else before.cosine
    return SignalMoments(0.0, q, cosine, normal=True, growth=square * fan_out * share)


def _after_activation(function: Any, before: SignalMoments) -> SignalMoments | None:
    if function in (None, keras.activations.linear):
        return before
    if not before.normal:
        return None
    activation: Activation = find_activation("signal_report", function, {})
    quadrature = adaptive_quadrature(activation, before.square)
    square = quadrature.second_moment
    if not math.isfinite(square):
        return None
    cosine = min(max(before.cosine, -1.0), 1.0)
    pairs = pair_mean_by_series(quadrature, cosine, before.square)
    return SignalMoments(
        mean=quadrature.mean(quadrature.values),
        square=square,
        cosine=pairs / square if square > 0 else cosine,
        normal=False,
        slope=mean_squared_slope(quadrature),
        growth=before.growth,
    )


def _gradients(trace: Trace, signals: list[SignalMoments | None]) -> dict[int, float]:
    """Return the predicted gradient of each call of a plain chain, back from the output.

    Only the calls from which a single path without unknown calls leads to the only output have
    one.
    """
    calls = trace.calls
    if len(trace.outputs) != 1 or trace.outputs[0] is None:
        return {}
    users = [0] * len(calls)
    for call in calls:
        for source in call.inputs:
            users[source] += 1
    position, square = trace.outputs[0], 1.0
    gradients: dict[int, float] = {}
    while signals[position] is not None and users[position] <= (position != trace.outputs[0]):
        gradients[position] = math.sqrt(square)
        signal, call = signals[position], calls[position]
        assert signal is not None
        square *= signal.slope * (1.0 if signal.growth is None else signal.growth)
        if not call.inputs:
            break
        position = call.inputs[0]
    return gradients
