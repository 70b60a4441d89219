"""Weights & Biases, MLflow and Trackio: real runs, offline, read back with the libraries."""

import copy
import html
import json
import sys

import numpy as np
import pytest
from support.boards import FINDING, RECORD, at
from support.monitored import fit, tiny

from keras_winit import ActivationMonitor
from keras_winit.monitor import MlflowWriter, TrackioWriter, WandbWriter
from keras_winit.monitor.output.curves import curve_points

WRITERS = {"wandb": WandbWriter, "mlflow": MlflowWriter, "trackio": TrackioWriter}

# The curves of `RECORD`, by hand.
POINTS = {
    "winit/loss": 0.5,
    "winit/stddev_min": 0.1,
    "winit/stddev_median": 0.75,
    "winit/stddev_max": 2.0,
    "winit_stddev/000_block_conv": 0.1,
    "winit_stddev/001_block_conv.pre": 0.5,
    "winit_stddev/002_dense": 2.0,
    "winit_stddev/003_dense@2": 1.0,
    "winit/dead_share_min": 0.25,
    "winit/dead_share_median": 0.375,
    "winit/dead_share_max": 0.5,
    "winit_dead_share/000_block_conv": 0.25,
    "winit_dead_share/002_dense": 0.5,
    "winit_gradient_norm/000_block_conv_kernel": 0.75,
    "winit_gradient_norm/001_dense_kernel": np.inf,
    "winit_update_ratio/000_block_conv_kernel": 1e-3,
}


class WandbRun:
    """An offline run, whose summary holds the last point of each curve."""

    def __init__(self, folder):
        wandb = pytest.importorskip("wandb")
        settings = wandb.Settings(x_disable_stats=True, disable_git=True, silent=True)
        self.folder, self.end = folder, wandb.finish
        self.run = wandb.init(mode="offline", dir=folder, project="test", settings=settings)

    def last(self, name):
        return self.run.summary["winit/step"], self.run.summary[name]

    def findings(self):
        (table,) = (self.folder / "wandb" / "latest-run").rglob("findings*.table.json")
        return table.read_text()


class MlflowRun:
    def __init__(self, folder):
        mlflow = pytest.importorskip("mlflow")
        mlflow.set_tracking_uri((folder / "mlruns").as_uri())
        self.run, self.end = mlflow.start_run(), mlflow.end_run
        self.load_text = mlflow.artifacts.load_text
        self.history = mlflow.MlflowClient().get_metric_history

    def last(self, name):
        point = self.history(self.run.info.run_id, name.replace("@", " call "))[-1]
        return point.step, point.value

    def findings(self):
        return self.load_text(f"{self.run.info.artifact_uri}/winit/findings.md")


class TrackioRun:
    """A local run, which can be read once it has ended."""

    def __init__(self, folder):
        self.trackio = pytest.importorskip("trackio")
        self.run = self.trackio.init(
            project="test", embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
        self.ended = False

    def end(self):
        if not self.ended:
            self.ended = True
            self.trackio.finish()

    def rows(self):
        from trackio.sqlite_storage import SQLiteStorage

        self.end()
        return SQLiteStorage.get_logs("test", self.run.name)

    def last(self, name):
        return [(row["step"], row[name]) for row in self.rows() if name in row][-1]

    def findings(self):
        return [row["winit/findings"] for row in self.rows() if "winit/findings" in row][-1][
            "_value"
        ]


@pytest.fixture(params=[WandbRun, MlflowRun, TrackioRun], ids=WRITERS)
def active(request, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = request.param(tmp_path)
    yield run
    run.end()


@pytest.fixture
def writer_class(request, active):
    return WRITERS[request.node.callspec.id]


def test_curves_have_the_names_of_tensorboard_and_no_nan():
    points = curve_points(
        RECORD, ("stddev", "dead_share", "absent"), ("gradient_norm", "update_ratio"), 4
    )
    assert points == pytest.approx(POINTS)
    assert list(points) == list(POINTS)


def test_too_many_layers_get_no_curves_of_their_own():
    points = curve_points(RECORD, ("stddev",), (), 2)
    assert not any(name.startswith("winit_") for name in points)
    # The pre-activation does not count.
    assert "winit_stddev/002_dense" in curve_points(RECORD, ("stddev",), (), 3)


def test_points_reach_the_active_run(active, writer_class):
    writer = writer_class()
    for step in (3, 7):
        writer.write(at(step))
    writer.write_findings(7, [{**FINDING, "remedy": "draw anew"}])
    writer.end()
    for name, value in {**POINTS, "winit/loss": 7 / 4}.items():
        assert active.last(name) == (7, pytest.approx(value)), name
    findings = html.unescape(active.findings())
    assert "dead_units" in findings
    assert "draw anew" in findings


def test_training_is_logged_to_the_end(active, writer_class):
    monitor = ActivationMonitor(every=1, writers=[writer_class(run=active.run)], verbose=0)
    fit(tiny(), monitor)
    last = monitor.history.records[-1]
    assert active.last("winit/loss") == (last.step, pytest.approx(last.loss))
    assert len(monitor.writers) == 1


def test_a_copy_logs_to_the_active_run(active, writer_class):
    writer = copy.deepcopy(writer_class(run=active.run))
    writer.write(at(5))
    assert active.last("winit/loss") == (5, 1.25)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_run_is_said_how_to_start(kind):
    pytest.importorskip(kind)
    start = {"wandb": "wandb.init(...)", "mlflow": "mlflow.start_run()"}
    name = WRITERS[kind].__name__
    with pytest.raises(ValueError, match="needs a run") as caught:
        WRITERS[kind]().write(RECORD)
    assert str(caught.value) == (
        f"`{name}` needs a run. Received: run=None, and none is active. "
        f"Call `{start.get(kind, 'trackio.init(...)')}` before `fit`."
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_library_is_named_with_its_extra(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        WRITERS[kind]()
    assert str(caught.value) == (
        f"`{WRITERS[kind].__name__}` needs {kind}. Install it with "
        f'`pip install "keras-winit[{kind}]"`.'
    )


LOADED = """
import sys, json
import keras_winit
keras_winit.monitor.WandbWriter, keras_winit.ActivationMonitor
print(json.dumps([name for name in ("wandb", "mlflow", "trackio") if name in sys.modules]))
"""


def test_the_libraries_are_loaded_on_use_only(fresh_process):
    assert json.loads(fresh_process(LOADED)) == []
