"""Measures layer outputs and variables inside the training step and packs the results."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_winit import statistics
from keras_winit.monitor.capture.layout import RowSlot, VariableSlot
from keras_winit.monitor.capture.plan import QUANTILES, Plan
from keras_winit.statistics.graph import as_floats, float32, traced_once

# Layers whose units lie on the last axis, whatever the image data format.
LAST = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)
RECTIFIERS = (keras.activations.relu, keras.activations.relu6)


@dataclass(frozen=True)
class Output:
    """One output of a layer, or its pre-activation, as the step computed it.

    Args:
        name: Row name.
        values: Tensor.
        mask: Boolean tensor of the timesteps that count, or None.
        unit_axis: Axis of the units.
        rectifier: Whether a unit without positive entries is dead.
        activation: Function that made `values` of `z`, or None.
        z: Pre-activation, or None.
    """

    name: str
    values: Any
    mask: Any = None
    unit_axis: int = -1
    rectifier: bool = False
    activation: Any = None
    z: Any = None


def unit_axis_of_output(layer: Any, rank: int) -> int:
    """Return the axis of the units in a layer's output of this rank.

    The image data format of Keras decides for an image whose layer does not say.
    """
    if isinstance(layer, LAST):
        return -1
    axis = getattr(layer, "axis", None)
    if isinstance(layer, keras.layers.BatchNormalization) and isinstance(axis, int):
        return axis
    usual = keras.config.image_data_format() if rank > 3 else "channels_last"
    return 1 if rank > 2 and getattr(layer, "data_format", usual) == "channels_first" else -1


def rectifies(layer: Any) -> bool:
    """Return whether units of this layer can be dead."""
    if isinstance(layer, keras.layers.Wrapper):
        return rectifies(layer.layer)
    if isinstance(layer, keras.layers.ReLU):
        return not np.any(layer.negative_slope)
    activation: Any = getattr(layer, "activation", None)
    return any(inspect.unwrap(activation) is rectifier for rectifier in RECTIFIERS)


class MeasuredRow(NamedTuple):
    """Measurements of one row that need no other row; `pack` joins those of all rows."""

    units: Any
    flat: Any
    spread: Any


def measure(
    plan: Plan, output: Output, order: int, careful: bool = False
) -> tuple[RowSlot, MeasuredRow]:
    """Measure one row.

    Args:
        plan: Statistics to measure.
        output: Tensor to measure, and its properties.
        order: Place of the row in the order of execution.
        careful: Whether to take the careful measure, see `statistics.units`.
    """
    activation = output.activation if "saturated_share" in plan.statistics else None
    values, counts = _flattened(plan, output.values, output.mask, output.unit_axis)
    flat = None
    if activation is not None:
        z, z_counts = _flattened(plan, output.z, output.mask, output.unit_axis)
        flat = statistics.count_saturated(z, z_counts, activation)
    per_row = statistics.samples_per_row(output.values.shape, output.unit_axis)
    units = statistics.reduce_units(values, counts, per_row, careful)
    return (
        RowSlot(output.name, order, values.shape[1], output.rectifier, activation is not None),
        MeasuredRow(units, flat, _spread(plan)(values, counts)),
    )


@functools.lru_cache(maxsize=64)
def _spread(plan: Plan) -> Callable[[Any, Any], Any]:
    """Return the function that computes the quantiles and the histogram that a plan asks for."""
    quantiles, bins = "quantiles" in plan.statistics, plan.bins
    if not (quantiles or bins):
        return lambda values, counts: None

    def spread(values: Any, counts: Any) -> Any:
        parts = []
        if quantiles:
            parts.append(statistics.quantiles(values, counts, tuple(QUANTILES.values())))
        if bins:
            parts.append(statistics.histogram(values, counts))
        return ops.concatenate(parts)

    return traced_once(spread)


def _flattened(plan: Plan, values: Any, mask: Any, unit_axis: int) -> tuple[Any, Any]:
    values, mask = (ops.stop_gradient(t) if ops.is_tensor(t) else None for t in (values, mask))
    if plan.samples is not None:
        values = values[: plan.samples]
        mask = None if mask is None else mask[: plan.samples]
    return statistics.flatten(values, mask, unit_axis)


class Update(NamedTuple):
    """The update of one variable in one step.

    Args:
        name: Name of the variable.
        weight: Value before the update, float32 or float64.
        gradient: Gradient, of the same dtype. None if the variable gets none.
        after: Value after the update.
        unit_axes: Axes that tell its units apart. Empty if it has none.
    """

    name: str
    weight: Any
    gradient: Any
    after: Any
    unit_axes: Sequence[int] = ()


def joined_updates(earlier: Mapping[str, Update], later: Mapping[str, Update]) -> dict[str, Update]:
    """Return the updates of two optimizer calls as if one call had made both.

    The weight is that before the first call, the gradient the sum.
    """
    joined = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        gradients = [earlier[name].gradient, later[name].gradient]
        known = [gradient for gradient in gradients if gradient is not None]
        joined[name] = later[name]._replace(
            weight=earlier[name].weight, gradient=sum(known) if known else None
        )
    return joined


class MeasuredVariables(NamedTuple):
    """Measurements of the variables of one optimizer call.

    Args:
        slots: Order of the variables and the sizes of their parts of `vector`.
        vector: Float32 vector.
        sound: Whether the vector is exact, see `statistics.norms`.
    """

    slots: tuple[VariableSlot, ...]
    vector: Any
    sound: Any


def measure_variables(
    plan: Plan, updates: Sequence[Update], careful: bool = False
) -> MeasuredVariables:
    """Measure the variables that one call of the optimizer updated."""
    slots, sums = [], []
    of_weight, of_gradient = (
        name in plan.statistics for name in ("weight_repeated", "gradient_repeated")
    )
    for name, weight, gradient, _, axes in updates:
        units = math.prod(weight.shape[axis] for axis in axes) if axes else 0
        learns = gradient is not None
        slot = VariableSlot(name, learns, units * of_weight, units * (of_gradient and learns))
        slots.append(slot)
        if slot.weight_units:
            sums.append(statistics.unit_sums(float32(weight), axes))
        if slot.gradient_units:
            sums.append(statistics.unit_sums(float32(gradient), axes))
    gradients = [update.gradient for update in updates if update.gradient is not None]

    def tensors() -> list[Any]:
        return [
            *(float32(update.weight) for update in updates),
            *(float32(update.after - update.weight) for update in updates),
            *map(float32, gradients),
        ]

    lengths, nonfinite, sound = statistics.norms(tensors, careful)
    vector = ops.concatenate([lengths, nonfinite[2 * len(updates) :], *sums])
    return MeasuredVariables(tuple(slots), vector, sound)


def pack(
    number: int,
    loss: Any,
    rows: Sequence[MeasuredRow],
    variables: Sequence[MeasuredVariables],
) -> Any:
    """Return all measurements of a step as one vector, so that one read fetches them.

    The order is that of `Layout`.

    Args:
        number: Number of the layout, to find it again.
        loss: A scalar, or None.
        rows: Measurements of each row; those that `is_unjoined` come first.
        variables: Measurements of each optimizer call.
    """
    loss = float("nan") if loss is None else ops.stop_gradient(loss)
    parts: list[Any] = []
    sound = [measured.sound for measured in variables]
    if rows:
        units, units_sound = statistics.join_units([row.units for row in rows])
        parts += units
        sound.append(units_sound)
    flat = [row.flat for row in rows if row.flat is not None]
    parts += [as_floats(counts) for counts in zip(*flat, strict=True)]
    parts += [row.spread for row in rows if row.spread is not None]
    parts += [measured.vector for measured in variables]
    unsound = [flag for flag in sound if flag is not True]
    all_sound = ops.all(ops.stack(unsound)) if unsound else True
    return ops.concatenate([as_floats([float(number), loss, all_sound]), *parts])


def is_unjoined(measured: MeasuredRow) -> bool:
    """Return whether `join_units` has work to do for a row."""
    return isinstance(measured.units, statistics.Moments)
