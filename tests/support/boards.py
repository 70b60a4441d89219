"""Writers with records to write, and TensorBoard's own readers to read them back."""

import json
import resource
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from keras_winit.monitor import CsvWriter, JsonLinesWriter, TensorBoardWriter
from keras_winit.monitor.records import Record

RECORD = Record(
    step=0,
    layers=("block/conv", "block/conv.pre", "dense", "dense@2"),
    statistics=("stddev", "dead_share", "minimum"),
    values=np.array(
        [[0.1, 0.25, -np.inf], [0.5, np.nan, -3], [2, 0.5, np.nan], [1, np.nan, 1e-30]], "float32"
    ),
    variables=("block/conv/kernel", "dense/kernel"),
    variable_statistics=("gradient_norm", "update_ratio"),
    variable_values=np.array([[0.75, 1e-3], [np.inf, np.nan]], "float32"),
    edges=np.array([-2.0, -1.0, 0.0, 0.5, 3.0]),
    counts=np.array([[0, 3, 0, 1], [0, 0, 0, 0], [0, 0, 7, 0], [1, 1, 1, 1]], "float32"),
    loss=0.5,
)

# A record that holds no number.
EMPTY_RECORD = replace(
    RECORD,
    values=np.full_like(RECORD.values, np.nan),
    variables=(),
    variable_values=np.zeros((0, 2), "float32"),
    edges=np.zeros(0),
    counts=np.zeros((4, 0), "float32"),
    loss=None,
)

FINDING = {
    "rule": "dead_units",
    "severity": "warning",
    "layer": "dense",
    "step": 1,
    "value": float("nan"),
    "threshold": 0.5,
    "healthy_range": [0.0, 0.385],
    "cause": "<b>no</b> positive | output",
    "remedy": "he_normal",
    "first_step": 0,
    "hits": 3,
    "consequences": [{"rule": "saturated", "severity": "info", "layer": "block/out", "step": 1}],
}


@contextmanager
def full_disk(size):
    """Let files grow to `size` bytes only. Python ignores the signal and raises an error.

    This holds for all files of the process, so it must end before pytest reports the test: the
    report may be longer than `size`.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def at(step, record=RECORD):
    """Return the record at another step, with a loss that depends on the step."""
    return replace(record, step=step, loss=step / 4)


def python_provider(log_dir):
    """Return a data provider that has read a log directory with TensorBoard's Python loader."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer

    guidance = dict.fromkeys(("scalars", "histograms", "text", "keras_winit"), 1000)
    runs = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance=guidance)
    runs.AddRunsFromDirectory(str(log_dir))
    runs.Reload()
    return data_provider.MultiplexerDataProvider(runs, str(log_dir))


def rust_provider(log_dir):
    """Return a data provider of TensorBoard's fast loader, which reads in another process."""
    from tensorboard.data import server_ingester
    from tensorboard.util import grpc_util

    ingester = server_ingester.SubprocessServerDataIngester(
        server_binary=server_ingester.get_server_binary(),
        logdir=str(log_dir),
        reload_interval=0,
        channel_creds_type=grpc_util.ChannelCredsType.LOCAL,
        samples_per_plugin={"keras_winit": 1000},
    )
    ingester.start()
    # The process ends when its ingester is deleted.
    ingester.data_provider.ingester = ingester
    return ingester.data_provider


PROVIDERS = {"python": python_provider, "rust": rust_provider}


def read(loader, log_dir, until=()):
    """Return all that a loader of TensorBoard reads: {(run, tag): [(step, value), ...]}.

    Args:
        loader: "python" or "rust".
        log_dir: The directory that `tensorboard --logdir` would get.
        until: A (run, tag) and the number of values to wait for, as the fast loader reads in
            another process. Empty: do not wait.
    """
    provider = PROVIDERS[loader](log_dir)
    return wait(provider, *until) if until else _read(provider)


def wait(provider, key, count):
    """Return all that a provider reads once it has `count` values of a key, or after 30 s."""
    deadline = time.monotonic() + 30
    while len((found := _read(provider)).get(key, ())) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _read(provider):
    from tensorboard.context import RequestContext

    experiment = {"ctx": RequestContext(), "experiment_id": ""}
    plugins = ("scalars", "histograms", "text", "custom_scalars", "keras_winit")
    found = {}
    for plugin in plugins:
        method, field = provider.read_tensors, "numpy"
        if plugin == "scalars":
            method, field = provider.read_scalars, "value"
        series = method(**experiment, plugin_name=plugin, downsample=10_000)
        for run, tags in series.items():
            for tag, points in tags.items():
                found[run, tag] = [(point.step, getattr(point, field)) for point in points]
    return found


def descriptions(loader, log_dir):
    """Return the description that each tag of our plugin carries: {tag: JSON}."""
    from tensorboard.context import RequestContext

    listed = PROVIDERS[loader](log_dir).list_tensors(
        RequestContext(), experiment_id="", plugin_name="keras_winit"
    )
    return {tag: series.plugin_content for tag, series in listed["winit"].items()}


# Functions that make a writer of each kind below a directory.
WRITERS = {
    "tensorboard": lambda path: TensorBoardWriter(path / "logs"),
    "json": lambda path: JsonLinesWriter(path / "logs" / "out.jsonl"),
    "csv": lambda path: CsvWriter(path / "logs" / "out.csv"),
}


def written_steps(path):
    """Return the step of each record that one of `WRITERS` has written below a directory."""
    if (path / "logs" / "winit").exists():
        return [step for step, _ in read("python", path / "logs")["winit", "winit/loss"]]
    (file,) = (path / "logs").iterdir()
    lines = file.read_text().splitlines()
    if file.suffix == ".jsonl":
        return [json.loads(line)["step"] for line in lines]
    return [int(line.split(",")[0]) for line in lines[1:] if ",loss," in line]
