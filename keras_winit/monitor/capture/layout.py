"""Where the numbers of a step lie in the vector that leaves the device, and how it is read."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit import statistics
from keras_winit.monitor.capture.plan import INPUT, LAYER, QUANTILES, VARIABLE, Plan
from keras_winit.monitor.records import Record

# The vector begins with the number of the layout, the loss, and whether the rest is exact.
NUMBER, LOSS, SOUND, HEADER = range(4)


@dataclass(frozen=True)
class Row:
    """A layer's output in the vector that leaves the device.

    Args:
        name: Of the row.
        order: Its place in the order of execution.
        units: How many it has.
        rectifier: Whether a unit without positive output is dead.
        saturates: Whether its entries can be saturated.
    """

    name: str
    order: int
    units: int
    rectifier: bool
    saturates: bool


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

    `updates`: the variables of one call of the optimizer after the other; `loss`: whether it
    was seen.
    """

    plan: Plan
    rows: tuple[Row, ...]
    updates: tuple[tuple[Slot, ...], ...]
    loss: bool

    @functools.cached_property
    def places(self) -> "Places":
        """Where they lie."""
        return _places(self)


def read(layout: Layout, steps: Sequence[int], packed: npt.NDArray[np.float32]) -> list[Record]:
    """The records out of what `pack` gave at N steps.

    At once, as one takes about as long as many.

    Args:
        layout: Of all of them.
        steps: Their numbers.
        packed: Of shape (N, P, ...), a vector for each of P replicas.
    """
    plan, places = layout.plan, layout.places
    values, counts, unit_samples = _layers(plan, places, packed)
    variables = np.concatenate(
        [
            np.zeros((len(steps), 0, len(plan.variable)), np.float32),
            # Every replica has the same.
            *(_variables(plan, block, packed[:, 0]) for block in places.blocks),
        ],
        axis=1,
    )
    edges = statistics.EDGES if plan.bins else np.zeros(0)
    losses = packed[:, :, LOSS].sum(axis=1).tolist()
    # The model's inputs are kept apart from its layers.
    fed = len(places.inputs)
    return [
        Record(
            step=step,
            layers=places.layers,
            statistics=plan.layer,
            values=values[number, fed:],
            variables=places.variables,
            variable_statistics=plan.variable,
            variable_values=variables[number],
            edges=edges,
            counts=counts[number, fed:],
            loss=losses[number] if layout.loss else None,
            inputs=places.inputs,
            input_values=values[number, :fed],
            unit_samples=unit_samples[number, fed:],
        )
        for number, step in enumerate(steps)
    ]


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
    saturates = np.array([row.saturates for row in rows], bool)
    units = int(starts[-1])
    spread = HEADER + 5 * units + 3 * len(rows) + 2 * int(saturates.sum())
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


def _layers(plan: Plan, places: Places, packed: Any) -> tuple[Any, Any, Any]:
    """Statistics, histogram and samples of each layer at each step, over all replicas."""
    number, (steps, lots) = len(places.order), packed.shape[:2]
    if not number:
        widths = (len(plan.layer), plan.bins)
        values, counts = (np.zeros((steps, 0, width), np.float32) for width in widths)
        return values, counts, np.zeros((steps, 0), np.float32)
    counted = HEADER + 5 * places.units
    layers = counted + 3 * number
    numbers = packed[:, :, HEADER:layers].astype(np.float64)
    units = statistics.Units(
        *np.moveaxis(numbers[:, :, : 5 * places.units].reshape(steps, lots, 5, -1), 2, 0),
        *np.moveaxis(numbers[:, :, 5 * places.units :].reshape(steps, lots, 3, -1), 2, 0),
    )
    found = statistics.summary(units, places.starts)
    for name in ("dead_share", "dead_units"):
        found[name][:, places.lively] = np.nan
    found["saturated_share"] = np.full((steps, number), np.nan)
    if places.saturates.any():
        both = packed[:, :, layers : places.spread].sum(axis=1).reshape(steps, 2, -1)
        with np.errstate(invalid="ignore"):
            found["saturated_share"][:, places.saturates] = both[:, 0] / both[:, 1]
    chosen = [found[name] for name in LAYER if name in plan.statistics]
    spread = packed[:, :, places.spread : places.end].reshape(steps, lots, number, -1)
    cut = spread.shape[3] - plan.bins
    if cut:
        # Each replica's own quantiles, averaged.
        chosen += [*np.moveaxis(spread[..., :cut].mean(axis=1), 2, 0)]
    with np.errstate(over="ignore"):
        values = np.array(chosen, np.float32).reshape(-1, steps, number)
    return (
        np.moveaxis(values[:, :, places.order], 0, 2),
        spread[..., cut:].sum(axis=1)[:, places.order],
        units.samples.sum(axis=1)[:, places.order],
    )


def _variables(
    plan: Plan, block: Block, packed: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Of shape (steps, variables, statistics)."""
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
