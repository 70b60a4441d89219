"""What the monitor measured at one training step, as plain rows."""

import functools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Record:
    """Everything that was measured at one step.

    Args:
        step: Updates that the optimizer had made before this step. It goes on over a second
            `fit` and a resumed run.
        layers: The L watched outputs in execution order, as `block/name`, `name:1` for a second
            output, `name@2` for a second call, `name.pre` for a pre-activation. Unique: a second
            layer of one name is `name~2`, one whose own name ends like these `name~1`.
        statistics: The S names of the columns of `values`.
        values: Of shape (L, S), float32. NaN where a statistic does not apply.
        variables: The names of the V trainable variables, as `block/name/kernel`.
        variable_statistics: The T names of the columns of `variable_values`.
        variable_values: Of shape (V, T), float32. NaN where there is nothing to say.
        edges: The B + 1 ends of the bins of `counts`, or empty.
        counts: Of shape (L, B): how many entries of each layer fall into each bin. Its first
            and last bin hold what lies beyond. Or of shape (L, 0).
        loss: Of this step. None where a training step of one's own did not tell.
        inputs: The I inputs of the model that hold floats, as "input", "input:1".
        input_values: Of shape (I, S), float32; the batch as the model gets it.
        unit_samples: Of shape (L,): over how many entries each unit was looked at. Or empty.
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

    @functools.cached_property
    def gradient_norm(self) -> float:
        """Of all gradients together; NaN if none was measured."""
        if "gradient_norm" not in self.variable_statistics:
            return float("nan")
        norms = self.variable_values[:, self.variable_statistics.index("gradient_norm")]
        known = norms[~np.isnan(norms)].astype(np.float64)
        return float(np.linalg.norm(known)) if known.size else float("nan")
