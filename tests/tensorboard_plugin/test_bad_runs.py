"""The tab with runs that no monitor has written: it skips them, says so, and serves the others."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from support.boards import RECORD, python_provider
from werkzeug.test import Client

from keras_winit.monitor import TensorBoardWriter
from keras_winit.monitor.output.events import EventFile, SummaryBuilder
from tensorboard_plugin_keras_winit.plugin import Loader

TABLE = {"version": 1, "kind": "layers", "rows": ["a"], "tags": ["0_a"], "columns": ["stddev"]}
DESCRIPTIONS = {
    "empty": b"",
    "broken": b'{"version": 1',
    "null": b"null",
    "no_rows": json.dumps({**TABLE, "rows": None}).encode(),
    "rows_of_numbers": json.dumps({**TABLE, "rows": [1]}).encode(),
    "not_utf8": b'{"version": 1, "kind": "\xff"}',
    "deep": b"[" * 3000 + b"]" * 3000,
}
FINDINGS = [b"", b"null", b"3", b"[3]", b"[" * 900 + b"]" * 900, b'[{"a": {}}]', b"\xff"]


def write(path, tag, value, description, plugin="keras_winit"):
    summary = SummaryBuilder(set())
    summary._add_tensor(tag, value, plugin, description)
    file = EventFile(path, 0)
    file.write(0, summary)
    file.close()


def client(path):
    apps = Loader().load(SimpleNamespace(data_provider=python_provider(path))).get_plugin_apps()
    return lambda route, **query: Client(apps[route]).get(route, query_string=query)


def test_runs_with_bad_descriptions_are_skipped_and_named(tmp_path):
    for name, description in DESCRIPTIONS.items():
        write(tmp_path / name, "t", np.ones((1, 1), "float32"), description)
    writer = TensorBoardWriter(tmp_path / "good")
    writer.write(RECORD)
    writer.close()
    get = client(tmp_path)
    answer = get("/runs")
    assert answer.status_code == 200
    assert {table["run"] for table in answer.json["tables"]} == {"good/winit"}
    assert {skipped["run"] for skipped in answer.json["skipped"]} == set(DESCRIPTIONS)
    assert get("/table", run="deep", tag="t", column=0).status_code == 404


@pytest.mark.parametrize("value", [b"text", np.ones(3, "float32"), np.ones((1, 2), "float32")])
def test_tables_of_another_shape_or_type_are_refused(tmp_path, value):
    write(tmp_path / "run", "t", value, json.dumps(TABLE).encode())
    assert client(tmp_path)("/table", run="run", tag="t", column=0).status_code == 422


@pytest.mark.parametrize("value", [*FINDINGS, np.ones(3, "float32")], ids=repr)
def test_findings_of_another_form_are_refused(tmp_path, value):
    description = json.dumps({"version": 1, "kind": "findings"}).encode()
    write(tmp_path / "run", "winit/findings", value, description)
    assert client(tmp_path)("/findings", run="run").status_code == 422


@pytest.mark.parametrize(
    "value", [b"x", np.ones(3, "float32"), np.ones((0, 3), "float32"), np.full((2, 3), np.nan)]
)
def test_histograms_of_another_form_are_refused(tmp_path, value):
    write(tmp_path / "run", "winit_hist/a", value, b"", "histograms")
    assert client(tmp_path)("/histogram", run="run", tag="a").status_code == 422
