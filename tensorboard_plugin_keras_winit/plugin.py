"""Serves the tab's page and the tables, histograms and findings that a run has written.

TensorBoard imports this file when it starts, and an error here would keep it from starting:
hence nothing but what TensorBoard itself needs.
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
TYPES = {".js": "text/javascript", ".css": "text/css"}

FINDINGS = "winit/findings"
HISTOGRAMS = "winit_hist/"

# How many steps of a table TensorBoard keeps; the default for tensors is 10 or 100.
STEPS = 2000

App = Callable[[wrappers.Request], wrappers.Response]


class Loader(base_plugin.TBLoader):
    """How TensorBoard finds the plugin."""

    def fix_flags(self, flags: Any) -> None:
        flags.samples_per_plugin.setdefault(NAME, STEPS)

    def load(self, context: Any) -> "Plugin | None":
        return None if context.data_provider is None else Plugin(context)


class Plugin(base_plugin.TBPlugin):
    """The tab."""

    plugin_name = NAME

    def __init__(self, context: Any) -> None:
        self._data = context.data_provider

    def frontend_metadata(self) -> Any:
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Winit")

    def is_active(self) -> bool:
        """False: TensorBoard looks for tensors of ours itself."""
        return False

    def get_plugin_apps(self) -> dict[str, Any]:
        files = (path for path in STATIC.iterdir() if path.suffix in TYPES)
        apps: dict[str, App] = {f"/{path.name}": partial(_static, path) for path in files}
        apps["/runs"] = self._runs
        apps["/table"] = self._table
        apps["/histogram"] = self._histogram
        apps["/findings"] = self._findings
        return {route: wrappers.Request.application(app) for route, app in apps.items()}

    def _runs(self, request: wrappers.Request) -> wrappers.Response:
        """All tables with their names, and when they and the findings last grew."""
        tables, findings = [], []
        for run, tag, series, content in self._listed(request):
            grown = {"run": run, "step": series.max_step, "time": series.max_wall_time}
            if content["kind"] == "findings":
                findings.append(grown)
            else:
                names = {key: content[key] for key in ("kind", "rows", "tags", "columns")}
                tables.append({**grown, "tag": tag, **names})
        return _json(request, {"tables": tables, "findings": findings})

    def _table(self, request: wrappers.Request) -> wrappers.Response:
        """One column (or row) of a table over the n steps, as little-endian numbers.

        The steps as n float64, then the w values of each step as float32, then for each of
        the w a byte: whether it is NaN throughout although its row has numbers, that is, does
        not apply.
        """
        run, tag = _text(request, "run"), _text(request, "tag")
        found = [content for *key, _, content in self._listed(request) if key == [run, tag]]
        if not found or found[0]["kind"] == "findings":
            raise exceptions.NotFound("no such table")
        shape = len(found[0]["rows"]), len(found[0]["columns"])
        steps, values = self._values(request, run, tag, shape)
        axis = 2 if "column" in request.args else 1
        index = _index(request, "column" if axis == 2 else "row", shape[axis - 1])
        chosen = values[:, :, index] if axis == 2 else values[:, index, :]
        has_numbers = ~np.isnan(values).all((0, 2))
        rows = has_numbers if axis == 2 else has_numbers[index]
        absent = np.isnan(chosen).all(0) & rows
        body = steps.astype("<f8").tobytes() + chosen.astype("<f4").tobytes() + absent.tobytes()
        return http_util.Respond(request, body, "application/octet-stream")

    def _values(
        self, request: wrappers.Request, run: str, tag: str, shape: tuple[int, int]
    ) -> tuple[Any, Any]:
        data = self._read(request, NAME, run, tag, STEPS)
        tables = {datum.step: datum.numpy for datum in data if datum.numpy.shape == shape}
        steps = sorted(tables)
        values = np.array([tables[step] for step in steps], np.float32)
        return np.array(steps, np.float64), values.reshape(len(steps), *shape)

    def _histogram(self, request: wrappers.Request) -> wrappers.Response:
        """The histograms of one layer: `[{"step", "bins": [[left, right, count], ...]}]`."""
        run, tag = _text(request, "run"), HISTOGRAMS + _text(request, "tag")
        data = self._read(request, "histograms", run, tag, STEPS)
        return _json(request, [{"step": d.step, "bins": d.numpy.tolist()} for d in data])

    def _findings(self, request: wrappers.Request) -> wrappers.Response:
        """The newest findings of a run, as they were written."""
        data = self._read(request, NAME, _text(request, "run"), FINDINGS, 1)
        return _json(request, json.loads(data[-1].numpy.item()) if data else [])

    def _listed(self, request: wrappers.Request) -> Iterator[tuple[str, str, Any, Any]]:
        """Run, tag, series and description of everything of ours that we understand."""
        listed = self._data.list_tensors(**_where(request), plugin_name=NAME)
        for run, tags in listed.items():
            for tag, series in tags.items():
                content = json.loads(series.plugin_content)
                if content["version"] == VERSION:
                    yield run, tag, series, content

    def _read(self, request: wrappers.Request, plugin: str, run: str, tag: str, most: int) -> Any:
        found: Mapping[str, Any] = self._data.read_tensors(
            **_where(request),
            plugin_name=plugin,
            downsample=most,
            run_tag_filter=provider.RunTagFilter([run], [tag]),
        )
        return found.get(run, {}).get(tag, [])


def _where(request: wrappers.Request) -> dict[str, Any]:
    return {
        "ctx": plugin_util.context(request.environ),
        "experiment_id": plugin_util.experiment_id(request.environ),
    }


def _static(path: Path, request: wrappers.Request) -> wrappers.Response:
    return http_util.Respond(request, path.read_bytes(), TYPES[path.suffix])


def _json(request: wrappers.Request, value: Any) -> wrappers.Response:
    return http_util.Respond(request, value, "application/json")


def _text(request: wrappers.Request, name: str) -> str:
    value: str | None = request.args.get(name)
    if value is None:
        raise exceptions.BadRequest(f"`{name}` is missing")
    return value


def _index(request: wrappers.Request, name: str, end: int) -> int:
    value: int | None = request.args.get(name, type=int)
    if value is None or not 0 <= value < end:
        raise exceptions.BadRequest(f"`{name}` must be an integer >= 0 and < {end}")
    return value
