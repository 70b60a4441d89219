"""Logs records and findings to a run of Weights & Biases."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit.monitor.output.writers.run_writer import RunWriter
from keras_winit.monitor.output.writers.writer import FindingFields

# The metric that the curves are drawn over.
STEP = "winit/step"

FINDING_COLUMNS = ("severity", "rule", "layer", "step", "value", "cause", "remedy")


class WandbWriter(RunWriter):
    """Logs curves and a table of findings to a run of Weights & Biases.

    The curves are drawn over the metric `winit/step`, the step of the monitor, because W&B counts
    every call of `wandb.log` as a step of its own, also those of other callbacks. The findings are
    the table `winit/findings`.

    Args:
        run: The run to log to. Defaults to None: the active run.
        curves: Names of layer statistics that get curves: minimum, median and maximum over all
            layers under `winit`, and one curve for each layer under `winit_<statistic>`. Defaults
            to "stddev", "dead_share" and "saturated_share".
        variable_curves: Names of variable statistics that get one curve for each variable.
            Defaults to "gradient_norm" and "update_ratio".
        max_curves: Largest number of layers (or variables) that get curves of their own; if there
            are more, none does. Pre-activations do not count. Defaults to 64.

    Raises:
        ModuleNotFoundError: At construction, if `wandb` is missing.
        ValueError: At a record, if no run is given and none is active.
    """

    library, start = "wandb", "wandb.init(...)"

    def active_run(self) -> Any:
        return self._load().run

    def begin(self, run: Any) -> None:
        run.define_metric(STEP)
        run.define_metric("winit*", step_metric=STEP)

    def log(self, run: Any, step: int, points: Mapping[str, float]) -> None:
        run.log({**points, STEP: step})

    def write_findings(self, step: int, findings: Sequence[FindingFields]) -> None:
        rows = [[str(finding[name]) for name in FINDING_COLUMNS] for finding in findings]
        table = self._load().Table(columns=list(FINDING_COLUMNS), data=rows)
        self._current_run().log({"winit/findings": table, STEP: step})
