"""The record: everything the monitor measured at one training step."""

import functools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Record:
    """Everything the monitor measured at one training step.

    A record holds two tables of statistics: `values` has a row for each of L layer outputs,
    `variable_values` a row for each of V variables. Other fields name the rows and columns.

    Args:
        step: Number of updates the optimizer had made before this step, from 0. The count goes
            on over a second `fit` and in a resumed run.
        layers: Row names of the L recorded layer outputs, in execution order. A row name is
            the layer's name with the names of the blocks around it, `block/name`. `name:1` is
            the layer's second output, `name@2` its second call in this step, `name.pre` its
            pre-activation. Names are unique: a second layer called `name` is `name~2`, and a
            layer whose own name ends like one of these marks is `name~1`.
        statistics: Names of the S statistics of a layer output, such as "stddev".
        values: Array of shape (L, S), float32: entry `[i, j]` is `statistics[j]` of
            `layers[i]`. NaN where a statistic does not apply, as `dead_share` without a
            rectifier.
        variables: Names of the V trainable variables, such as `block/name/kernel`.
        variable_statistics: Names of the T statistics of a variable, such as "gradient_norm".
        variable_values: Array of shape (V, T), float32: entry `[i, j]` is
            `variable_statistics[j]` of `variables[i]`. NaN where a statistic is undefined, as
            `gradient_norm` without a gradient.
        edges: Edges of the B histogram bins, ascending, of shape (B + 1,), float64. Empty if no
            histograms were recorded.
        counts: Histograms, of shape (L, B), float32: entry `[i, j]` is the number of finite
            values of `layers[i]` in `[edges[j], edges[j + 1])`. The first and the last bin also
            count the values beyond the edges. Shape (L, 0) if no histograms were recorded.
        loss: Loss of this step. None if a custom `train_step` does not call `compute_loss`.
        inputs: Names of the I floating-point inputs of the model: "input", "input:1", ...
        input_values: Array of shape (I, S), float32: `statistics` of the inputs, for the batch
            as the model receives it.
        unit_samples: Array of shape (L,), float32: number of values of each unit in a layer
            output, such as batch size times image positions. Empty if unknown.
        targets: Names of the J dense targets of the model, in the order of the flattened
            targets: "target", "target:1", ... Integers and booleans are among them.
        target_values: Array of shape (J, S), float32: `statistics` of the targets, for the
            batch as `compute_loss` receives it. Empty if a custom `train_step` does not call it.
    """

    step: int
    layers: tuple[str, ...]
    statistics: tuple[str, ...]
    values: npt.NDArray[np.float32]
    variables: tuple[str, ...]
    variable_statistics: tuple[str, ...]
    variable_values: npt.NDArray[np.float32]
    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float32]
    loss: float | None
    inputs: tuple[str, ...] = ()
    input_values: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), "f"))
    unit_samples: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, "f"))
    targets: tuple[str, ...] = ()
    target_values: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), "f"))

    @functools.cached_property
    def gradient_norm(self) -> float:
        """L2 norm of the gradients of all variables together; NaN if none was recorded."""
        if "gradient_norm" not in self.variable_statistics:
            return float("nan")
        norms = self.variable_values[:, self.variable_statistics.index("gradient_norm")]
        known = norms[~np.isnan(norms)].astype(np.float64)
        return float(np.linalg.norm(known)) if known.size else float("nan")

    def lookup(self, name: str, statistic: str) -> float | None:
        """Return one statistic of a layer output or a variable; None if it was not recorded.

        Args:
            name: Name out of `layers` or `variables`; "loss" for the loss.
            statistic: Name of the statistic; "loss" for the loss.
        """
        if name in self.layers and statistic in self.statistics:
            row, column = self.layers.index(name), self.statistics.index(statistic)
            return float(self.values[row, column])
        if name in self.variables and statistic in self.variable_statistics:
            row, column = self.variables.index(name), self.variable_statistics.index(statistic)
            return float(self.variable_values[row, column])
        return self.loss if name == statistic == "loss" else None
