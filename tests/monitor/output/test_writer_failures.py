"""Writers that cannot write: full disks, deleted directories, missing packages."""

import json
import os
import re
import shutil
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import boards
from support.boards import RECORD, full_disk, written_steps
from support.monitored import fit, tiny

from keras_winit import ActivationMonitor
from keras_winit.monitor import CsvWriter, JsonLinesWriter, TensorBoardWriter, Writer
from keras_winit.monitor.diagnosis.rules import Rule, Violation


class CallLogger(Writer):
    """Notes the step of each record, and the name of each other call."""

    def __init__(self):
        self.calls = []

    def write(self, record):
        self.calls.append(record.step)

    def write_findings(self, step, findings):
        self.calls.append("findings")

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


class ActsBeforeBatch(keras.callbacks.Callback):
    def __init__(self, batch, act):
        super().__init__()
        self.batch, self.act = batch, act

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.batch:
            self.act()


def warnings_of_training(monitor, *callbacks, count=4):
    """Train `count` steps, check that all were run, and return the messages of warnings."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    # Eager steps save the compilation.
    model.compile("sgd", "mse", run_eagerly=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(
            *(np.ones((count, 3)), np.ones((count, 2))),
            batch_size=1,
            verbose=0,
            callbacks=[*callbacks, monitor],
        )
    assert int(model.optimizer.iterations) == count
    return [str(warning.message) for warning in caught if warning.category is RuntimeWarning]


@pytest.fixture
def monitor(make_writer):
    """Make a monitor with a writer that will fail, and a second writer."""
    return ActivationMonitor(every=1, rules=(), writers=[make_writer(), CallLogger()])


def assert_second_writer_has_all(monitor, count):
    (second,) = monitor.writers
    assert second.calls == [*range(count), "flush", "flush"]


def stop_message(writer, error):
    return f"`{writer}` writes no more, training goes on. Received: {error}"


def test_a_full_disk(monitor, tmp_path):
    writer = repr(monitor.writers[0])
    with full_disk(10_000):
        messages = warnings_of_training(monitor, count=50)
    assert messages == [stop_message(writer, "OSError: [Errno 27] File too large")]
    assert_second_writer_has_all(monitor, 50)
    # The file stays readable to its last byte.
    written = written_steps(tmp_path)
    assert len(written) > 3
    assert written == list(range(len(written)))
    (file,) = (path for path in (tmp_path / "logs").rglob("*") if path.is_file())
    if file.suffix in (".jsonl", ".csv"):
        assert file.read_bytes().endswith(b"\n")
    else:
        assert sum(1 for _ in tf.data.TFRecordDataset(str(file))) == 2 + len(written)


@pytest.mark.parametrize("noticed_by", ["write", "flush"])
def test_a_deleted_directory(noticed_by, monitor, tmp_path):
    logs = tmp_path / "logs"
    remove = {
        "write": lambda: shutil.rmtree(logs),
        "flush": lambda: logs.rename(tmp_path / "gone"),
    }
    writer = monitor.writers[0]
    (message,) = warnings_of_training(monitor, ActsBeforeBatch(2, remove[noticed_by]))
    error = "FileNotFoundError: [Errno 2] deleted while in use: "
    start = re.escape(stop_message(repr(writer), error))
    assert re.fullmatch(f"{start}'{re.escape(str(logs))}.*'", message)
    assert_second_writer_has_all(monitor, 4)
    assert writer._file is None
    assert not logs.exists()


def test_a_file_in_place_of_the_directory(monitor, tmp_path):
    (tmp_path / "logs").write_text("not a directory")
    (message,) = warnings_of_training(monitor)
    assert re.search(r"Received: (NotADirectory|FileExists)Error: \[Errno \d+\] ", message)
    assert_second_writer_has_all(monitor, 4)
    assert (tmp_path / "logs").read_text() == "not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_forbidden_directory(monitor, tmp_path):
    tmp_path.chmod(0o500)
    (message,) = warnings_of_training(monitor)
    assert "Received: PermissionError: [Errno 13] " in message
    assert_second_writer_has_all(monitor, 4)


def test_without_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    monitor = ActivationMonitor(tmp_path, every=1, rules=(), writers=[CallLogger()])
    assert warnings_of_training(monitor) == [
        stop_message(
            f"TensorBoardWriter('{tmp_path}')",
            "ImportError: `TensorBoardWriter` needs tensorboard: pip install tensorboard",
        )
    ]
    assert_second_writer_has_all(monitor, 4)
    assert list(tmp_path.iterdir()) == []


def test_with_a_tensorboard_that_cannot_be_imported(monkeypatch, tmp_path):
    class Broken:
        def __getattr__(self, name):
            raise TypeError("Descriptors cannot be created directly.")

    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", Broken())
    with pytest.raises(
        ImportError,
        match=r"^tensorboard cannot be imported, Descriptors cannot be created directly\.$",
    ):
        TensorBoardWriter(tmp_path).write(RECORD)


class AlwaysFinds(Rule):
    id = "always_finds"

    def check(self, view):
        yield Violation("dense", 1.0)


# The calls that a writer gets if one of its methods fails.
CALLS = {
    "write": [0, "close"],
    "write_findings": [0, "findings", "close"],
    "flush": [0, "findings", 1, "findings", "flush", "close"],
    "close": [0, "findings", 1, "findings", "flush", "flush", "close", "close"],
}


@pytest.mark.parametrize("method", CALLS)
def test_a_writer_that_fails_is_closed_and_removed(method):
    class Failing(CallLogger):
        def __repr__(self):
            return "Failing()"

        def close(self):
            super().close()
            raise ZeroDivisionError("not reported, as the writer has failed before")

    def fail(self, *arguments):
        getattr(CallLogger, method)(self, *arguments)
        raise ZeroDivisionError("first line\nsecond line")

    setattr(Failing, method, fail)
    failing, other = Failing(), CallLogger()
    rules = [AlwaysFinds()]
    monitor = ActivationMonitor(every=1, verbose=0, rules=rules, writers=[failing, other])
    messages = warnings_of_training(monitor, count=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor.close()
    messages += [str(warning.message) for warning in caught]
    assert messages == [stop_message("Failing()", "ZeroDivisionError: first line")]
    assert failing.calls == CALLS[method]
    assert other.calls == CALLS["close"][:-1]


def test_relative_paths_survive_a_change_of_the_working_directory(tmp_path, monkeypatch):
    class ChangesDirectory(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            os.chdir(tmp_path / str(epoch))

    for epoch in range(3):
        (tmp_path / str(epoch)).mkdir()
    monkeypatch.chdir(tmp_path)
    writers = [JsonLinesWriter("log.jsonl"), CsvWriter("log.csv")]
    monitor = ActivationMonitor("logs", every=1, verbose=0, writers=writers)
    fit(tiny(), monitor, ChangesDirectory(), epochs=3)
    monitor.close()
    assert repr(writers[0]) == "JsonLinesWriter('log.jsonl')"
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"sample"' in line] == list(range(6))
    assert {row.partition(",")[0] for row in (tmp_path / "log.csv").open()} == {
        "step",
        *map(str, range(6)),
    }
    assert len(boards.read("python", tmp_path / "logs")["winit", "winit/loss"]) == 6


@pytest.mark.parametrize("log_dir", ["gs://bucket/logs", "s3://bucket"])
def test_tensorboard_needs_a_local_directory(log_dir):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        TensorBoardWriter(log_dir)
    assert str(caught.value) == (
        "`TensorBoardWriter(log_dir=...)` must be a local directory. "
        f"Received: log_dir={log_dir!r}."
    )
