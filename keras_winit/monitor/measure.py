"""What is measured of a layer's output and of a variable: in the graph, and read back."""

import functools
import inspect
import math
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

# Of each variable, as `measure_variable` has them first; sums over units follow.
MEASURED = ("weight_norm", "update_norm", "gradient_norm", "gradient_nonfinite")

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
class Slot:
    """Where a variable's numbers lie there: how many sums of units of it and its gradient."""

    name: str
    weight_units: int
    gradient_units: int


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
        parts = [part if len(part.shape) else part[None] for part in parts]
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
    plan: Plan, name: str, weight: Any, gradient: Any, after: Any, unit_axes: Sequence[int] = ()
) -> tuple[Slot, Any]:
    """One variable's numbers, as a float32 vector.

    Args:
        plan: What to measure.
        name: Of the variable.
        weight: Before the update.
        gradient: None if it gets none.
        after: The weight after it.
        unit_axes: That tell its units apart. Empty: it has none.
    """
    units = math.prod(weight.shape[axis] for axis in unit_axes) if unit_axes else 0
    slot = Slot(
        name,
        units * ("weight_repeated" in plan.statistics),
        units * ("gradient_repeated" in plan.statistics and gradient is not None),
    )
    numbers = _variable_numbers(slot.weight_units > 0, slot.gradient_units > 0, tuple(unit_axes))
    return slot, numbers(weight, gradient, after)


@functools.lru_cache(maxsize=256)
def _variable_numbers(
    of_weight: bool, of_gradient: bool, unit_axes: tuple[int, ...]
) -> Callable[[Any, Any, Any], Any]:
    def vector(weight: Any, gradient: Any, after: Any) -> Any:
        if gradient is None:
            lengths, _ = statistics.norms(lambda: [weight, after - weight])
            parts = [lengths, ops.full((2,), float("nan"), "float32")]
        else:
            lengths, nonfinite = statistics.norms(lambda: [weight, after - weight, gradient])
            parts = [lengths, nonfinite[2:]]
        if of_weight:
            parts.append(statistics.unit_sums(weight, unit_axes))
        if of_gradient:
            parts.append(statistics.unit_sums(gradient, unit_axes))
        return ops.concatenate(parts)

    return _once_for_all(vector)


@dataclass(frozen=True)
class Layout:
    """What one traced step puts into its vector: loss, rows of layers, of variables."""

    rows: tuple[Row, ...]
    variables: tuple[Slot, ...]


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
    values, counts = _layers(plan, places, packed)
    # The model's inputs are kept apart from its layers.
    fed = sum(row.name.startswith(INPUT) for row in layout.rows)
    return Sample(
        step=step,
        layers=tuple(row.name for row in layout.rows[fed:]),
        statistics=plan.layer,
        values=values[fed:],
        variables=tuple(slot.name for slot in layout.variables),
        variable_statistics=plan.variable,
        variable_values=_variables(plan, layout.variables, packed[0, places.end :]),
        edges=statistics.EDGES if plan.bins else np.zeros(0),
        counts=counts[fed:],
        loss=float(loss),
        inputs=tuple(row.name.removeprefix(":") for row in layout.rows[:fed]),
        input_values=values[:fed],
    )


@dataclass(frozen=True)
class Places:
    """Where the numbers of all L layers lie in the vector.

    `units`: for each layer, from where to where are the fields of `statistics.Units` but the
    last. `starts`: of each layer among the units of all. `rest`: for each layer the places of
    `nonfinite`, of flat and of all pre-activations, of quantiles and of bins. `end`: of the
    layers. `alive` and `saturates`: whether units can be dead, and saturated.
    """

    units: tuple[tuple[int, int], ...]
    starts: Any
    rest: Any
    end: int
    alive: Any
    saturates: Any


@functools.lru_cache(maxsize=64)
def _places(plan: Plan, rows: tuple[Row, ...]) -> Places:
    quantiles = len(QUANTILES) if "quantiles" in plan.statistics else 0
    size = 3 + quantiles + plan.bins
    units, rest, at = [], [], 2
    for row in rows:
        units.append((at, at + 6 * row.units))
        at += 6 * row.units
        rest.append(at + np.arange(size))
        at += size
    return Places(
        units=tuple(units),
        starts=np.cumsum([0, *(row.units for row in rows)])[:-1],
        rest=np.array(rest, int).reshape(-1, size),
        end=at,
        alive=np.array([row.rectifier for row in rows], bool),
        saturates=np.array([row.saturates for row in rows], bool),
    )


def _layers(plan: Plan, places: Places, packed: Any) -> tuple[Any, Any]:
    """The statistics and the histogram of each layer, over all replicas."""
    if not places.units:
        return np.zeros((0, len(plan.layer)), np.float32), np.zeros((0, plan.bins), np.float32)
    rest, lots = packed[:, places.rest], len(packed)
    fields = [packed[:, start:end].reshape(lots, 6, -1) for start, end in places.units]
    joined = np.concatenate(fields, axis=2, dtype=np.float64).swapaxes(0, 1)
    found = statistics.summary(statistics.Units(*[*joined, rest[:, :, 0]]), places.starts)
    for name in ("dead_share", "dead_units"):
        found[name] = np.where(places.alive, found[name], np.nan)
    flat, valid = rest[:, :, 1].sum(axis=0), rest[:, :, 2].sum(axis=0)
    saturates = places.saturates & (valid > 0)
    found["saturated_share"] = np.where(saturates, flat / np.maximum(valid, 1), np.nan)
    cut = rest.shape[2] - plan.bins
    chosen = [found[name] for name in LAYER if name in plan.statistics]
    # Each replica's own quantiles, averaged.
    values = np.array([*chosen, *rest[:, :, 3:cut].mean(axis=0).T], np.float32)
    return values.reshape(-1, len(rest[0])).T, rest[:, :, cut:].sum(axis=0)


def _variables(
    plan: Plan, slots: tuple[Slot, ...], packed: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    places = _slots(slots)
    columns = dict(zip(MEASURED, packed[places.measured].T, strict=True))
    weight, update = columns["weight_norm"], columns["update_norm"]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["update_ratio"] = np.where((weight > 0) & (update > 0), update / weight, np.nan)
    shares = np.full((2, len(slots)), np.nan, np.float32)
    if len(places.starts):
        norms = np.concatenate([weight, columns["gradient_norm"]])[places.owners]
        shares.flat[places.owners] = statistics.repeated_share(
            packed[places.sums], places.starts, norms
        )
    columns["weight_repeated"], columns["gradient_repeated"] = shares
    chosen = [columns[name] for name in plan.variable]
    return np.array(chosen, np.float32).reshape(len(chosen), len(slots)).T


@dataclass(frozen=True)
class SlotPlaces:
    """Where the numbers of all V variables lie behind those of the layers.

    `measured`: of each. `sums`: those of units, of one kernel or gradient after the other;
    `starts`: of each of these; `owners`: the number of its variable, plus V for a gradient.
    """

    measured: Any
    sums: Any
    starts: Any
    owners: Any


@functools.lru_cache(maxsize=64)
def _slots(slots: tuple[Slot, ...]) -> SlotPlaces:
    measured, sums, owners, at = [], [], [], 0
    for number, slot in enumerate(slots):
        measured.append(at + np.arange(len(MEASURED)))
        at += len(MEASURED)
        for owner, units in ((0, slot.weight_units), (len(slots), slot.gradient_units)):
            if units:
                sums.append(at + np.arange(units))
                owners.append(number + owner)
            at += units
    return SlotPlaces(
        measured=np.array(measured, int).reshape(-1, len(MEASURED)),
        sums=np.concatenate(sums) if sums else np.zeros(0, int),
        starts=np.cumsum([0, *map(len, sums)])[:-1],
        owners=np.array(owners, int),
    )
