"""Records as tables: a row for each layer or kernel, a column for each step."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_winit.plots.healthy_ranges import RANGES
from keras_winit.plots.protocols import Record

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# The row names, the statistics and the values of one record.
Column = tuple[tuple[str, ...], tuple[str, ...], npt.NDArray[np.float32]]

# The end of the row name of a pre-activation.
PRE_ACTIVATION = ".pre"


class Tables:
    """Tables of the statistics in records, NaN where a record has no value.

    `layers` names the rows of a layer table: all outputs in the order of execution, without
    pre-activations. `kernels` names the rows of a kernel table: the variables called kernels,
    or all variables if none is.

    Args:
        records: The records of a monitor's history.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.steps = [record.step for record in records]
        names = dict.fromkeys(name for record in records for name in record.layers)
        self.layers = tuple(name for name in names if not name.endswith(PRE_ACTIVATION))
        paths = tuple(dict.fromkeys(path for record in records for path in record.variables))
        self.kernels = tuple(path for path in paths if _is_kernel(path)) or paths

    def of_layers(self, statistic: str) -> Array:
        """Return a statistic of the layers, of shape (layers, steps)."""
        columns = [(record.layers, record.statistics, record.values) for record in self._records]
        return _table(self.layers, statistic, columns)

    def missing(self, statistic: str) -> Flags:
        """Return where a statistic was measured but is not finite, of shape (layers, steps)."""
        measured = np.zeros((len(self.layers), len(self.steps)), bool)
        for column, record in enumerate(self._records):
            if statistic in record.statistics:
                measured[_common_rows(self.layers, record.layers)[0], column] = True
        return measured & ~np.isfinite(self.of_layers(statistic))

    def of_kernels(self, statistic: str) -> Array:
        """Return a statistic of the kernels, of shape (kernels, steps)."""
        columns = [
            (record.variables, record.variable_statistics, record.variable_values)
            for record in self._records
        ]
        return _table(self.kernels, statistic, columns)

    def of_first_kernels(self, statistic: str) -> Array:
        """Return a statistic of each layer's first kernel, of shape (layers, steps)."""
        table = np.full((len(self.layers), len(self.steps)), np.nan)
        layers, kernels = self._layers_with_kernels
        table[layers] = self.of_kernels(statistic)[kernels]
        return table

    def signal(self) -> Array:
        """Return the `unit_stddev` of the layers, of shape (layers, steps).

        The last layer is shown before its activation if that was measured, since the outputs
        of a softmax are always close together.
        """
        table, last = self.of_layers("unit_stddev"), f"{self.layers[-1]}{PRE_ACTIVATION}"
        for column, record in enumerate(self._records):
            if "unit_stddev" in record.statistics and last in record.layers:
                place = record.layers.index(last), record.statistics.index("unit_stddev")
                table[-1, column] = record.values[place]
        return table

    def updates(self) -> Array:
        """Return the `update_ratio` of each layer's first kernel, of shape (layers, steps).

        A kernel that does not move has 0. If no kernel moves, gradients are being
        accumulated, and all are NaN.
        """
        update_norms = self.of_first_kernels("update_norm")
        resting = (update_norms == 0) & np.any(update_norms > 0, axis=0)
        resting &= self.of_first_kernels("weight_norm") > 0
        return np.where(resting, 0.0, self.of_first_kernels("update_ratio"))

    def histograms(self) -> tuple[Array, Array]:
        """Return the edges of the bins, and shares of shape (layers, bins, steps).

        The shares of a layer add up to 1, or to 0 if no entry was finite.
        """
        edges = self._records[-1].edges
        table = np.full((len(self.layers), len(edges) - 1, len(self.steps)), np.nan)
        for column, record in enumerate(self._records):
            if np.array_equal(record.edges, edges):
                rows, record_rows = _common_rows(self.layers, record.layers)
                counts = record.counts[record_rows]
                table[rows, :, column] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return edges, table

    @property
    def reference(self) -> float:
        """The `unit_stddev` to compare all layers with.

        It is that of the first layer with a kernel at the first step, limited to the healthy
        range: a first layer far outside the range is no standard for the others.
        """
        low, high = RANGES["exploding_forward"]
        first = self.of_layers("unit_stddev")[min(self._layers_with_kernels[0], default=0), 0]
        # If one value is NaN, `fmin` and `fmax` return the other.
        return float(np.fmax(np.fmin(first, high), low))

    @functools.cached_property
    def _layers_with_kernels(self) -> tuple[list[int], list[int]]:
        """The rows of layers that have kernels, and the row of each one's first kernel."""
        kernel_of_layer: dict[int, int] = {}
        for kernel, path in enumerate(self.kernels):
            owners = [name for name in self.layers if path.startswith(f"{name}/")]
            if owners:
                kernel_of_layer.setdefault(self.layers.index(max(owners, key=len)), kernel)
        return list(kernel_of_layer), list(kernel_of_layer.values())


def _is_kernel(path: str) -> bool:
    return "kernel" in path.rpartition("/")[2]


def _table(names: tuple[str, ...], statistic: str, columns: Sequence[Column]) -> Array:
    table = np.full((len(names), len(columns)), np.nan)
    for number, (record_names, statistics, values) in enumerate(columns):
        if statistic in statistics:
            rows, record_rows = _common_rows(names, record_names)
            table[rows, number] = values[record_rows, statistics.index(statistic)]
    return table


@functools.lru_cache(maxsize=16)
def _common_rows(
    names: tuple[str, ...], record_names: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """Return the rows of the names that both have: in the table, and in the record."""
    places = {name: place for place, name in enumerate(record_names)}
    pairs = [(row, places[name]) for row, name in enumerate(names) if name in places]
    return [row for row, _ in pairs], [place for _, place in pairs]


def merge_columns(values: Array, limit: int) -> Array:
    """Merge neighboring columns until at most `limit` are left.

    Of the merged values, the one farthest from zero stays. NaN stays only beside NaN.
    """
    count = values.shape[1]
    if count <= limit:
        return values
    starts = np.arange(0, count, -(-count // limit))
    low, high = (extreme.reduceat(values, starts, axis=1) for extreme in (np.fmin, np.fmax))
    farthest: Array = np.where(np.abs(low) > np.abs(high), low, high)
    return farthest
