"""Writers in trouble: full disks, deleted directories, killed processes, other files."""

import copy
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import boards
from support.boards import MAKE, RECORD, at, steps
from support.monitored import fit, tiny

from keras_winit import ActivationMonitor
from keras_winit.monitor import FindingError
from keras_winit.monitor.diagnosis.rules import Rule, Violation
from keras_winit.monitor.output.writers import CsvWriter, JsonLinesWriter, TensorBoardWriter, Writer


@pytest.fixture(params=MAKE)
def make(request, tmp_path):
    return lambda: MAKE[request.param](tmp_path)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_torn_last_line_is_cut_off(kind, tmp_path):
    writer = MAKE[kind](tmp_path)
    writer.write(at(0))
    writer.close()
    (file,) = (tmp_path / "logs").iterdir()
    whole = file.read_bytes()
    for torn in (whole + whole[-9:-1], whole + b"x" * 100_000, whole, whole[:4], b""):
        file.write_bytes(torn)
        writer = MAKE[kind](tmp_path)
        writer.write(at(1))
        writer.close()
        assert steps(tmp_path) == ([0, 1] if torn.startswith(whole) else [1])


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize(
    "content",
    # The last as `History` writes it.
    ["precious", "precious\nlines\n", '{"step": 0, "layer": "loss", "value": 1}\n'],
)
def test_other_files_are_left_alone(kind, content, tmp_path):
    (tmp_path / "logs").mkdir()
    file = tmp_path / "logs" / ("out.jsonl" if kind == "json" else "out.csv")
    file.write_text(content)
    with pytest.raises(FileExistsError, match=r"\[Errno 17\] holds something else, left alone: '"):
        MAKE[kind](tmp_path).write(RECORD)
    assert file.read_text() == content


def test_every_sample_can_be_read_at_once(make, tmp_path):
    writer = make()
    for step in range(3):
        writer.write(at(step))
        assert steps(tmp_path) == list(range(step + 1))
    writer.close()


def test_a_closed_writer_opens_again(make, tmp_path):
    writer = make()
    for step in range(3):
        writer.write(at(step))
        writer.flush()
        writer.close()
    assert steps(tmp_path) == [0, 1, 2]


def test_each_event_file_describes_its_tags(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    for step in range(2):
        writer.write(at(step))
        writer.close()
    described = boards.contents("python", tmp_path)
    min((tmp_path / "winit").iterdir()).unlink()
    assert boards.contents("python", tmp_path) == described
    assert len(described) == 2


def test_no_file_without_a_sample(make, tmp_path):
    writer = make()
    writer.flush()
    writer.close()
    assert list(tmp_path.iterdir()) == []


@contextmanager
def full_disk(size):
    """Files cannot grow beyond a size; Python ignores the signal and gets the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Collects(Writer):
    def __init__(self):
        self.did = []

    def write(self, sample):
        self.did.append(sample.step)

    def write_findings(self, step, findings):
        self.did.append("findings")

    def flush(self):
        self.did.append("flush")

    def close(self):
        self.did.append("close")


class AtBatch(keras.callbacks.Callback):
    def __init__(self, batch, act):
        super().__init__()
        self.batch, self.act = batch, act

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.batch:
            self.act()


def trained(monitor, *callbacks, count=4):
    """Steps of one sample each, and what was warned of; they go on in any case."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    # Nothing to compile: quicker.
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
    return [str(one.message) for one in caught if one.category is RuntimeWarning]


@pytest.fixture
def monitor(make):
    """It writes to a second place, too."""
    return ActivationMonitor(every=1, rules=(), writers=[make(), Collects()])


def collected(monitor, count):
    """The other writer has all, whatever has become of the first."""
    (collects,) = monitor.writers
    assert collects.did == [*range(count), "flush", "flush"]


def stops(name, error):
    return f"`{name}` writes no more, training goes on. Received: {error}"


def test_a_full_disk(monitor, tmp_path):
    name = repr(monitor.writers[0])
    with full_disk(10_000):
        said = trained(monitor, count=50)
    assert said == [stops(name, "OSError: [Errno 27] File too large")]
    collected(monitor, 50)
    # What was there stays readable to the last byte.
    read = steps(tmp_path)
    assert len(read) > 3
    assert read == list(range(len(read)))
    (file,) = (path for path in (tmp_path / "logs").rglob("*") if path.is_file())
    if file.suffix in (".jsonl", ".csv"):
        assert file.read_bytes().endswith(b"\n")
    else:
        assert sum(1 for _ in tf.data.TFRecordDataset(str(file))) == 2 + len(read)


@pytest.mark.parametrize("noticed_by", ["write", "flush"])
def test_a_deleted_directory(noticed_by, monitor, tmp_path):
    logs = tmp_path / "logs"
    remove = {
        "write": lambda: shutil.rmtree(logs),
        "flush": lambda: logs.rename(tmp_path / "gone"),
    }
    name, opened = repr(monitor.writers[0]), monitor.writers[0]
    (said,) = trained(monitor, AtBatch(2, remove[noticed_by]))
    error = "FileNotFoundError: [Errno 2] deleted while in use: "
    assert re.fullmatch(re.escape(stops(name, error)) + f"'{re.escape(str(logs))}.*'", said)
    collected(monitor, 4)
    assert opened._file is None
    assert not logs.exists()


def test_an_unwritable_directory(monitor, tmp_path):
    (tmp_path / "logs").write_text("not a directory")
    (said,) = trained(monitor)
    assert re.search(r"Received: (NotADirectory|FileExists)Error: \[Errno \d+\] ", said)
    collected(monitor, 4)
    assert (tmp_path / "logs").read_text() == "not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_forbidden_directory(monitor, tmp_path):
    tmp_path.chmod(0o500)
    (said,) = trained(monitor)
    assert "Received: PermissionError: [Errno 13] " in said
    collected(monitor, 4)


def test_without_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    monitor = ActivationMonitor(tmp_path, every=1, rules=(), writers=[Collects()])
    assert trained(monitor) == [
        stops(
            f"TensorBoardWriter('{tmp_path}')",
            "ImportError: it needs tensorboard: pip install tensorboard",
        )
    ]
    collected(monitor, 4)
    assert list(tmp_path.iterdir()) == []


def test_with_a_tensorboard_that_breaks(monkeypatch, tmp_path):
    class Broken:
        def __getattr__(self, name):
            raise TypeError("Descriptors cannot be created directly.")

    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", Broken())
    with pytest.raises(
        ImportError,
        match=r"^tensorboard cannot be imported, Descriptors cannot be created directly\.$",
    ):
        TensorBoardWriter(tmp_path).write(RECORD)


class Always(Rule):
    id = "always"

    def check(self, view):
        yield Violation("dense", 1.0)


DOES = {
    "write": [0, "close"],
    "write_findings": [0, "findings", "close"],
    "flush": [0, "findings", 1, "findings", "flush", "close"],
    "close": [0, "findings", 1, "findings", "flush", "flush", "close", "close"],
}


@pytest.mark.parametrize("at_fault", DOES)
def test_a_writer_that_fails_is_closed_and_let_go(at_fault):
    class Mine(Collects):
        def __repr__(self):
            return "Mine()"

        def close(self):
            super().close()
            raise ZeroDivisionError("again, which is no news")

    def fails(self, *arguments):
        getattr(Collects, at_fault)(self, *arguments)
        raise ZeroDivisionError("mine\nand more of it")

    setattr(Mine, at_fault, fails)
    mine, other = Mine(), Collects()
    monitor = ActivationMonitor(every=1, verbose=0, rules=[Always()], writers=[mine, other])
    said = trained(monitor, count=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor.close()
    said += [str(one.message) for one in caught]
    assert said == [stops("Mine()", "ZeroDivisionError: mine")]
    assert mine.did == DOES[at_fault]
    assert other.did == DOES["close"][:-1]


def test_a_program_may_go_elsewhere_while_it_trains(tmp_path, monkeypatch):
    class Leaves(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            os.chdir(tmp_path / str(epoch))

    for place in range(3):
        (tmp_path / str(place)).mkdir()
    monkeypatch.chdir(tmp_path)
    writers = [JsonLinesWriter("log.jsonl"), CsvWriter("log.csv")]
    monitor = ActivationMonitor("logs", every=1, verbose=0, writers=writers)
    fit(tiny(), monitor, Leaves(), epochs=3)
    monitor.close()
    assert repr(writers[0]) == "JsonLinesWriter('log.jsonl')"
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"sample"' in line] == list(range(6))
    assert {row.partition(",")[0] for row in (tmp_path / "log.csv").open()} == {
        "step",
        *map(str, range(6)),
    }
    assert len(boards.read("python", tmp_path / "logs")["winit", "winit/loss"]) == 6


class Grows(Rule):
    """A warning that becomes an error, and goes on."""

    id = "grows"
    severity = "warning"

    def check(self, view):
        yield Violation("dense", 1.0, severity="error" if view.step > 1 else None)


def test_what_gets_worse_is_told_and_what_goes_on_is_written():
    told, kept = [], Collects()
    kept.write_findings = lambda step, rows: told.append(
        (step, *((row["severity"], row["step"], row["hits"]) for row in rows))
    )
    heard = []
    monitor = ActivationMonitor(
        every=1, verbose=0, rules=[Grows()], writers=[kept], on_finding=heard.append
    )
    fit(tiny(), monitor, epochs=3)
    assert [(one.severity, one.step) for one in heard] == [("warning", 0), ("error", 2)]
    assert told == [
        (0, ("warning", 0, 1)),
        (1, ("warning", 1, 2)),
        (2, ("error", 2, 3)),
        (3, ("error", 3, 4)),
        (5, ("error", 5, 6)),
    ]


def test_an_error_of_a_finding_can_go_to_another_process():
    monitor = ActivationMonitor(every=1, verbose=0, rules=[Grows()], on_finding="raise")
    with pytest.raises(FindingError) as caught:
        fit(tiny(), monitor)
    for copied in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert str(copied) == str(caught.value)
        assert copied.finding == caught.value.finding


@pytest.mark.parametrize("log_dir", ["gs://bucket/logs", "s3://bucket"])
def test_only_local_directories(log_dir):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        TensorBoardWriter(log_dir)
    assert str(caught.value) == (
        "`TensorBoardWriter(log_dir=...)` must be a local directory. "
        f"Received: log_dir={log_dir!r}."
    )


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.boards import MAKE, at
writers = [make(Path(sys.argv[2]) / name) for name, make in MAKE.items()]
step = 0
while True:
    for writer in writers:
        writer.write(at(step))
    print(step, flush=True)
    step += 1
"""


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path):
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[2]), str(tmp_path)]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        for line in process.stdout:
            if int(line) == 20:
                process.send_signal(signal.SIGKILL)
                break
        written = int([line, *process.stdout.read().splitlines()][-1]) + 1
    for name, make in MAKE.items():
        writer = make(tmp_path / name)
        writer.write(at(10**6))
        writer.close()
        read = steps(tmp_path / name)
        # The step under way may be there already.
        assert read in ([*range(n), 10**6] for n in (written, written + 1))
