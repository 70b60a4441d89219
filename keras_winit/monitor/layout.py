"""Where the numbers of a step lie in the vector that leaves the device, and how it is read."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit import statistics
from keras_winit.monitor.plan import INPUT, LAYER, QUANTILES, VARIABLE, Plan
from keras_winit.monitor.records import Sample


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
