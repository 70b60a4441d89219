"""What a monitor measured, as arrays of layers, or kernels, by steps."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.diagnosis.rules import ExplodingForward, Rule
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_before

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def healthy(rule: type[Rule]) -> tuple[float, float]:
    """The range that a rule's statistic has in healthy training."""
    low, high = map(float, rule.healthy.split(" .. "))
    return low, high


class Rows:
    """Samples as tables, a column each; NaN where there is nothing.

    `layers` are all outputs in the order of execution, without pre-activations; `kernels`
    the paths of the variables that multiply a signal, or of all if none is named so.

    Args:
        records: Of a monitor's history.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.steps = [record.step for record in records]
        layers = dict.fromkeys(name for record in records for name in record.layers)
        self.layers = tuple(name for name in layers if not is_before(name))
        paths = tuple(dict.fromkeys(path for record in records for path in record.variables))
        self.kernels = tuple(path for path in paths if _multiplies(path)) or paths

    def of_layers(self, statistic: str) -> Array:
        """Of shape (layers, steps)."""
        table = np.full((len(self.layers), len(self.steps)), np.nan)
        for column, record in enumerate(self._records):
            if statistic in record.statistics:
                here, there = _match(self.layers, record.layers)
                table[here, column] = record.values[there, record.statistics.index(statistic)]
        return table

    def signal(self) -> Array:
        """`unit_stddev`, of shape (layers, steps).

        Of the last layer before its activation, if that was seen: a softmax is narrow by
        nature.
        """
        table, last = self.of_layers("unit_stddev"), f"{self.layers[-1]}.pre"
        for column, record in enumerate(self._records):
            if "unit_stddev" in record.statistics and last in record.layers:
                place = record.layers.index(last), record.statistics.index("unit_stddev")
                table[-1, column] = record.values[place]
        return table

    def updates(self) -> Array:
        """`update_ratio` of each layer's first kernel, of shape (layers, steps).

        0 where nothing moves, unless all stand still: gradients are being collected then.
        """
        moved = self.of_own_kernels("update_norm")
        still = (moved == 0) & np.any(moved > 0, axis=0)
        still &= self.of_own_kernels("weight_norm") > 0
        return np.where(still, 0.0, self.of_own_kernels("update_ratio"))

    def missing(self, statistic: str) -> Flags:
        """Of shape (layers, steps): whether it was measured and is no number."""
        table = np.zeros((len(self.layers), len(self.steps)), bool)
        for column, record in enumerate(self._records):
            if statistic in record.statistics:
                table[_match(self.layers, record.layers)[0], column] = True
        return table & ~np.isfinite(self.of_layers(statistic))

    def of_kernels(self, statistic: str) -> Array:
        """Of shape (kernels, steps)."""
        table = np.full((len(self.kernels), len(self.steps)), np.nan)
        for column, record in enumerate(self._records):
            if statistic in record.variable_statistics:
                here, there = _match(self.kernels, record.variables)
                place = record.variable_statistics.index(statistic)
                table[here, column] = record.variable_values[there, place]
        return table

    def of_own_kernels(self, statistic: str) -> Array:
        """Of shape (layers, steps): of the first kernel of each layer that has one."""
        table = np.full((len(self.layers), len(self.steps)), np.nan)
        layers, kernels = self._owners
        table[layers] = self.of_kernels(statistic)[kernels]
        return table

    def histograms(self) -> tuple[Array, Array]:
        """The ends of the bins, and shares of shape (layers, bins, steps).

        They add up to 1, to 0 if no entry was finite.
        """
        edges = self._records[-1].edges
        table = np.full((len(self.layers), len(edges) - 1, len(self.steps)), np.nan)
        for column, record in enumerate(self._records):
            if np.array_equal(record.edges, edges):
                here, there = _match(self.layers, record.layers)
                counts = record.counts[there]
                table[here, :, column] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return edges, table

    @property
    def reference(self) -> float:
        """What the spread of units is to be compared with.

        That of the first layer with a kernel at the first step; held within the healthy
        range of a signal, as a first layer that is far off is no measure for others.
        """
        low, high = healthy(ExplodingForward)
        start = self.of_layers("unit_stddev")[min(self._owners[0], default=0), 0]
        # Where there is no number, `fmin` and `fmax` take the other.
        return float(np.fmax(np.fmin(start, high), low))

    @functools.cached_property
    def _owners(self) -> tuple[list[int], list[int]]:
        """The places of layers that have kernels, and of the first kernel of each."""
        owners: dict[int, int] = {}
        for kernel, path in enumerate(self.kernels):
            around = [name for name in self.layers if path.startswith(f"{name}/")]
            if around:
                owners.setdefault(self.layers.index(max(around, key=len)), kernel)
        return list(owners), list(owners.values())


def _multiplies(path: str) -> bool:
    return "kernel" in path.rpartition("/")[2]


@functools.lru_cache(maxsize=16)
def _match(names: tuple[str, ...], found: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """The places in both of what both have."""
    places = {name: place for place, name in enumerate(found)}
    pairs = [(here, places[name]) for here, name in enumerate(names) if name in places]
    return [here for here, _ in pairs], [there for _, there in pairs]


def merged(values: Array, most: int) -> Array:
    """At most so many columns: of neighbors the value farthest from zero; NaN is none."""
    count = values.shape[1]
    if count <= most:
        return values
    starts = np.arange(0, count, -(-count // most))
    low, high = (bound.reduceat(values, starts, axis=1) for bound in (np.fmin, np.fmax))
    farthest: Array = np.where(np.abs(low) > np.abs(high), low, high)
    return farthest
