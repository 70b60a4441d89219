"""What a rule looks at: one watched step, those before it, and the layers at rest."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keras_winit.models.layers import KernelInfo, LayerInfo
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_before, layer_of

NAN = math.nan


@dataclass(frozen=True, eq=False)
class Model:
    """What is known of a model at rest.

    Args:
        parts: Its layers by their names in the records.
        expected_loss: Of a classifier that knows nothing yet; None for other models.
        scaled_loss: Whether the optimizer tries out by what to multiply the loss, and so
            meets infinite gradients now and then.
    """

    parts: Mapping[str, LayerInfo] = field(default_factory=dict)
    expected_loss: float | None = None
    scaled_loss: bool = False


@dataclass(slots=True)
class Seen:
    """A layer's output, or its pre-activation, at one step.

    Args:
        layer: Its name.
        order: Its place in the order of execution.
        part: What is known of it, if it is not made of others.
        values: By the name of the statistic.
        before: Whether this is its pre-activation.
        samples: Over which each unit was looked at; infinite if nobody has counted.
    """

    layer: str
    order: int
    part: LayerInfo | None
    values: Mapping[str, float]
    before: bool = False
    samples: float = math.inf

    def __getitem__(self, statistic: str) -> float:
        """NaN if it was not measured or does not apply."""
        return self.values.get(statistic, NAN)


@dataclass(slots=True)
class Weight:
    """A trainable kernel at one step; `start` holds its values at the first watched step."""

    layer: str
    order: int
    part: LayerInfo
    kernel: KernelInfo
    values: Mapping[str, float]
    start: Mapping[str, float]

    def __getitem__(self, statistic: str) -> float:
        """NaN if it was not measured or does not apply."""
        return self.values.get(statistic, NAN)

    @property
    def started_at_zero(self) -> bool:
        """Whether all its entries were zero at the first watched step."""
        return self.start.get("weight_norm") == 0

    @property
    def multiplies(self) -> bool:
        """Whether it multiplies a signal; nobody knows of one in a layer of one's own."""
        return self.kernel.role in ("kernel", "recurrent")


class View:
    """The last of some records, as a rule reads it.

    Args:
        records: Of a run, one at least.
        model: That they are of.
    """

    def __init__(self, records: Sequence[Record], model: Model) -> None:
        self.records, self.model = records, model
        self.record = records[-1]
        self.step = self.record.step

    @property
    def is_start(self) -> bool:
        """Whether nothing has been trained yet."""
        return self.step == 0

    @functools.cached_property
    def seen(self) -> list[Seen]:
        """Outputs and pre-activations in the order of execution."""
        names, rows = self.record.statistics, self.record.values.tolist()
        sites = _sites(self.model, self.record.layers)
        samples = self.record.unit_samples.tolist() or [math.inf] * len(sites)
        return [
            Seen(name, order, part, dict(zip(names, row, strict=True)), before, count)
            for order, ((name, part, before), row, count) in enumerate(
                zip(sites, rows, samples, strict=True)
            )
        ]

    @functools.cached_property
    def inputs(self) -> list[Seen]:
        """The model's own inputs that hold floats."""
        record = self.record
        return [
            Seen(name, -1, None, dict(zip(record.statistics, row, strict=True)))
            for name, row in zip(record.inputs, record.input_values.tolist(), strict=True)
        ]

    @functools.cached_property
    def outputs(self) -> list[Seen]:
        """The first output of each layer that holds a kernel."""
        first: dict[str, Seen] = {}
        for seen in self.seen:
            if not seen.before and seen.part is not None and seen.part.kernels:
                first.setdefault(seen.layer, seen)
        return list(first.values())

    @functools.cached_property
    def pre_activations(self) -> dict[str, Seen]:
        """The first of each layer that has one, by the layer's name."""
        return {seen.layer: seen for seen in reversed(self.seen) if seen.before}

    @functools.cached_property
    def weights(self) -> list[Weight]:
        """Kernels in the order in which their layers run, or else were made."""
        now, start = _variables(self.record), _variables(self.records[0])
        return [
            Weight(name, order, part, kernel, now[kernel.name], start.get(kernel.name, {}))
            for name, order, part, kernel in _kernels(self.model, self.record.layers)
            if kernel.name in now
        ]

    @functools.cached_property
    def kernels(self) -> list[Weight]:
        """Of the weights those that multiply a signal."""
        return [weight for weight in self.weights if weight.multiplies]

    @functools.cached_property
    def _first_weights(self) -> dict[str, Weight]:
        return {weight.layer: weight for weight in reversed(self.weights)}

    def weight_of(self, layer: str) -> Weight | None:
        """The first kernel of a layer."""
        return self._first_weights.get(layer)

    def column(self, statistic: str, back: int = 1) -> dict[str, float]:
        """One statistic of all variables, some records back."""
        return {
            path: values[statistic]
            for path, values in _variables(self.records[-back]).items()
            if statistic in values
        }


@functools.lru_cache(maxsize=2)
def _sites(model: Model, sites: tuple[str, ...]) -> list[tuple[str, LayerInfo | None, bool]]:
    """For each site its layer, what is known of that, and whether it is a pre-activation."""
    names = [layer_of(site) for site in sites]
    return [
        (name, model.parts.get(name), is_before(site))
        for name, site in zip(names, sites, strict=True)
    ]


@functools.lru_cache(maxsize=2)
def _kernels(model: Model, sites: tuple[str, ...]) -> list[tuple[str, int, LayerInfo, KernelInfo]]:
    """Of all layers, by their first site: name, order, part and kernel."""
    names = [name for name, _, _ in _sites(model, sites)]
    orders = {name: order for order, name in reversed(list(enumerate(names)))}
    found = [
        (name, orders.get(name, len(sites) + place), part, kernel)
        for place, (name, part) in enumerate(model.parts.items())
        for kernel in part.kernels
    ]
    return sorted(found, key=lambda kernel: kernel[1])


# Of the first record of a run, the one before and the last.
@functools.lru_cache(maxsize=3)
def _variables(record: Record) -> dict[str, dict[str, float]]:
    return {
        path: dict(zip(record.variable_statistics, row, strict=True))
        for path, row in zip(record.variables, record.variable_values.tolist(), strict=True)
    }
