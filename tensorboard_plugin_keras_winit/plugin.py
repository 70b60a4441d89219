"""Serves the page of the tab, and the tables, histograms and findings that a run has written.

TensorBoard imports this module when it starts, and an exception here would stop TensorBoard. The
module therefore imports only packages that TensorBoard itself needs. What cannot be read is
answered with status 422, which the page tells apart from a TensorBoard that has stopped.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import exceptions, wrappers

from tensorboard_plugin_keras_winit import contents

NAME = "keras_winit"
STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}

FINDINGS_TAG = "winit/findings"
HISTOGRAM_PREFIX = "winit_hist/"

# The directories that monitors write.
RUN_NAME = re.compile(r"(.*/)?winit(_\d+)?", re.DOTALL)

# TensorBoard keeps this many steps of each table. Its default for tensors is 10 or 100.
MAX_STEPS = 2000

App = Callable[[wrappers.Request], wrappers.Response]


class Loader(base_plugin.TBLoader):
    """Entry point through which TensorBoard loads the plugin."""

    def fix_flags(self, flags: Any) -> None:
        flags.samples_per_plugin.setdefault(NAME, MAX_STEPS)

    def load(self, context: Any) -> "Plugin | None":
        return None if context.data_provider is None else Plugin(context)


class Plugin(base_plugin.TBPlugin):
    """Server of the tab: static files, and JSON or binary answers about the runs."""

    plugin_name = NAME

    def __init__(self, context: Any) -> None:
        self._provider = context.data_provider

    def frontend_metadata(self) -> Any:
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Winit")

    def is_active(self) -> bool:
        """Return False, on which TensorBoard itself looks for tensors of this plugin."""
        return False

    def get_plugin_apps(self) -> dict[str, Any]:
        files = (path for path in STATIC.iterdir() if path.suffix in MEDIA_TYPES)
        apps: dict[str, App] = {f"/{path.name}": partial(_serve_file, path) for path in files}
        apps["/runs"] = self._serve_runs
        apps["/table"] = self._serve_table
        apps["/histogram"] = self._serve_histogram
        apps["/findings"] = self._serve_findings
        return {route: wrappers.Request.application(app) for route, app in apps.items()}

    def _serve_runs(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with the layout of every table, and the last step of tables and findings.

        The entries of `skipped` name what this version cannot read, those of `waiting` the runs
        that a monitor has started but not yet filled.
        """
        tables, findings, skipped = [], [], []
        for run, tag, series, content in self._list_series(request):
            if content is None:
                skipped.append({"run": run, "tag": tag})
                continue
            progress = {"run": run, "step": series.max_step, "time": series.max_wall_time}
            if content["kind"] == "findings":
                findings.append(progress)
            else:
                layout = {key: content[key] for key in ("kind", "rows", "tags", "columns")}
                tables.append({**progress, "tag": tag, **layout})
        known = {entry["run"] for entry in (*tables, *findings, *skipped)}
        runs = [run.run_name for run in self._provider.list_runs(**_experiment(request))]
        waiting = [run for run in runs if RUN_NAME.fullmatch(run) and run not in known]
        answer = {"tables": tables, "findings": findings, "skipped": skipped, "waiting": waiting}
        return _json_response(request, answer)

    def _serve_table(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with one column, or one row, of a table over all its steps.

        The body is little-endian: the n steps as float64, then the w values of each step as
        float32, then a byte for each of the w series. The byte is 1 if the statistic does not
        apply, that is, if the series is NaN at every step although its row has numbers in other
        columns.
        """
        run, tag = _text_argument(request, "run"), _text_argument(request, "tag")
        only = provider.RunTagFilter([run], [tag])
        layout = next((content for *_, content in self._list_series(request, only)), None)
        if layout is None or layout["kind"] == "findings":
            raise exceptions.NotFound("no such table")
        shape = len(layout["rows"]), len(layout["columns"])
        steps, values = self._read_table(request, run, tag, shape)
        axis = 2 if "column" in request.args else 1
        index = _index_argument(request, "column" if axis == 2 else "row", shape[axis - 1])
        selected = values[:, :, index] if axis == 2 else values[:, index, :]
        rows_with_numbers = ~np.isnan(values).all((0, 2))
        in_row_with_numbers = rows_with_numbers if axis == 2 else rows_with_numbers[index]
        absent = np.isnan(selected).all(0) & in_row_with_numbers
        body = steps.astype("<f8").tobytes() + selected.astype("<f4").tobytes() + absent.tobytes()
        return http_util.Respond(request, body, "application/octet-stream")

    def _read_table(
        self, request: wrappers.Request, run: str, tag: str, shape: tuple[int, int]
    ) -> tuple[Any, Any]:
        """Return the n steps, and the values with shape `(n, rows, columns)`."""
        data = self._read_tensors(request, NAME, run, tag, MAX_STEPS)
        tables = {d.step: d.numpy for d in data if contents.is_table(d.numpy, shape)}
        if data and not tables:
            raise exceptions.UnprocessableEntity(f"no step holds numbers of shape {shape}")
        steps = sorted(tables)
        with np.errstate(over="ignore"):
            values = np.array([tables[step] for step in steps], np.float32)
        return np.array(steps, np.float64), values.reshape(len(steps), *shape)

    def _serve_histogram(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with one layer's `[{"step": ..., "bins": [[left, right, count], ...]}, ...]`."""
        run, tag = _text_argument(request, "run"), _text_argument(request, "tag")
        data = self._read_tensors(request, "histograms", run, HISTOGRAM_PREFIX + tag, MAX_STEPS)
        steps = [d for d in data if contents.is_histogram(d.numpy)]
        if data and not steps:
            raise exceptions.UnprocessableEntity("no step holds the bins of a histogram")
        return _json_response(request, [{"step": d.step, "bins": d.numpy.tolist()} for d in steps])

    def _serve_findings(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with the newest findings of a run, as they were written."""
        data = self._read_tensors(request, NAME, _text_argument(request, "run"), FINDINGS_TAG, 1)
        findings = contents.parsed_findings(data[-1].numpy) if data else []
        if findings is None:
            raise exceptions.UnprocessableEntity("the findings are not those of a monitor")
        return _json_response(request, findings)

    def _list_series(
        self, request: wrappers.Request, only: provider.RunTagFilter | None = None
    ) -> Iterator[tuple[str, str, Any, Any]]:
        """Yield run, tag, time series and content of everything that is meant for the tab.

        The content is None if this version cannot read it.
        """
        runs = self._provider.list_tensors(
            **_experiment(request), plugin_name=NAME, run_tag_filter=only
        )
        for run, tags in runs.items():
            for tag, series in tags.items():
                content = contents.parsed_json(series.plugin_content)
                yield run, tag, series, content if contents.is_layout(content) else None

    def _read_tensors(
        self, request: wrappers.Request, plugin: str, run: str, tag: str, max_steps: int
    ) -> Any:
        try:
            runs: Mapping[str, Any] = self._provider.read_tensors(
                **_experiment(request),
                plugin_name=plugin,
                downsample=max_steps,
                run_tag_filter=provider.RunTagFilter([run], [tag]),
            )
        except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
            # The bytes of a tensor do not fit its dtype and shape, or there is no such dtype.
            raise exceptions.UnprocessableEntity("a step holds no tensor") from error
        return runs.get(run, {}).get(tag, [])


def _experiment(request: wrappers.Request) -> dict[str, Any]:
    return {
        "ctx": plugin_util.context(request.environ),
        "experiment_id": plugin_util.experiment_id(request.environ),
    }


def _serve_file(path: Path, request: wrappers.Request) -> wrappers.Response:
    return http_util.Respond(request, path.read_bytes(), MEDIA_TYPES[path.suffix])


def _json_response(request: wrappers.Request, value: Any) -> wrappers.Response:
    return http_util.Respond(request, value, "application/json")


def _text_argument(request: wrappers.Request, name: str) -> str:
    value: str | None = request.args.get(name)
    if value is None:
        raise exceptions.BadRequest(f"`{name}` is missing")
    return value


def _index_argument(request: wrappers.Request, name: str, end: int) -> int:
    value: int | None = request.args.get(name, type=int)
    if value is None or not 0 <= value < end:
        raise exceptions.BadRequest(f"`{name}` must be an integer >= 0 and < {end}")
    return value
