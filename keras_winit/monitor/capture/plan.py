"""Names of all statistics, and the plan of those that a monitor measures."""

import functools
from dataclasses import dataclass

from keras_winit import statistics

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

# Row name of the model's own inputs, which are no layers.
INPUT = ":input"
# Row name of the targets, as the loss gets them.
TARGET = ":target"

# Shares of the quantiles, which are taken of at least 512 entries spread over samples and units.
QUANTILES = {"q01": 0.01, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q99": 0.99}


@dataclass(frozen=True)
class Plan:
    """The statistics that a monitor measures.

    Args:
        statistics: Names out of `ALL`.
        samples: Number of samples of each batch to measure, the first ones. None: all.
    """

    statistics: tuple[str, ...]
    samples: int | None

    @functools.cached_property
    def layer_statistics(self) -> tuple[str, ...]:
        """The names of the statistics in a layer's row."""
        quantiles = QUANTILES if "quantiles" in self.statistics else ()
        return (*(name for name in LAYER if name in self.statistics), *quantiles)

    @functools.cached_property
    def measures_layers(self) -> bool:
        """Whether anything is measured of layers."""
        return bool(self.layer_statistics or self.bins)

    @functools.cached_property
    def variable_statistics(self) -> tuple[str, ...]:
        """The names of the statistics in a variable's row."""
        return tuple(name for name in VARIABLE if name in self.statistics)

    @functools.cached_property
    def bins(self) -> int:
        """The number of bins of the histogram; 0 if there is none."""
        return len(statistics.EDGES) - 1 if "histogram" in self.statistics else 0
