"""What is measured of a layer's output and of a variable: in the graph, and read back."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit import statistics
from keras_winit.monitor.records import Sample

LAYER = (*statistics.SUMMARY[:-2], "saturated_share", *statistics.SUMMARY[-2:])
VARIABLE = (
    "weight_norm",
    "gradient_norm",
    "update_norm",
    "update_ratio",
    "gradient_nonfinite",
    "weight_repeated",
    "gradient_repeated",
)
CHEAP = (*LAYER, *VARIABLE)
ALL = (*CHEAP, "quantiles", "histogram")

# Of a variable, as `measure_variable` has them; the ratio follows.
MEASURED = ("weight_norm", "gradient_norm", "update_norm", *VARIABLE[4:])

# Sites of the model's own inputs, which are no layers.
INPUT = ":input"

# Of at least 512 entries, evenly spread over samples and units.
QUANTILES = {"q01": 0.01, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q99": 0.99}

RECTIFIERS = (keras.activations.relu, keras.activations.relu6)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        statistics: Names out of `ALL`.
        samples: Only the first of each batch. None: all.
    """

    statistics: tuple[str, ...]
    samples: int | None

    @property
    def layer(self) -> tuple[str, ...]:
        """The names of a layer's row."""
        quantiles = QUANTILES if "quantiles" in self.statistics else ()
        return (*(name for name in LAYER if name in self.statistics), *quantiles)

    @property
    def variable(self) -> tuple[str, ...]:
        """The names of a variable's row."""
        return tuple(name for name in VARIABLE if name in self.statistics)

    @property
    def bins(self) -> int:
        """Of the histogram; none if it was not asked for."""
        return len(statistics.EDGES) - 1 if "histogram" in self.statistics else 0


@dataclass(frozen=True)
class Row:
    """Where a layer's numbers lie in the vector that leaves the device."""

    name: str
    units: int
    rectifier: bool
    saturates: bool


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
    axis = getattr(layer, "axis", None)
    if isinstance(layer, keras.layers.BatchNormalization) and isinstance(axis, int):
        return axis
    usual = keras.config.image_data_format() if rank > 3 else "channels_last"
    return 1 if rank > 2 and getattr(layer, "data_format", usual) == "channels_first" else -1


def rectifies(layer: Any) -> bool:
    """Whether units of this layer can be dead."""
    if isinstance(layer, keras.layers.ReLU):
        return not np.any(layer.negative_slope)
    return inspect.unwrap(getattr(layer, "activation", keras.activations.linear)) in RECTIFIERS


def measure(plan: Plan, output: Output, apart: bool) -> tuple[Row, Any]:
    """One layer's numbers, as a float32 vector.

    Args:
        plan: What to measure.
        output: Of what.
        apart: Whether to leave the units apart, for `read` to join them over replicas.
    """
    values, counts = _flat(plan, output, output.values)
    reduced = statistics.units(values, counts)
    nothing = ops.zeros((), "float32")
    flat, valid = nothing, nothing
    saturates = output.activation is not None and "saturated_share" in plan.statistics
    if saturates:
        z, where = _flat(plan, output, output.z)
        flat, valid = statistics.flat_counts(z, where, output.activation)
    row = Row(output.name, values.shape[-1], output.rectifier, saturates)
    parts = [getattr(reduced, field.name) for field in fields(reduced)] + [flat, valid]
    if not apart:
        joined = _summary(row, reduced, flat / valid)
        parts = [joined[name] for name in LAYER if name in plan.statistics]
    if "quantiles" in plan.statistics:
        parts.append(statistics.quantiles(values, counts, tuple(QUANTILES.values())))
    if plan.bins:
        parts.append(statistics.histogram(values, counts))
    parts = [ops.reshape(ops.cast(part, "float32"), (-1,)) for part in parts]
    return row, ops.concatenate(parts) if parts else ops.zeros((0,), "float32")


def _flat(plan: Plan, output: Output, values: Any) -> tuple[Any, Any]:
    mask = output.mask
    values = ops.stop_gradient(values)
    if plan.samples is not None:
        values = values[: plan.samples]
        mask = None if mask is None else mask[: plan.samples]
    return statistics.flatten(values, mask, output.unit_axis)


def _summary(row: Row, units: statistics.Units, saturated_share: Any) -> dict[str, Any]:
    joined = statistics.summary(units)
    absent = float("nan")
    if not row.rectifier:
        joined["dead_share"] = joined["dead_units"] = absent
    joined["saturated_share"] = saturated_share if row.saturates else absent
    return joined


def measure_variable(
    plan: Plan, weight: Any, gradient: Any, update: Any, unit_axes: Sequence[int] = ()
) -> Any:
    """The numbers of `MEASURED`; NaN is what was not asked for, or has no gradient or units."""
    absent = ops.full((), float("nan"), "float32")
    numbers = dict.fromkeys(MEASURED, absent)
    numbers["weight_norm"] = statistics.length(weight)
    numbers["update_norm"] = statistics.length(update)
    if unit_axes and "weight_repeated" in plan.statistics:
        numbers["weight_repeated"] = statistics.repeated_share(weight, unit_axes)
    if gradient is not None:
        gradient = ops.cast(gradient, "float32")
        numbers["gradient_norm"] = statistics.length(gradient)
        finite = ops.cast(ops.isfinite(gradient), "float32")
        numbers["gradient_nonfinite"] = ops.sum(1.0 - finite)
        if unit_axes and "gradient_repeated" in plan.statistics:
            numbers["gradient_repeated"] = statistics.repeated_share(gradient, unit_axes)
    return ops.stack(list(numbers.values()))


@dataclass(frozen=True)
class Layout:
    """What one traced step puts into its vector: loss, rows of layers, of variables."""

    rows: tuple[Row, ...]
    variables: tuple[str, ...]


def pack(number: int, loss: Any, layers: Sequence[Any], variables: Sequence[Any]) -> Any:
    """Everything that was measured in a step as one vector, to leave the device at once.

    Args:
        number: Of the layout, to find it again.
        loss: A scalar, or None.
        layers: A vector each.
        variables: Likewise.
    """
    head = [ops.full((1,), float(number), "float32")]
    loss = float("nan") if loss is None else ops.stop_gradient(loss)
    head.append(ops.reshape(ops.cast(loss, "float32"), (1,)))
    return ops.concatenate([*head, *layers, *variables])


def read(plan: Plan, layout: Layout, step: int, packed: npt.NDArray[np.float32]) -> Sample:
    """The sample out of what `pack` gave: a vector for each replica."""
    loss, at = packed[:, 1].sum(), 2
    replicas = len(packed)
    values, counts = [], []
    for row in layout.rows:
        size = _size(plan, row, replicas > 1)
        numbers, own = _read_row(plan, row, packed[:, at : at + size])
        values.append(numbers)
        counts.append(own)
        at += size
    norms = packed[0, at:].reshape(len(layout.variables), len(MEASURED))
    # The model's inputs are kept apart from its layers.
    fed = sum(row.name.startswith(INPUT) for row in layout.rows)
    fed_values, values, counts = values[:fed], values[fed:], counts[fed:]
    return Sample(
        step=step,
        layers=tuple(row.name for row in layout.rows[fed:]),
        statistics=plan.layer,
        values=np.array(values, np.float32).reshape(len(values), len(plan.layer)),
        variables=layout.variables,
        variable_statistics=plan.variable,
        variable_values=_variables(plan, norms),
        edges=statistics.EDGES if plan.bins else np.zeros(0),
        counts=np.array(counts, np.float32).reshape(len(counts), plan.bins),
        loss=float(loss),
        inputs=tuple(row.name.removeprefix(":") for row in layout.rows[:fed]),
        input_values=np.array(fed_values, np.float32).reshape(fed, len(plan.layer)),
    )


def _size(plan: Plan, row: Row, apart: bool) -> int:
    own = sum(name in plan.statistics for name in LAYER)
    quantiles = len(QUANTILES) if "quantiles" in plan.statistics else 0
    return quantiles + plan.bins + (6 * row.units + 3 if apart else own)


def _read_row(plan: Plan, row: Row, packed: Any) -> tuple[Any, Any]:
    cut = packed.shape[1] - plan.bins
    packed, counts = packed[:, :cut], packed[:, cut:].sum(axis=0)
    if len(packed) == 1:
        return packed[0], counts
    ends = np.cumsum([row.units] * 6 + [1, 1, 1])
    parts = [np.split(vector, ends) for vector in packed]
    units = statistics.merged([statistics.Units(*part[:7]) for part in parts])
    flat, valid = (sum(float(part[place][0]) for part in parts) for place in (7, 8))
    joined = _summary(row, units, flat / valid if valid else float("nan"))
    numbers = [float(joined[name]) for name in LAYER if name in plan.statistics]
    # Each replica's own quantiles, averaged.
    return [*numbers, *np.mean([part[9] for part in parts], axis=0)], counts


def _variables(plan: Plan, norms: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    columns = dict(zip(MEASURED, norms.T, strict=True))
    weight, update = columns["weight_norm"], columns["update_norm"]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["update_ratio"] = np.where((weight > 0) & (update > 0), update / weight, np.nan)
    chosen = [columns[name] for name in plan.variable]
    return np.array(chosen, np.float32).reshape(len(chosen), len(norms)).T
