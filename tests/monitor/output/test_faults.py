"""Faults of disks, directories and callbacks lose no records and never end a training."""

import gc
import os
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from support.boards import WRITERS, at, full_disk, read, written_steps
from support.monitored import fit, steps_of, tiny

from keras_winit import ActivationMonitor
from keras_winit.monitor import CsvWriter, JsonLinesWriter

LIMIT = 20_000


def write_until_full(writers, steps):
    """Let writers take turns until one fails; return the steps that were written."""
    complete = []
    with full_disk(LIMIT), suppress(OSError):
        for step in steps:
            writers[step % len(writers)].write(at(step))
            complete.append(step)
    assert len(complete) < len(steps)
    return complete


@pytest.mark.backend_independent
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_two_writers_of_one_file_keep_each_complete_record(kind, tmp_path):
    writers = [WRITERS[kind](tmp_path) for _ in range(2)]
    complete = write_until_full(writers, range(1000))
    assert len(complete) > 10
    assert written_steps(tmp_path) == complete
    for writer in writers:
        writer.close()


@pytest.mark.backend_independent
def test_a_file_that_log_rotation_truncated_gets_no_gap(tmp_path):
    writer, path = WRITERS["json"](tmp_path), tmp_path / "logs" / "out.jsonl"
    for step in range(10):
        writer.write(at(step))
    os.truncate(path, 0)
    complete = write_until_full([writer], range(10, 1000))
    writer.close()
    assert b"\0" not in path.read_bytes()
    assert written_steps(tmp_path) == complete


@pytest.mark.backend_independent
def test_an_unfinished_line_of_a_file_in_use_is_left_to_its_writer(tmp_path):
    first = WRITERS["json"](tmp_path)
    first.write(at(0))
    with (tmp_path / "logs" / "out.jsonl").open("ab") as file:
        file.write(b'{"kind": ')
        file.flush()
        second = WRITERS["json"](tmp_path)
        second.write(at(1))
    assert b'{"kind": {"kind": ' in (tmp_path / "logs" / "out.jsonl").read_bytes()
    first.close()
    second.close()


@pytest.mark.backend_independent
@pytest.mark.parametrize("writer", [JsonLinesWriter, CsvWriter])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_device_or_a_pipe_is_refused(writer, kind, tmp_path):
    path = "/dev/null" if kind == "device" else str(tmp_path / "pipe")
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match="is a device") as caught:
        writer(path).write(at(0))
    assert str(caught.value) == f"[Errno 22] is a device or a pipe, a file is needed: '{path}'"


@pytest.mark.backend_independent
def test_a_deleted_working_directory_is_named(tmp_path, monkeypatch):
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    deleted.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        ActivationMonitor("logs")
    assert str(caught.value) == (
        "`TensorBoardWriter` needs an absolute path, because the working directory was deleted. "
        "Received: 'logs'."
    )


def open_files(path):
    """Count this process's open files below a directory."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(descriptor.readlink())
    return sum(link.is_relative_to(path) for link in links)


def test_a_monitor_that_nobody_closes_leaves_no_open_file(tmp_path):
    writers = [make(tmp_path / kind) for kind, make in WRITERS.items()]
    model, monitor = tiny(), ActivationMonitor(every=1, verbose=0, writers=writers)
    fit(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(2):
            fit(model, monitor)
            assert open_files(tmp_path) == 0
        # An interrupt leaves the files open.
        for writer in writers:
            writer.write(at(10))
        assert open_files(tmp_path) == len(writers)
        del monitor, writer, writers
        gc.collect()
    assert open_files(tmp_path) == 0
    (file,) = (tmp_path / "tensorboard" / "logs" / "winit").iterdir()
    assert [step for step, _ in read("python", file.parents[1])["winit", "winit/loss"]] == [
        *(2, 3, 4, 5, 10)
    ]
    assert file.stat().st_size > 0


def test_a_run_deleted_between_two_trainings_begins_anew(tmp_path):
    model, monitor = tiny(), ActivationMonitor(tmp_path, every=1, verbose=0)
    fit(model, monitor)
    for file in (tmp_path / "winit").iterdir():
        file.unlink()
    fit(model, monitor)
    read_back = read("python", tmp_path)
    assert [step for step, _ in read_back["winit", "winit/loss"]] == [2, 3]
    # The tables carry the description by which our tab finds them.
    assert any(tag.startswith("winit/layers/") for _, tag in read_back)


def test_the_same_monitor_twice_counts_each_step_once():
    monitor = ActivationMonitor(every=1, verbose=0)
    with pytest.warns(RuntimeWarning, match="is twice in `callbacks`") as caught:
        fit(tiny(), monitor, monitor, epochs=2)
    assert len([one for one in caught if "twice" in str(one.message)]) == 1
    assert steps_of(monitor) == [0, 1, 2, 3]


def test_training_goes_on_where_warnings_are_errors(tmp_path, capsys):
    def every(step):
        raise KeyError(step)

    model = tiny()
    writing = ActivationMonitor(every=1, verbose=0, writers=[CsvWriter("/dev/null")])
    failing = ActivationMonitor(every=every, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fit(model, writing, failing)
    assert int(model.optimizer.iterations) == 2
    assert steps_of(writing) == [0, 1]
    assert capsys.readouterr().err.splitlines() == [
        "RuntimeWarning: `ActivationMonitor` watches no more, training goes on. "
        "Received: KeyError: 0",
        "RuntimeWarning: `CsvWriter('/dev/null')` writes no more, training goes on. "
        "Received: OSError: [Errno 22] is a device or a pipe, a file is needed: '/dev/null'",
    ]
