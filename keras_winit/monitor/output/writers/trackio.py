"""Logs records and findings to a run of Trackio."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit.monitor.output.findings_markdown import findings_markdown
from keras_winit.monitor.output.writers.run_writer import RunWriter
from keras_winit.monitor.output.writers.writer import FindingFields


class TrackioWriter(RunWriter):
    """Logs curves and a text of findings to a run of Trackio.

    The findings are the text `winit/findings`.

    Args:
        run: The run to log to, as `trackio.init` returns it. Defaults to None: the active run.
        curves: Names of layer statistics that get curves: minimum, median and maximum over all
            layers under `winit`, and one curve for each layer under `winit_<statistic>`. Defaults
            to "stddev", "dead_share" and "saturated_share".
        variable_curves: Names of variable statistics that get one curve for each variable.
            Defaults to "gradient_norm" and "update_ratio".
        max_curves: Largest number of layers (or variables) that get curves of their own; if there
            are more, none does. Pre-activations do not count. Defaults to 64.

    Raises:
        ModuleNotFoundError: At construction, if `trackio` is missing.
        ValueError: At a record, if no run is given and none is active.
    """

    library, start = "trackio", "trackio.init(...)"

    def active_run(self) -> Any:
        return self._load().context_vars.current_run.get()

    def log(self, run: Any, step: int, points: Mapping[str, float]) -> None:
        run.log(dict(points), step=step)

    def write_findings(self, step: int, findings: Sequence[FindingFields]) -> None:
        text = self._load().Markdown(findings_markdown(findings))
        self._current_run().log({"winit/findings": text}, step=step)
