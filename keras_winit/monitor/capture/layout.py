"""Describes the packed vector of a step, and reads records out of it on the host."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit import statistics
from keras_winit.monitor.capture.plan import INPUT, LAYER, QUANTILES, TARGET, VARIABLE, Plan
from keras_winit.monitor.records import Record

# The vector begins with the number of the layout, the loss, and whether the rest is exact.
NUMBER, LOSS, SOUND, HEADER = range(4)


@dataclass(frozen=True)
class RowSlot:
    """One output of a layer, its pre-activation, or the model's data, in the packed vector.

    Args:
        name: Row name.
        order: Place of the row in the order of execution.
        units: Number of units.
        rectifier: Whether a unit without positive entries is dead.
        saturates: Whether entries can be saturated.
    """

    name: str
    order: int
    units: int
    rectifier: bool
    saturates: bool


@dataclass(frozen=True)
class VariableSlot:
    """One variable in the packed vector.

    Args:
        name: Name of the variable.
        learns: Whether it has a gradient.
        weight_units: Number of its units whose sums are there.
        gradient_units: The same for its gradient.
    """

    name: str
    learns: bool
    weight_units: int
    gradient_units: int


@dataclass(frozen=True)
class Layout:
    """The order of a packed vector.

    Args:
        plan: Statistics that were measured.
        rows: Outputs and pre-activations of layers.
        updates: Variables of one optimizer call after the other.
        loss: Whether the loss is known.
    """

    plan: Plan
    rows: tuple[RowSlot, ...]
    updates: tuple[tuple[VariableSlot, ...], ...]
    loss: bool

    @functools.cached_property
    def places(self) -> "Places":
        """The places of the numbers in the vector."""
        return _places(self)


def read(layout: Layout, steps: Sequence[int], packed: npt.NDArray[np.float32]) -> list[Record]:
    """Return the records of N steps; reading many takes about as long as reading one.

    Args:
        layout: Layout of all the vectors.
        steps: Numbers of the steps.
        packed: Array of shape (N, P, size): the vectors of P replicas at each step.
    """
    plan, places = layout.plan, layout.places
    values, counts, unit_samples = _layers(plan, places, packed)
    variables = np.concatenate(
        [
            np.zeros((len(steps), 0, len(plan.variable_statistics)), np.float32),
            # All replicas have the same variables.
            *(_variables(plan, block, packed[:, 0]) for block in places.blocks),
        ],
        axis=1,
    )
    edges = statistics.EDGES if plan.bins else np.zeros(0)
    losses = packed[:, :, LOSS].sum(axis=1).tolist()
    # Records keep inputs and targets apart from the layers.
    of_inputs, of_layers, of_targets = places.slices
    return [
        Record(
            step=step,
            layers=places.layers,
            statistics=plan.layer_statistics,
            values=values[number, of_layers],
            variables=places.variables,
            variable_statistics=plan.variable_statistics,
            variable_values=variables[number],
            edges=edges,
            counts=counts[number, of_layers],
            loss=losses[number] if layout.loss else None,
            inputs=places.inputs,
            input_values=values[number, of_inputs],
            unit_samples=unit_samples[number, of_layers],
            targets=places.targets,
            target_values=values[number, of_targets],
        )
        for number, step in enumerate(steps)
    ]


@dataclass(frozen=True)
class Block:
    """The places of the V variables of one optimizer call in the packed vector.

    Args:
        start: Place of the first number.
        learns: Boolean array of shape (V,): which variables have a gradient.
        sums: Places where the sums of units of each kernel and gradient start, and the end.
        owners: For each of these, the number of the variable, plus V for a gradient.
    """

    start: int
    learns: Any
    sums: Any
    owners: Any


@dataclass(frozen=True)
class Places:
    """The places of the rows and of the variables in the packed vector.

    Args:
        inputs: Names of the model's inputs.
        layers: Row names, in the order of execution.
        targets: Names of the targets.
        variables: Names of the variables.
        order: For each name, inputs first and targets last, the number of its row.
        starts: Place of each row's first unit among the units of all rows.
        units: Number of units of all rows together.
        spread: Place where quantiles and histograms start.
        end: Place where they end.
        never_dead: Boolean array of the length of `order`: whether no unit of the row can be dead.
        saturates: Boolean array of the length of `order`: whether entries can be saturated.
        blocks: Places of the variables, by optimizer call.
    """

    inputs: tuple[str, ...]
    layers: tuple[str, ...]
    targets: tuple[str, ...]
    variables: tuple[str, ...]
    order: Any
    starts: Any
    units: int
    spread: int
    end: int
    never_dead: Any
    saturates: Any
    blocks: tuple[Block, ...]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Indices of inputs, layers and targets among all rows in `order`."""
        first = len(self.inputs)
        last = first + len(self.layers)
        return slice(first), slice(first, last), slice(last, None)


def _places(layout: Layout) -> Places:
    plan, rows = layout.plan, layout.rows
    in_order = sorted(range(len(rows)), key=lambda place: rows[place].order)
    of_inputs = [place for place in in_order if rows[place].name.startswith(INPUT)]
    of_targets = [place for place in in_order if rows[place].name.startswith(TARGET)]
    of_layers = [place for place in in_order if place not in {*of_inputs, *of_targets}]
    starts = np.cumsum([0, *(row.units for row in rows)])
    saturates = np.array([row.saturates for row in rows], bool)
    units = int(starts[-1])
    spread = HEADER + 5 * units + 3 * len(rows) + 2 * int(saturates.sum())
    at = end = spread + len(rows) * _spread_size(plan)
    blocks = []
    for slots in layout.updates:
        blocks.append(_block(slots, at))
        at = blocks[-1].sums[-1]
    return Places(
        inputs=tuple(rows[place].name.removeprefix(":") for place in of_inputs),
        layers=tuple(rows[place].name for place in of_layers),
        targets=tuple(rows[place].name.removeprefix(":") for place in of_targets),
        variables=tuple(slot.name for slots in layout.updates for slot in slots),
        order=np.array(of_inputs + of_layers + of_targets, int),
        starts=starts[:-1],
        units=units,
        spread=spread,
        end=end,
        never_dead=np.array([not row.rectifier for row in rows], bool),
        saturates=saturates,
        blocks=tuple(blocks),
    )


def _block(slots: tuple[VariableSlot, ...], start: int) -> Block:
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


def _layers(plan: Plan, places: Places, packed: Any) -> tuple[Any, Any, Any]:
    """Return statistics, histogram and samples per unit of each row, over all replicas."""
    number, (steps, replicas) = len(places.order), packed.shape[:2]
    if not number:
        widths = (len(plan.layer_statistics), plan.bins)
        values, counts = (np.zeros((steps, 0, width), np.float32) for width in widths)
        return values, counts, np.zeros((steps, 0), np.float32)
    counted = HEADER + 5 * places.units
    layers = counted + 3 * number
    numbers = packed[:, :, HEADER:layers].astype(np.float64)
    units = statistics.Units(
        *np.moveaxis(numbers[:, :, : 5 * places.units].reshape(steps, replicas, 5, -1), 2, 0),
        *np.moveaxis(numbers[:, :, 5 * places.units :].reshape(steps, replicas, 3, -1), 2, 0),
    )
    found = statistics.summary(units, places.starts)
    for name in ("dead_share", "dead_units"):
        found[name][:, places.never_dead] = np.nan
    found["saturated_share"] = np.full((steps, number), np.nan)
    if places.saturates.any():
        both = packed[:, :, layers : places.spread].sum(axis=1).reshape(steps, 2, -1)
        with np.errstate(invalid="ignore"):
            found["saturated_share"][:, places.saturates] = both[:, 0] / both[:, 1]
    chosen = [found[name] for name in LAYER if name in plan.statistics]
    spread = packed[:, :, places.spread : places.end].reshape(steps, replicas, number, -1)
    cut = spread.shape[3] - plan.bins
    if cut:
        chosen += _averaged(spread[..., :cut], units, places.starts)
    with np.errstate(over="ignore"):
        values = np.array(chosen, np.float32).reshape(-1, steps, number)
    return (
        np.moveaxis(values[:, :, places.order], 0, 2),
        spread[..., cut:].sum(axis=1)[:, places.order],
        units.samples.sum(axis=1)[:, places.order],
    )


def _averaged(quantiles: Any, units: statistics.Units, starts: Any) -> list[Any]:
    """Return quantiles of shape (steps, rows), averaged over replicas by their finite entries."""
    if quantiles.shape[1] == 1:
        return [*np.moveaxis(quantiles[:, 0], 2, 0)]
    widths = np.diff([*starts, units.low.shape[-1]])
    entries = widths * units.samples - np.add.reduceat(units.missing, starts, axis=-1)
    # A replica without entries has no quantiles: the last batch may be too small for all.
    known = np.where(entries[..., None] > 0, quantiles, 0)
    with np.errstate(invalid="ignore"):
        means = (entries[..., None] * known).sum(axis=1) / entries.sum(axis=1)[..., None]
    return [*np.moveaxis(means, 2, 0)]


def _variables(
    plan: Plan, block: Block, packed: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return an array of shape (steps, variables, statistics)."""
    steps, number, first = len(packed), len(block.learns), block.sums[0]
    middle = block.start + 2 * number
    weight, update = packed[:, block.start : middle].reshape(steps, 2, number).swapaxes(0, 1)
    gradient, nonfinite, *shares = np.full((4, steps, number), np.nan, np.float32)
    of_gradients = packed[:, middle:first].reshape(steps, 2, -1)
    gradient[:, block.learns], nonfinite[:, block.learns] = of_gradients.swapaxes(0, 1)
    if len(block.owners):
        norms = np.concatenate([weight, gradient], axis=1)[:, block.owners]
        sums = packed[:, first : block.sums[-1]].copy()
        both = np.full((steps, 2 * number), np.nan, np.float32)
        both[:, block.owners] = statistics.repeated_share(sums, block.sums[:-1] - first, norms)
        shares = [both[:, :number], both[:, number:]]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((weight > 0) & (update > 0), update / weight, np.nan)
    columns = (weight, gradient, update, ratio, nonfinite, *shares)
    chosen = [c for name, c in zip(VARIABLE, columns, strict=True) if name in plan.statistics]
    return np.moveaxis(np.array(chosen, np.float32).reshape(-1, steps, number), 0, 2)
