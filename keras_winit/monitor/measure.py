"""What is measured of a layer's output and of a variable: in the graph, and read back."""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit import statistics
from keras_winit.monitor.records import Sample
from keras_winit.statistics.graph import as_floats, once_for_all

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

    @functools.cached_property
    def layer(self) -> tuple[str, ...]:
        """The names of a layer's row."""
        quantiles = QUANTILES if "quantiles" in self.statistics else ()
        return (*(name for name in LAYER if name in self.statistics), *quantiles)

    @functools.cached_property
    def of_layers(self) -> bool:
        """Whether there is anything to measure of layers."""
        return bool(self.layer or self.bins)

    @functools.cached_property
    def variable(self) -> tuple[str, ...]:
        """The names of a variable's row."""
        return tuple(name for name in VARIABLE if name in self.statistics)

    @functools.cached_property
    def bins(self) -> int:
        """Of the histogram; none if it was not asked for."""
        return len(statistics.EDGES) - 1 if "histogram" in self.statistics else 0


@dataclass(frozen=True)
class Row:
    """A layer's output in the vector that leaves the device.

    Args:
        name: Of the row.
        order: Its place in the order of execution.
        units: How many it has.
        rectifier: Whether a unit without positive output is dead.
        saturates: The activation, if it can be flat.
    """

    name: str
    order: int
    units: int
    rectifier: bool
    saturates: Any


@dataclass(frozen=True)
class Slot:
    """A variable there: whether it has a gradient, how many sums of units of it and of that."""

    name: str
    learns: bool
    weight_units: int
    gradient_units: int


@dataclass(frozen=True)
class Layout:
    """What one traced step puts into its vector: loss, rows of layers, of variables.

    `updates`: the variables of one call of the optimizer after the other.
    """

    plan: Plan
    rows: tuple[Row, ...]
    updates: tuple[tuple[Slot, ...], ...]

    @functools.cached_property
    def places(self) -> "Places":
        """Where they lie."""
        return _places(self)


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
    if isinstance(layer, keras.layers.Wrapper):
        return rectifies(layer.layer)
    if isinstance(layer, keras.layers.ReLU):
        return not np.any(layer.negative_slope)
    return inspect.unwrap(getattr(layer, "activation", keras.activations.linear)) in RECTIFIERS


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
    row = Row(output.name, order, values.shape[1], output.rectifier, saturates)
    return row, Measured(statistics.reduced(values, counts), flat, _spread(plan)(values, counts))


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
        weight: Before the update, float32.
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
            sums.append(statistics.unit_sums(weight, axes))
        if slot.gradient_units:
            sums.append(statistics.unit_sums(gradient, axes))
    gradients = [one.gradient for one in updates if one.gradient is not None]

    def measured() -> list[Any]:
        return [
            *(one.weight for one in updates),
            *(one.after - one.weight for one in updates),
            *gradients,
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


def read(layout: Layout, step: int, packed: npt.NDArray[np.float32]) -> Sample:
    """The sample out of what `pack` gave: a vector for each replica."""
    plan, places = layout.plan, layout.places
    values, counts = _layers(plan, places, packed)
    # The model's inputs are kept apart from its layers.
    fed = len(places.inputs)
    return Sample(
        step=step,
        layers=places.layers,
        statistics=plan.layer,
        values=values[fed:],
        variables=places.variables,
        variable_statistics=plan.variable,
        variable_values=_in_a_row(
            [_variables(plan, block, packed[0]) for block in places.blocks],
            np.zeros((0, len(plan.variable)), np.float32),
        ),
        edges=statistics.EDGES if plan.bins else np.zeros(0),
        counts=counts[fed:],
        loss=float(packed[:, 1].sum()),
        inputs=places.inputs,
        input_values=values[:fed],
    )


def _in_a_row(parts: list[Any], none: Any) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate([none, *parts])


@dataclass(frozen=True)
class Block:
    """Where the numbers of the V variables of one call of the optimizer lie in the vector.

    `start`: of all. `learns`: which variables have a gradient. `sums`: where the sums of
    units of each kernel and gradient start, and the last end; `owners`: the number of its
    variable, plus V for a gradient.
    """

    start: int
    learns: Any
    sums: Any
    owners: Any


@dataclass(frozen=True)
class Places:
    """Where the numbers of L layers and of variables lie in the vector.

    `inputs`, `layers` and `variables`: their names; `order`: of the layers, as they run.
    `starts`: of each layer among the `units` of all. `spread`: where quantiles and bins start,
    `end`: and end. `lively`: whether no unit of a layer can be dead; `saturates`: whether
    entries can be saturated.
    """

    inputs: tuple[str, ...]
    layers: tuple[str, ...]
    variables: tuple[str, ...]
    order: Any
    starts: Any
    units: int
    spread: int
    end: int
    lively: Any
    saturates: Any
    blocks: tuple[Block, ...]


def _places(layout: Layout) -> Places:
    plan, rows = layout.plan, layout.rows
    order = np.argsort([row.order for row in rows])
    names = [rows[place].name for place in order]
    fed = sum(name.startswith(INPUT) for name in names)
    starts = np.cumsum([0, *(row.units for row in rows)])
    saturates = np.array([row.saturates is not None for row in rows], bool)
    units = int(starts[-1])
    spread = 2 + 5 * units + 3 * len(rows) + 2 * int(saturates.sum())
    at = end = spread + len(rows) * _spread_size(plan)
    blocks = []
    for slots in layout.updates:
        blocks.append(_block(slots, at))
        at = blocks[-1].sums[-1]
    return Places(
        inputs=tuple(name.removeprefix(":") for name in names[:fed]),
        layers=tuple(names[fed:]),
        variables=tuple(slot.name for slots in layout.updates for slot in slots),
        order=order,
        starts=starts[:-1],
        units=units,
        spread=spread,
        end=end,
        lively=np.array([not row.rectifier for row in rows], bool),
        saturates=saturates,
        blocks=tuple(blocks),
    )


def _block(slots: tuple[Slot, ...], start: int) -> Block:
    learns = np.array([slot.learns for slot in slots], bool)
    sums, owners = [start + 2 * len(slots) + 2 * int(learns.sum())], []
    for number, slot in enumerate(slots):
        for owner, count in ((0, slot.weight_units), (len(slots), slot.gradient_units)):
            if count:
                sums.append(sums[-1] + count)
                owners.append(number + owner)
    return Block(start, learns, np.array(sums), np.array(owners, int))


def _spread_size(plan: Plan) -> int:
    return plan.bins + len(QUANTILES) * ("quantiles" in plan.statistics)


def _layers(plan: Plan, places: Places, packed: Any) -> tuple[Any, Any]:
    """The statistics and the histogram of each layer, over all replicas."""
    number, lots = len(places.order), len(packed)
    if not number:
        return np.zeros((0, len(plan.layer)), np.float32), np.zeros((0, plan.bins), np.float32)
    counted = 2 + 5 * places.units
    layers = counted + 3 * number
    numbers = packed[:, 2:layers].astype(np.float64)
    found = statistics.summary(
        statistics.Units(
            *numbers[:, : 5 * places.units].reshape(lots, 5, -1).swapaxes(0, 1),
            *numbers[:, 5 * places.units :].reshape(lots, 3, -1).swapaxes(0, 1),
        ),
        places.starts,
    )
    for name in ("dead_share", "dead_units"):
        found[name][places.lively] = np.nan
    found["saturated_share"] = np.full(number, np.nan)
    if places.saturates.any():
        flat, valid = packed[:, layers : places.spread].sum(axis=0).reshape(2, -1)
        with np.errstate(invalid="ignore"):
            found["saturated_share"][places.saturates] = flat / valid
    chosen = [found[name] for name in LAYER if name in plan.statistics]
    spread = packed[:, places.spread : places.end].reshape(lots, number, -1)
    cut = spread.shape[2] - plan.bins
    if cut:
        # Each replica's own quantiles, averaged.
        chosen += [*spread[:, :, :cut].mean(axis=0).T]
    values = np.array(chosen, np.float32).reshape(-1, number)
    return values[:, places.order].T, spread[:, :, cut:].sum(axis=0)[places.order]


def _variables(
    plan: Plan, block: Block, packed: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    number, first = len(block.learns), block.sums[0]
    weight, update = packed[block.start : block.start + 2 * number].reshape(2, -1)
    (gradient, nonfinite), shares = np.full((2, 2, number), np.nan, np.float32)
    of_gradients = packed[block.start + 2 * number : first].reshape(2, -1)
    gradient[block.learns], nonfinite[block.learns] = of_gradients
    if len(block.owners):
        norms = np.concatenate([weight, gradient])[block.owners]
        sums = packed[first : block.sums[-1]].copy()
        found = statistics.repeated_share(sums, block.sums[:-1] - first, norms)
        shares.flat[block.owners] = found
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((weight > 0) & (update > 0), update / weight, np.nan)
    columns = (weight, gradient, update, ratio, nonfinite, *shares)
    chosen = [c for name, c in zip(VARIABLE, columns, strict=True) if name in plan.statistics]
    return np.array(chosen, np.float32).reshape(len(chosen), number).T
