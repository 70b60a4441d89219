"""View of a run for the rules: the rows of one record, with the layers they belong to."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keras_winit.models.layers import KernelInfo, LayerInfo
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_pre_activation, layer_of


@dataclass(slots=True)
class Row:
    """A layer's output or pre-activation, or an input or target of the model, at one step.

    Args:
        layer: Name of the layer, the input or the target.
        order: Place in the order of execution; -1 for an input or a target.
        part: Description of the layer. None for an input, a target, and a layer made of others.
        values: Statistics by name.
        pre_activation: Whether this is the layer's pre-activation.
        unit_samples: Entries over which each unit was measured. Infinite if unknown.
    """

    layer: str
    order: int
    part: LayerInfo | None
    values: Mapping[str, float]
    pre_activation: bool = False
    unit_samples: float = math.inf

    def __getitem__(self, statistic: str) -> float:
        """Return a statistic; NaN if it was not measured or does not apply."""
        return self.values.get(statistic, math.nan)


@dataclass(slots=True)
class Weight:
    """A trainable weight of a layer at one step: a kernel, an embedding, or of unknown use.

    Args:
        layer: Name of the layer.
        order: Place of the layer in the order of execution.
        part: Description of the layer.
        kernel: Description of the variable.
        values: Statistics by name.
        first_values: Statistics by name, from the first record of the run.
    """

    layer: str
    order: int
    part: LayerInfo
    kernel: KernelInfo
    values: Mapping[str, float]
    first_values: Mapping[str, float]

    def __getitem__(self, statistic: str) -> float:
        """Return a statistic; NaN if it was not measured or does not apply."""
        return self.values.get(statistic, math.nan)

    @property
    def started_at_zero(self) -> bool:
        """Whether all its entries were zero in the first record."""
        return self.first_values.get("weight_norm") == 0

    @property
    def fitting_norm(self) -> float | None:
        """The smallest norm that keeps the signal or the gradient; None if unknown."""
        variances = self.kernel.variances
        return None if variances is None else math.sqrt(self.kernel.size * variances[0])

    @property
    def multiplies(self) -> bool:
        """Whether the layer is known to multiply a signal by this weight."""
        return self.kernel.role in ("kernel", "recurrent")


class View:
    """The latest record of a run, as the rules read it.

    Args:
        records: The first record of the run and the last 64, in order. At least one; the last
            one is viewed.
        model: Facts about the model that was recorded.
    """

    def __init__(self, records: Sequence[Record], model: ModelFacts) -> None:
        self.records, self.model = records, model
        self.record = records[-1]
        self.step = self.record.step

    @property
    def is_start(self) -> bool:
        """Whether nothing has been trained yet."""
        return self.step == 0

    @functools.cached_property
    def rows(self) -> list[Row]:
        """Outputs and pre-activations in the order of execution."""
        record, owners = self.record, _owners(self.model, self.record.layers)
        unit_samples = record.unit_samples.tolist() or [math.inf] * len(owners)
        return [
            Row(layer, order, part, dict(zip(record.statistics, row, strict=True)), is_pre, count)
            for order, ((layer, part, is_pre), row, count) in enumerate(
                zip(owners, record.values.tolist(), unit_samples, strict=True)
            )
        ]

    @functools.cached_property
    def batch(self) -> float:
        """Number of samples in the batch, at most: no layer has fewer. Infinite if unknown."""
        return min((row.unit_samples for row in self.rows), default=math.inf)

    @functools.cached_property
    def inputs(self) -> list[Row]:
        """The inputs of the model that hold floats."""
        return self._data_rows(self.record.inputs, self.record.input_values)

    @functools.cached_property
    def targets(self) -> list[Row]:
        """The dense targets of the model."""
        return self._data_rows(self.record.targets, self.record.target_values)

    def _data_rows(self, names: Sequence[str], values: npt.NDArray[np.float32]) -> list[Row]:
        return [
            Row(name, -1, None, dict(zip(self.record.statistics, row, strict=True)))
            for name, row in zip(names, values.tolist(), strict=True)
        ]

    @functools.cached_property
    def outputs(self) -> list[Row]:
        """The first output of each layer that holds a kernel."""
        first: dict[str, Row] = {}
        for row in self.rows:
            if not row.pre_activation and row.part is not None and row.part.kernels:
                first.setdefault(row.layer, row)
        return list(first.values())

    @functools.cached_property
    def pre_activations(self) -> dict[str, Row]:
        """The first pre-activation of each layer that has one, by the layer's name."""
        return {row.layer: row for row in reversed(self.rows) if row.pre_activation}

    @functools.cached_property
    def weights(self) -> list[Weight]:
        """Trainable weights in the order of execution.

        Those of layers that did not run come last, in the order of their creation.
        """
        now, first = _variable_values(self.record), _variable_values(self.records[0])
        return [
            Weight(layer, order, part, kernel, now[kernel.name], first.get(kernel.name, {}))
            for layer, order, part, kernel in _ordered_kernels(self.model, self.record.layers)
            if kernel.name in now
        ]

    @functools.cached_property
    def kernels(self) -> list[Weight]:
        """The weights that multiply a signal."""
        return [weight for weight in self.weights if weight.multiplies]

    @functools.cached_property
    def _first_weights(self) -> dict[str, Weight]:
        return {weight.layer: weight for weight in reversed(self.weights)}

    def weight_of(self, layer: str) -> Weight | None:
        """Return the first weight of a layer."""
        return self._first_weights.get(layer)

    def by_variable(self, statistic: str, back: int = 1) -> dict[str, float]:
        """Return a statistic of all variables, by their names.

        Args:
            statistic: Name of the statistic.
            back: 1 for the latest record, 2 for the one before it, and so on. Defaults to 1.
        """
        return {
            name: values[statistic]
            for name, values in _variable_values(self.records[-back]).items()
            if statistic in values
        }


@functools.lru_cache(maxsize=2)
def _owners(
    model: ModelFacts, row_names: tuple[str, ...]
) -> list[tuple[str, LayerInfo | None, bool]]:
    """Return for each row its layer's name and part, and whether it is a pre-activation."""
    layers = [layer_of(name) for name in row_names]
    return [
        (layer, model.parts.get(layer), is_pre_activation(name))
        for layer, name in zip(layers, row_names, strict=True)
    ]


@functools.lru_cache(maxsize=2)
def _ordered_kernels(
    model: ModelFacts, row_names: tuple[str, ...]
) -> list[tuple[str, int, LayerInfo, KernelInfo]]:
    """Return layer, order, part and kernel of all kernels, by the first row of their layer."""
    layers = [layer for layer, _, _ in _owners(model, row_names)]
    orders = {layer: order for order, layer in reversed(list(enumerate(layers)))}
    kernels = [
        (layer, orders.get(layer, len(row_names) + place), part, kernel)
        for place, (layer, part) in enumerate(model.parts.items())
        for kernel in part.kernels
    ]
    return sorted(kernels, key=lambda entry: entry[1])


# Three are needed at each step: the first record of the run, the last but one, and the last.
@functools.lru_cache(maxsize=3)
def _variable_values(record: Record) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(record.variable_statistics, row, strict=True))
        for name, row in zip(record.variables, record.variable_values.tolist(), strict=True)
    }
