"""Promises that every writer keeps, checked by reading its files back."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
from support.boards import EMPTY_RECORD, RECORD, WRITERS, at, written_steps


def test_each_record_is_readable_at_once(make_writer, tmp_path):
    writer = make_writer()
    for step in range(3):
        writer.write(at(step))
        assert written_steps(tmp_path) == list(range(step + 1))
    writer.close()


def test_a_closed_writer_opens_again(make_writer, tmp_path):
    writer = make_writer()
    for step in range(3):
        writer.write(at(step))
        writer.flush()
        writer.close()
    assert written_steps(tmp_path) == [0, 1, 2]


def test_no_file_is_made_without_a_record(make_writer, tmp_path):
    writer = make_writer()
    writer.flush()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_hostile_names_are_written(make_writer, tmp_path):
    names = ("<script>alert(1)</script>", "\ud800,\n\"'", "x" * 5000, "=1+1@2")
    writer = make_writer()
    for step in range(2):
        writer.write(at(step, replace(RECORD, layers=names)))
    writer.close()
    assert written_steps(tmp_path) == [0, 1]


def test_a_record_without_numbers_is_written(make_writer, tmp_path):
    writer = make_writer()
    writer.write(EMPTY_RECORD)
    writer.write(at(1))
    writer.close()
    assert written_steps(tmp_path)[-1] == 1


WRITE_UNTIL_KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.boards import WRITERS, at
writers = [make(Path(sys.argv[2]) / name) for name, make in WRITERS.items()]
step = 0
while True:
    for writer in writers:
        writer.write(at(step))
    print(step, flush=True)
    step += 1
"""


def test_a_killed_process_loses_no_record(tmp_path):
    tests = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tests), str(tmp_path)]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        for line in process.stdout:
            if int(line) == 20:
                process.send_signal(signal.SIGKILL)
                break
        count = int([line, *process.stdout.read().splitlines()][-1]) + 1
    for name, make in WRITERS.items():
        writer = make(tmp_path / name)
        writer.write(at(10**6))
        writer.close()
        # The process may have been killed after writing a record, before printing its step.
        written = written_steps(tmp_path / name)
        assert written in ([*range(n), 10**6] for n in (count, count + 1))
