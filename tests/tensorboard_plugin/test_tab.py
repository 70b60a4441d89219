"""Server of the tab: its routes, its answers and its refusals."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import boards
from support.boards import FINDING, RECORD, at
from werkzeug.test import Client

import tensorboard_plugin_keras_winit
from keras_winit.monitor import TensorBoardWriter
from keras_winit.monitor.diagnosis.rules import RULES
from keras_winit.monitor.output import events
from tensorboard_plugin_keras_winit import contents, plugin
from tensorboard_plugin_keras_winit.plugin import Loader

HOME = Path(tensorboard_plugin_keras_winit.__file__).parent
HOSTILE = ("<img src=x onerror=alert(1)>", "\u202eschön\u5c42", "x" * 3000, "same", "same")


def write(path, *records, findings=()):
    """Write records, and findings as pairs of a step and a list."""
    writer = TensorBoardWriter(path)
    for record in records:
        writer.write(record)
    for step, step_findings in findings:
        writer.write_findings(step, step_findings)
    writer.close()


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs")
    findings = [(1, []), (2, [FINDING, {**FINDING, "layer": HOSTILE[0]}])]
    write(path / "a", *map(at, range(3)), findings=findings)
    hostile = replace(RECORD, layers=HOSTILE[:4], variables=HOSTILE[3:])
    write(path / "b", at(7, hostile))
    return path


class Tab:
    def __init__(self, provider):
        self.apps = Loader().load(SimpleNamespace(data_provider=provider)).get_plugin_apps()

    def get(self, route, **query):
        return Client(self.apps[route]).get(route, query_string=query)


@pytest.fixture(scope="module", params=["python", "rust"])
def tab(request, log_dir):
    provider = boards.PROVIDERS[request.param](log_dir)
    boards.wait(provider, ("b/winit", "winit/loss"), 1)
    boards.wait(provider, ("a/winit", "winit/loss"), 3)
    return Tab(provider)


def tables(tab):
    return {(t["run"], t["kind"]): t for t in tab.get("/runs").json["tables"]}


def decode(answer, width):
    """Return the steps, the values with shape (steps, width), and the absent flags."""
    data = answer.data
    count = (len(data) - width) // (8 + 4 * width)
    steps = np.frombuffer(data, "<f8", count)
    values = np.frombuffer(data, "<f4", count * width, 8 * count).reshape(count, width)
    return steps.tolist(), values, list(data[(8 + 4 * width) * count :])


def test_runs(tab):
    answer = tab.get("/runs")
    assert answer.mimetype == "application/json"
    listed = tables(tab)
    assert set(listed) == {(r, k) for r in ("a/winit", "b/winit") for k in ("layers", "variables")}
    table = listed["a/winit", "layers"]
    assert re.fullmatch(r"winit/layers/[0-9a-f]{8}", table.pop("tag"))
    assert table.pop("time") > 1.6e9
    assert table == {
        "run": "a/winit",
        "kind": "layers",
        "rows": ["block/conv", "block/conv.pre", "dense", "dense@2"],
        "tags": ["000_block_conv", "001_block_conv.pre", "002_dense", "003_dense@2"],
        "columns": ["stddev", "dead_share", "minimum"],
        "step": 2,
    }
    assert listed["b/winit", "layers"]["rows"] == list(HOSTILE[:4])
    assert listed["b/winit", "variables"]["rows"] == ["same", "same"]
    assert [finding["run"] for finding in answer.json["findings"]] == ["a/winit"]


def test_one_column_of_a_table(tab):
    tag = tables(tab)["a/winit", "layers"]["tag"]
    steps, values, absent = decode(tab.get("/table", run="a/winit", tag=tag, column=1), 4)
    assert steps == [0, 1, 2]
    nan = float("nan")
    np.testing.assert_array_equal(values, [np.float32([0.25, nan, 0.5, nan])] * 3)
    # These layers have numbers in other columns, but none in this one.
    assert absent == [0, 1, 0, 1]
    _, values, absent = decode(tab.get("/table", run="a/winit", tag=tag, column=2), 4)
    np.testing.assert_array_equal(values[0], np.float32([-np.inf, -3, nan, 1e-30]))
    assert absent == [0, 0, 1, 0]


def test_one_row_of_a_table(tab):
    tag = tables(tab)["a/winit", "layers"]["tag"]
    steps, values, absent = decode(tab.get("/table", run="a/winit", tag=tag, row=2), 3)
    assert steps == [0, 1, 2]
    np.testing.assert_array_equal(values, [np.float32([2, 0.5, np.nan])] * 3)
    assert absent == [0, 0, 1]


def test_a_layer_without_any_number_is_not_absent(tmp_path):
    broken = RECORD.values.copy()
    broken[1] = np.nan
    write(tmp_path, at(0, replace(RECORD, values=broken)))
    tab = Tab(boards.python_provider(tmp_path))
    tag = tables(tab)["winit", "layers"]["tag"]
    assert decode(tab.get("/table", run="winit", tag=tag, column=1), 4)[2] == [0, 0, 0, 1]
    assert decode(tab.get("/table", run="winit", tag=tag, row=1), 3)[2] == [0, 0, 0]


def test_a_value_that_is_nan_at_one_step_is_not_absent(tmp_path):
    values = RECORD.values.copy()
    values[0, 1] = np.nan
    write(tmp_path, at(0), at(1, replace(RECORD, values=values)))
    tab = Tab(boards.python_provider(tmp_path))
    tag = tables(tab)["winit", "layers"]["tag"]
    assert decode(tab.get("/table", run="winit", tag=tag, column=1), 4)[2] == [0, 1, 0, 1]


def test_histograms(tab):
    answer = tab.get("/histogram", run="a/winit", tag="002_dense")
    assert answer.json == [{"step": step, "bins": [[0, 0.5, 7]]} for step in range(3)]
    assert tab.get("/histogram", run="a/winit", tag="001_block_conv.pre").json == []


def test_only_the_newest_findings(tab):
    as_json = {**FINDING, "value": None}
    assert tab.get("/findings", run="a/winit").json == [as_json, {**as_json, "layer": HOSTILE[0]}]
    assert tab.get("/findings", run="b/winit").json == []


@pytest.mark.parametrize("path", sorted((HOME / "static").iterdir()), ids=lambda path: path.name)
def test_static_files(tab, path):
    answer = tab.get(f"/{path.name}")
    assert answer.data == path.read_bytes()
    assert answer.mimetype == {".js": "text/javascript", ".css": "text/css"}[path.suffix]


def test_nothing_else_is_served(tab):
    files = {f"/{path.name}" for path in (HOME / "static").iterdir()}
    assert set(tab.apps) == files | {"/runs", "/table", "/histogram", "/findings"}


@pytest.mark.parametrize(
    ("route", "query", "status", "message"),
    [
        ("/table", {"run": "a/winit"}, 400, "`tag` is missing"),
        ("/table", {"run": "a/winit", "tag": "winit/loss", "column": 0}, 404, "no such table"),
        ("/table", {"run": "a/winit", "tag": "winit/findings", "row": 0}, 404, "no such table"),
        ("/table", {"run": "../a", "tag": "", "column": 0}, 404, "no such table"),
        ("/findings", {}, 400, "`run` is missing"),
        ("/histogram", {"run": "a/winit"}, 400, "`tag` is missing"),
    ],
)
def test_wrong_requests(tab, route, query, status, message):
    answer = tab.get(route, **query)
    assert answer.status_code == status
    assert message in answer.text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"column": 3}, "`column` must be an integer &gt;= 0 and &lt; 3"),
        ({"column": -1}, "`column` must be an integer &gt;= 0 and &lt; 3"),
        ({"column": "<b>"}, "`column` must be an integer &gt;= 0 and &lt; 3"),
        ({"row": 4}, "`row` must be an integer &gt;= 0 and &lt; 4"),
        ({}, "`row` must be an integer &gt;= 0 and &lt; 4"),
    ],
)
def test_wrong_indices_in_a_table(tab, query, message):
    tag = tables(tab)["a/winit", "layers"]["tag"]
    answer = tab.get("/table", run="a/winit", tag=tag, **query)
    assert answer.status_code == 400
    assert message in answer.text
    assert "<b>" not in answer.text


def test_only_histograms_of_the_monitor_are_served(tmp_path):
    write(tmp_path, RECORD)
    tab = Tab(boards.python_provider(tmp_path))
    for tag in ("winit_hist/002_dense", "../002_dense", ""):
        assert tab.get("/histogram", run="winit", tag=tag).json == []


def test_tables_of_a_later_version_are_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr(events, "VERSION", 2)
    write(tmp_path, RECORD)
    tab = Tab(boards.python_provider(tmp_path))
    answer = tab.get("/runs").json
    assert {entry["run"] for entry in answer.pop("skipped")} == {"winit"}
    assert answer == {"tables": [], "findings": [], "waiting": []}


def test_a_run_without_a_record_is_waited_for(tmp_path):
    for name in ("a/winit", "b/winit_2", "train"):
        events.EventFile(tmp_path / name, 0).close()
    tab = Tab(boards.python_provider(tmp_path))
    answer = tab.get("/runs").json
    assert sorted(answer.pop("waiting")) == ["a/winit", "b/winit_2"]
    assert answer == {"tables": [], "findings": [], "skipped": []}


def test_each_finding_is_shown_by_the_statistic_of_its_rule():
    source = (HOME / "static" / "opening.js").read_text()
    shown = dict(re.findall(r'\["(\w+)", \["(\w+)"', source))
    statistics = {rule.id: rule.statistic for rule in RULES}
    # This rule compares weights, which are not a row of a table.
    assert (shown.pop("wrong_init_for_activation"), len(shown)) == ("stddev", 14)
    assert {rule: statistics[rule] for rule in shown} == shown


def test_the_loader():
    flags = SimpleNamespace(samples_per_plugin={"images": 3})
    Loader().fix_flags(flags)
    assert flags.samples_per_plugin == {"images": 3, "keras_winit": 2000}
    flags.samples_per_plugin["keras_winit"] = 5
    Loader().fix_flags(flags)
    assert flags.samples_per_plugin["keras_winit"] == 5
    assert Loader().load(SimpleNamespace(data_provider=None)) is None


def test_the_plugin():
    loaded = Loader().load(SimpleNamespace(data_provider=object()))
    assert loaded.plugin_name == "keras_winit"
    assert loaded.frontend_metadata().es_module_path in loaded.get_plugin_apps()
    assert not loaded.is_active()


LIGHT = """
import sys
import tensorboard_plugin_keras_winit.plugin
heavy = {"keras", "keras_winit", "tensorflow", "jax", "torch", "matplotlib", "scipy"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_the_plugin_loads_no_framework(fresh_process):
    assert fresh_process(LIGHT).strip() == "[]"


def test_plugin_imports_only_what_tensorboard_needs():
    nodes = [node for path in HOME.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert {module.partition(".")[0] for module in imported} == {
        "collections",
        "functools",
        "json",
        "numpy",
        "pathlib",
        "re",
        "tensorboard",
        "tensorboard_plugin_keras_winit",
        "typing",
        "werkzeug",
    }


@pytest.mark.parametrize("path", sorted((HOME / "static").iterdir()), ids=lambda path: path.name)
def test_the_page_makes_no_markup_and_names_no_other_server(path):
    source = path.read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "://"):
        assert word not in source


def test_versions_agree():
    assert contents.VERSION == events.VERSION
    assert plugin.NAME == events.PLUGIN
