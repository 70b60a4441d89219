"""What is measured of a layer's output and of a variable: in the graph, and read back."""

import functools
import inspect
from collections.abc import Callable, Sequence
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


def measure(plan: Plan, output: Output) -> tuple[Row, Any]:
    """One layer's numbers, unit by unit, as a float32 vector; `read` joins them.

    Args:
        plan: What to measure.
        output: Of what.
    """
    saturates = output.activation is not None and "saturated_share" in plan.statistics
    shape = output.values.shape
    units = shape[output.unit_axis] if len(shape) > 1 else 1
    row = Row(output.name, units, output.rectifier, saturates)
    activation = output.activation if saturates else None
    numbers = _numbers(plan, output.unit_axis, activation)
    tensors = [output.values, output.mask, output.z if saturates else None]
    return row, numbers(*(ops.stop_gradient(t) if ops.is_tensor(t) else t for t in tensors))


@functools.lru_cache(maxsize=256)
def _numbers(plan: Plan, unit_axis: int, activation: Any) -> Callable[[Any, Any, Any], Any]:
    """From values, mask and pre-activation to the vector; traced once for layers alike.

    Traced into every layer anew, a hundred layers would take half a minute to compile.
    """

    def vector(values: Any, mask: Any, z: Any) -> Any:
        values, counts = _flat(plan, values, mask, unit_axis)
        reduced = statistics.units(values, counts)
        flat = valid = ops.zeros((), "float32")
        if activation is not None:
            flat, valid = statistics.flat_counts(*_flat(plan, z, mask, unit_axis), activation)
        parts = [getattr(reduced, field.name) for field in fields(reduced)] + [flat, valid]
        if "quantiles" in plan.statistics:
            parts.append(statistics.quantiles(values, counts, tuple(QUANTILES.values())))
        if plan.bins:
            parts.append(statistics.histogram(values, counts))
        parts = [ops.reshape(ops.cast(part, "float32"), (-1,)) for part in parts]
        return ops.concatenate(parts)

    return _once_for_all(vector)


def _once_for_all(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, traced once for each shape; torch runs it as it is."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        noinline = {"_noinline": True}
        function = tf.function(function, autograph=False, experimental_attributes=noinline)
    if keras.backend.backend() == "jax":
        import jax

        function = jax.jit(function)
    return function


def _flat(plan: Plan, values: Any, mask: Any, unit_axis: int) -> tuple[Any, Any]:
    if plan.samples is not None:
        values = values[: plan.samples]
        mask = None if mask is None else mask[: plan.samples]
    return statistics.flatten(values, mask, unit_axis)


def measure_variable(
    plan: Plan, weight: Any, gradient: Any, update: Any, unit_axes: Sequence[int] = ()
) -> Any:
    """The numbers of `MEASURED`; NaN is what was not asked for, or has no gradient or units."""
    return _variable_numbers(plan, tuple(unit_axes))(weight, gradient, update)


@functools.lru_cache(maxsize=256)
def _variable_numbers(plan: Plan, unit_axes: tuple[int, ...]) -> Callable[[Any, Any, Any], Any]:
    def vector(weight: Any, gradient: Any, update: Any) -> Any:
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

    return _once_for_all(vector)


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
    loss = packed[:, 1].sum()
    places = _places(plan, layout.rows)
    values, counts = _layers(plan, layout.rows, places, packed)
    norms = packed[0, places.end :].reshape(len(layout.variables), len(MEASURED))
    # The model's inputs are kept apart from its layers.
    fed = sum(row.name.startswith(INPUT) for row in layout.rows)
    return Sample(
        step=step,
        layers=tuple(row.name for row in layout.rows[fed:]),
        statistics=plan.layer,
        values=values[fed:],
        variables=layout.variables,
        variable_statistics=plan.variable,
        variable_values=_variables(plan, norms),
        edges=statistics.EDGES if plan.bins else np.zeros(0),
        counts=counts[fed:],
        loss=float(loss),
        inputs=tuple(row.name.removeprefix(":") for row in layout.rows[:fed]),
        input_values=values[:fed],
    )


@dataclass(frozen=True)
class Places:
    """Where the numbers of all layers lie in the vector.

    `units`: for each field of `statistics.Units` but the last, of the units of all layers.
    `starts`: of each layer among these. `rest`: for each layer the places of `nonfinite`,
    of flat and of all pre-activations, of quantiles and of bins. `end`: of the layers.
    """

    units: tuple[Any, ...]
    starts: Any
    rest: Any
    end: int


@functools.lru_cache(maxsize=64)
def _places(plan: Plan, rows: tuple[Row, ...]) -> Places:
    quantiles = len(QUANTILES) if "quantiles" in plan.statistics else 0
    size = 3 + quantiles + plan.bins
    units, rest, at = [], [], 2
    for row in rows:
        units.append(at + np.arange(6 * row.units).reshape(6, row.units))
        at += 6 * row.units
        rest.append(at + np.arange(size))
        at += size
    joined = np.concatenate(units, axis=1) if units else np.zeros((6, 0), int)
    starts = np.cumsum([0, *(row.units for row in rows)])[:-1]
    return Places(tuple(joined), starts, np.array(rest, int).reshape(-1, size), at)


def _layers(plan: Plan, rows: Sequence[Row], places: Places, packed: Any) -> tuple[Any, Any]:
    """The statistics and the histogram of each layer, over all replicas."""
    columns = len(plan.layer)
    if not rows:
        return np.zeros((0, columns), np.float32), np.zeros((0, plan.bins), np.float32)
    rest = packed[:, places.rest]
    parts = [
        statistics.Units(*[*(vector[place] for place in places.units), own[:, 0]])
        for vector, own in zip(packed, rest, strict=True)
    ]
    joined = statistics.summary(parts, places.starts)
    alive = np.array([row.rectifier for row in rows])
    for name in ("dead_share", "dead_units"):
        joined[name] = np.where(alive, joined[name], np.nan)
    flat, valid = rest[:, :, 1].sum(axis=0), rest[:, :, 2].sum(axis=0)
    saturates = np.array([row.saturates for row in rows]) & (valid > 0)
    joined["saturated_share"] = np.where(saturates, flat / np.maximum(valid, 1), np.nan)
    cut = rest.shape[2] - plan.bins
    chosen = [joined[name] for name in LAYER if name in plan.statistics]
    # Each replica's own quantiles, averaged.
    values = np.column_stack([*chosen, rest[:, :, 3:cut].mean(axis=0)])
    return values.astype(np.float32), rest[:, :, cut:].sum(axis=0)


def _variables(plan: Plan, norms: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    columns = dict(zip(MEASURED, norms.T, strict=True))
    weight, update = columns["weight_norm"], columns["update_norm"]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["update_ratio"] = np.where((weight > 0) & (update > 0), update / weight, np.nan)
    chosen = [columns[name] for name in plan.variable]
    return np.array(chosen, np.float32).reshape(len(chosen), len(norms)).T
