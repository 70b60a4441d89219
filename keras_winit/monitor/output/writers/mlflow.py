"""Logs records and findings to a run of MLflow."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit.monitor.output.findings_markdown import findings_markdown
from keras_winit.monitor.output.writers.run_writer import RunWriter
from keras_winit.monitor.output.writers.writer import FindingFields

# MLflow takes this many metrics at once.
METRICS_AT_ONCE = 1000

# Characters that MLflow does not allow in the name of a metric.
FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)


class MlflowWriter(RunWriter):
    """Logs curves and a page of findings to a run of MLflow.

    The names of the curves are those of TensorBoard, with " call " for the `@` of a layer's second
    call and `_` for other characters that MLflow does not allow. The findings are the artifact
    `winit/findings.md`, which each change replaces.

    Args:
        run: The run to log to: an `mlflow.ActiveRun` or `mlflow.entities.Run`. Defaults to None:
            the active run.
        curves: Names of layer statistics that get curves: minimum, median and maximum over all
            layers under `winit`, and one curve for each layer under `winit_<statistic>`. Defaults
            to "stddev", "dead_share" and "saturated_share".
        variable_curves: Names of variable statistics that get one curve for each variable.
            Defaults to "gradient_norm" and "update_ratio".
        max_curves: Largest number of layers (or variables) that get curves of their own; if there
            are more, none does. Pre-activations do not count. Defaults to 64.

    Raises:
        ModuleNotFoundError: At construction, if `mlflow` is missing.
        ValueError: At a record, if no run is given and none is active.
    """

    library, start = "mlflow", "mlflow.start_run()"

    def active_run(self) -> Any:
        return self._load().active_run()

    def log(self, run: Any, step: int, points: Mapping[str, float]) -> None:
        named = [(_metric_name(name), value) for name, value in points.items()]
        for first in range(0, len(named), METRICS_AT_ONCE):
            metrics = dict(named[first : first + METRICS_AT_ONCE])
            self._load().log_metrics(metrics, step=step, run_id=run.info.run_id)

    def write_findings(self, step: int, findings: Sequence[FindingFields]) -> None:
        text, run_id = findings_markdown(findings), self._current_run().info.run_id
        self._load().log_text(text, "winit/findings.md", run_id=run_id)


def _metric_name(name: str) -> str:
    return FORBIDDEN.sub("_", name.replace("@", " call "))
