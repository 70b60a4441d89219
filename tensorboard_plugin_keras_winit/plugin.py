"""Serves the page of the tab, and the tables, histograms and findings that a run has written.

TensorBoard imports this module when it starts, and an exception here would stop TensorBoard. The
module therefore imports only packages that TensorBoard itself needs.
"""

import json
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

NAME = "keras_winit"
VERSION = 1
STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}

FINDINGS_TAG = "winit/findings"
HISTOGRAM_PREFIX = "winit_hist/"

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

        The entries of `skipped` name the series whose descriptions are not those of the monitor.
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
        return _json_response(request, {"tables": tables, "findings": findings, "skipped": skipped})

    def _serve_table(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with one column, or one row, of a table over all its steps.

        The body is little-endian: the n steps as float64, then the w values of each step as
        float32, then a byte for each of the w series. The byte is 1 if the statistic does not
        apply, that is, if the series is NaN at every step although its row has numbers in other
        columns.
        """
        run, tag = _text_argument(request, "run"), _text_argument(request, "tag")
        contents = [content for *key, _, content in self._list_series(request) if key == [run, tag]]
        if not contents or contents[0] is None or contents[0]["kind"] == "findings":
            raise exceptions.NotFound("no such table")
        shape = len(contents[0]["rows"]), len(contents[0]["columns"])
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
        tables = {datum.step: datum.numpy for datum in data if _holds_numbers(datum, shape)}
        if data and not tables:
            raise exceptions.UnprocessableEntity(f"its steps are no numbers of shape {shape}")
        steps = sorted(tables)
        values = np.array([tables[step] for step in steps], np.float32)
        return np.array(steps, np.float64), values.reshape(len(steps), *shape)

    def _serve_histogram(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with one layer's `[{"step": ..., "bins": [[left, right, count], ...]}, ...]`."""
        run, tag = _text_argument(request, "run"), _text_argument(request, "tag")
        data = self._read_tensors(request, "histograms", run, HISTOGRAM_PREFIX + tag, MAX_STEPS)
        histograms = [
            {"step": datum.step, "bins": datum.numpy.tolist()}
            for datum in data
            if _holds_numbers(datum, (len(datum.numpy), 3) if np.ndim(datum.numpy) else ())
            and len(datum.numpy)
            and np.isfinite(datum.numpy).all()
        ]
        if len(data) and not histograms:
            raise exceptions.UnprocessableEntity("its steps are no bins of three finite numbers")
        return _json_response(request, histograms)

    def _serve_findings(self, request: wrappers.Request) -> wrappers.Response:
        """Answer with the newest findings of a run, as they were written."""
        data = self._read_tensors(request, NAME, _text_argument(request, "run"), FINDINGS_TAG, 1)
        findings = _parsed(_only_entry(data[-1])) if data else []
        if not _is_findings(findings):
            raise exceptions.UnprocessableEntity("its findings are not those of the monitor")
        return _json_response(request, findings)

    def _list_series(self, request: wrappers.Request) -> Iterator[tuple[str, str, Any, Any]]:
        """Yield run, tag, time series and content of everything with this format version.

        The content is None if it is not one that the monitor writes.
        """
        runs = self._provider.list_tensors(**_experiment(request), plugin_name=NAME)
        for run, tags in runs.items():
            for tag, series in tags.items():
                content = _parsed(series.plugin_content)
                if not isinstance(content, dict) or "version" not in content:
                    yield run, tag, series, None
                elif content["version"] == VERSION:
                    yield run, tag, series, content if _is_description(content) else None

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
        except (ValueError, TypeError) as error:
            # The bytes of a tensor do not fit its dtype and shape.
            raise exceptions.UnprocessableEntity("its steps are no tensors") from error
        return runs.get(run, {}).get(tag, [])


def _parsed(text: Any) -> Any:
    """Return the value of a JSON text, or None if it is none that can be read."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _is_description(content: dict[str, Any]) -> bool:
    """Return whether a parsed description is one that the monitor writes."""
    kind, names = content.get("kind"), [content.get(key) for key in ("rows", "tags", "columns")]
    if not isinstance(kind, str) or kind == "findings":
        return kind == "findings"
    listed = all(isinstance(each, list) for each in names)
    return (
        listed
        and len(names[0]) == len(names[1])
        and all(isinstance(name, str) for each in names for name in each)
    )


def _holds_numbers(datum: Any, shape: tuple[int, ...]) -> bool:
    return datum.numpy.shape == shape and datum.numpy.dtype.kind in "fiu"


def _only_entry(datum: Any) -> Any:
    return datum.numpy.item() if datum.numpy.size == 1 else None


def _is_findings(findings: Any, consequences: bool = True) -> bool:
    """Return whether a parsed value is a list of findings, whose consequences have none."""
    return isinstance(findings, list) and all(
        isinstance(finding, dict)
        and all(
            _is_findings(value, False)
            if name == "consequences" and consequences
            else _is_plain(value)
            for name, value in finding.items()
        )
        for finding in findings
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value is no list of lists and no object."""
    if isinstance(value, list):
        return not any(isinstance(entry, list | dict) for entry in value)
    return not isinstance(value, dict)


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
