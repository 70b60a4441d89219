"""Writers in trouble: full disks, deleted directories, killed processes, other files."""

import os
import resource
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import boards
import keras
import pytest
import tensorflow as tf
from boards import FINDING, MAKE, SAMPLE, at, steps

from keras_winit.monitor.writers import (
    Guarded,
    TensorBoardWriter,
    Writer,
)


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
@pytest.mark.parametrize("content", ["precious", "precious\nlines\n"])
def test_other_files_are_left_alone(kind, content, tmp_path):
    (tmp_path / "logs").mkdir()
    file = tmp_path / "logs" / ("out.jsonl" if kind == "json" else "out.csv")
    file.write_text(content)
    with pytest.raises(FileExistsError, match=r"\[Errno 17\] holds something else, left alone: '"):
        MAKE[kind](tmp_path).write(SAMPLE)
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


def test_a_full_disk(make, tmp_path):
    writer = Guarded(make())
    name = repr(writer.writer)
    with warnings.catch_warnings(record=True) as caught, full_disk(10_000):
        warnings.simplefilter("always")
        for step in range(100):
            writer.write(at(step))
        writer.write_findings(99, [FINDING])
        writer.flush()
        writer.close()
    assert [str(warning.message) for warning in caught] == [
        f"`{name}` writes no more, training goes on. Received: OSError: [Errno 27] File too large"
    ]
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
def test_a_deleted_directory(noticed_by, make, tmp_path):
    writer = Guarded(make())
    writer.write(SAMPLE)
    if noticed_by == "write":
        for path in sorted((tmp_path / "logs").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "logs").rmdir()
    else:
        (tmp_path / "logs").rename(tmp_path / "gone")
    with pytest.warns(
        RuntimeWarning,
        match=r"^`.*Writer\('.*'\)` writes no more, training goes on\. Received: "
        r"FileNotFoundError: \[Errno 2\] deleted while in use: '.*'$",
    ):
        writer.write(at(1)) if noticed_by == "write" else writer.flush()
    writer.write(at(2))
    assert not (tmp_path / "logs").exists()


def test_an_unwritable_directory(make, tmp_path):
    (tmp_path / "logs").write_text("not a directory")
    writer = Guarded(make())
    with pytest.warns(RuntimeWarning, match=r"Received: (NotADirectory|FileExists)Error: \[Errno"):
        writer.write(SAMPLE)
    writer.write(at(1))
    assert (tmp_path / "logs").read_text() == "not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_forbidden_directory(make, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.warns(RuntimeWarning, match=r"Received: PermissionError: \[Errno 13\]"):
        Guarded(make()).write(SAMPLE)


def test_without_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    writer = Guarded(TensorBoardWriter(tmp_path))
    with pytest.warns(RuntimeWarning) as caught:
        writer.write(SAMPLE)
    assert [str(warning.message) for warning in caught] == [
        f"`TensorBoardWriter('{tmp_path}')` writes no more, training goes on. Received: "
        "ImportError: it needs tensorboard: pip install 'keras-winit[tensorboard]'"
    ]
    writer.write(at(1))


def test_with_a_tensorboard_that_breaks(monkeypatch, tmp_path):
    class Broken:
        def __getattr__(self, name):
            raise TypeError("Descriptors cannot be created directly.")

    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", Broken())
    with pytest.raises(
        ImportError,
        match=r"^tensorboard cannot be imported, Descriptors cannot be created directly\.$",
    ):
        TensorBoardWriter(tmp_path).write(SAMPLE)


def test_other_writers_are_guarded_too():
    class Mine(Writer):
        def write(self, sample):
            raise ZeroDivisionError("mine")

        def close(self):
            raise ZeroDivisionError("mine again")

        def __repr__(self):
            return "Mine()"

    writer = Guarded(Mine())
    writer.flush()
    writer.write_findings(0, [])
    with pytest.warns(RuntimeWarning) as caught:
        writer.write(SAMPLE)
    assert [str(warning.message) for warning in caught] == [
        "`Mine()` writes no more, training goes on. Received: ZeroDivisionError: mine"
    ]


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
from boards import MAKE, at
from keras_winit.monitor.writers import Guarded
writers = [make(Path(sys.argv[2]) / name) for name, make in MAKE.items()]
step = 0
while True:
    for writer in writers:
        writer.write(at(step))
    print(step, flush=True)
    step += 1
"""


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path):
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
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
