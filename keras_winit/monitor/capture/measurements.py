"""What is measured of a layer's output and of a variable, in the graph."""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_winit import statistics
from keras_winit.monitor.capture.layout import Layout, Row, Slot
from keras_winit.monitor.capture.plan import QUANTILES, Plan
from keras_winit.statistics.graph import as_floats, float32, once_for_all

# Whose units lie last whatever the setting for images.
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
    """A layer's output, or its pre-activation, as the tap saw it.

    Args:
        name: Of the row.
        values: The tensor.
        mask: Which timesteps count, or None.
        unit_axis: Where the units lie.
        rectifier: Whether a unit without positive output is dead.
        activation: That made `values` of `z`, or None.
        z: The pre-activation, or None.
    """

    name: str
    values: Any
    mask: Any = None
    unit_axis: int = -1
    rectifier: bool = False
    activation: Any = None
    z: Any = None


def unit_axis(layer: Any, rank: int) -> int:
    """Where a layer's output has its units.

    A layer that does not say is taken by Keras' own setting, if it gives images.
    """
    if isinstance(layer, LAST):
        return -1
    axis = getattr(layer, "axis", None)
    if isinstance(layer, keras.layers.BatchNormalization) and isinstance(axis, int):
        return axis
    usual = keras.config.image_data_format() if rank > 3 else "channels_last"
    return 1 if rank > 2 and getattr(layer, "data_format", usual) == "channels_first" else -1


def rectifies(layer: Any) -> bool:
    """Whether units of this layer can be dead."""
    if isinstance(layer, keras.layers.Wrapper):
        return rectifies(layer.layer)
    if isinstance(layer, keras.layers.ReLU):
        return not np.any(layer.negative_slope)
    activation: Any = getattr(layer, "activation", None)
    return any(inspect.unwrap(activation) is rectifier for rectifier in RECTIFIERS)


class Measured(NamedTuple):
    """What was measured of one layer's output where it came about, to be joined with others."""

    units: Any
    flat: Any
    spread: Any


def measure(plan: Plan, output: Output, order: int) -> tuple[Row, Measured]:
    """One layer's numbers, unit by unit, as far as they go without those of others.

    Args:
        plan: What to measure.
        output: Of what.
        order: Its place in the order of execution.
    """
    saturates = output.activation if "saturated_share" in plan.statistics else None
    values, counts = _flat(plan, output.values, output.mask, output.unit_axis)
    flat = None
    if saturates is not None:
        z = _flat(plan, output.z, output.mask, output.unit_axis)
        flat = statistics.flat(*z, saturates)
    beside = statistics.side_by_side(output.values.shape, output.unit_axis)
    return (
        Row(output.name, order, values.shape[1], output.rectifier, saturates is not None),
        Measured(statistics.reduced(values, counts, beside), flat, _spread(plan)(values, counts)),
    )


@functools.lru_cache(maxsize=64)
def _spread(plan: Plan) -> Callable[[Any, Any], Any]:
    """Quantiles and histogram, if asked for."""
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

    return once_for_all(spread)


def _flat(plan: Plan, values: Any, mask: Any, unit_axis: int) -> tuple[Any, Any]:
    values, mask = (ops.stop_gradient(t) if ops.is_tensor(t) else None for t in (values, mask))
    if plan.samples is not None:
        values = values[: plan.samples]
        mask = None if mask is None else mask[: plan.samples]
    return statistics.flatten(values, mask, unit_axis)


class Update(NamedTuple):
    """A variable in one step.

    Args:
        name: Of the variable.
        weight: Before the update, float32 or float64.
        gradient: Likewise. None if it gets none.
        after: The weight after it.
        unit_axes: That tell its units apart. Empty: it has none.
    """

    name: str
    weight: Any
    gradient: Any
    after: Any
    unit_axes: Sequence[int] = ()


def measure_variables(plan: Plan, updates: Sequence[Update]) -> tuple[tuple[Slot, ...], Any]:
    """The numbers of variables, as a float32 vector."""
    slots, sums = [], []
    of_weight, of_gradient = (
        name in plan.statistics for name in ("weight_repeated", "gradient_repeated")
    )
    for name, weight, gradient, _, axes in updates:
        units = math.prod(weight.shape[axis] for axis in axes) if axes else 0
        learns = gradient is not None
        slot = Slot(name, learns, units * of_weight, units * (of_gradient and learns))
        slots.append(slot)
        if slot.weight_units:
            sums.append(statistics.unit_sums(float32(weight), axes))
        if slot.gradient_units:
            sums.append(statistics.unit_sums(float32(gradient), axes))
    gradients = [one.gradient for one in updates if one.gradient is not None]

    def measured() -> list[Any]:
        return [
            *(float32(one.weight) for one in updates),
            *(float32(one.after - one.weight) for one in updates),
            *map(float32, gradients),
        ]

    lengths, nonfinite = statistics.norms(measured)
    return tuple(slots), ops.concatenate([lengths, nonfinite[2 * len(updates) :], *sums])


def pack(
    number: int, loss: Any, layout: Layout, seen: Sequence[Measured], updates: Sequence[Any]
) -> Any:
    """Everything that was measured in a step as one vector, to leave the device at once.

    Args:
        number: Of the layout, to find it again.
        loss: A scalar, or None.
        layout: The order of what follows.
        seen: Of each row, those first that are `unready`.
        updates: The vectors of their variables.
    """
    loss = float("nan") if loss is None else ops.stop_gradient(loss)
    parts = [ops.full((1,), float(number), "float32")]
    parts.append(ops.reshape(ops.cast(loss, "float32"), (1,)))
    if seen:
        parts += statistics.joined([one.units for one in seen])
    flat = [one.flat for one in seen if one.flat is not None]
    parts += [as_floats(numbers) for numbers in zip(*flat, strict=True)]
    parts += [one.spread for one in seen if one.spread is not None]
    return ops.concatenate([*parts, *updates])


def unready(seen: Measured) -> bool:
    """Whether its units are yet to be joined with those of others."""
    return isinstance(seen.units, statistics.Reduced)
