"""Counts records lost to kills, full disks, clocks set back and shared files; trains many times.

    python benchmarks/faults.py [--kills N] [--tries N] [--fits N] [--seed N]

Writers of JSON lines, of CSV and of TensorBoard runs write synthetic records as fast as they can.
In each experiment they are read back with readers other than our own. A file is damaged if it
holds anything else than whole records, and a record is lost if `write` returned and the record
cannot be read. The last part calls `fit` many times in one process with a monitor and all writers,
and shows how memory, open files and threads grow, next to a process without a monitor.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import boards
from support.boards import at, full_disk, read, written_steps

from keras_winit.monitor import TensorBoardWriter

# Images are drawn for minutes, and are no records.
WRITERS = {
    **boards.WRITERS,
    "tensorboard": lambda path: TensorBoardWriter(path / "logs", images=False),
}
KINDS = tuple(WRITERS)


def write_until_killed(path, pipe):
    writers = [make(path / kind) for kind, make in WRITERS.items()]
    step = 0
    while True:
        for number, writer in enumerate(writers):
            writer.write(at(step))
            os.write(pipe, bytes([number]))
        step += 1


def finished_of_killed(path, seconds):
    """Let a child write for a time and kill it; return the records that each kind finished."""
    reader, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        write_until_killed(path, pipe)
    os.close(pipe)
    first = os.read(reader, 1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as rest:
        counts = np.bincount(np.frombuffer(first + rest.read(), np.uint8), minlength=len(KINDS))
    os.waitpid(child, 0)
    return dict(zip(KINDS, counts.tolist(), strict=True))


def steps_after_kill(path, kind):
    """Resume a file, whose unfinished end is removed, by one record; return the steps in it."""
    writer = WRITERS[kind](path)
    writer.write(at(10**6))
    writer.close()
    return written_steps(path)


def killed(path, moments):
    """Kill a process that writes; return for each kind the records finished, lost and damage."""
    counts = finished_of_killed(path, moments.uniform(0, 0.05))
    results = {}
    for kind, count in counts.items():
        steps = steps_after_kill(path / kind, kind)
        whole = steps in ([*range(n), 10**6] for n in (count, count + 1))
        results[kind] = count, max(0, count - (len(steps) - 1)), not whole
    return results


def on_a_full_disk(path, moments):
    """Let the disk be full after some kilobytes, and free again after a while."""
    results = {}
    for kind, make in WRITERS.items():
        writer, finished = make(path / kind), []
        with full_disk(moments.randrange(4_000, 60_000)):
            for step in range(200):
                try:
                    writer.write(at(step))
                except OSError:
                    break
                finished.append(step)
        # The monitor closes a writer that has failed; a later run resumes the directory.
        with suppress(OSError):
            writer.close()
        found = steps_after_kill(path / kind, kind)
        results[kind] = _compared([*finished, 10**6], found)
    return results


def with_a_clock_that_goes_back(path, moments):
    """Set the clock back by up to a day between records, and between a run and its successor."""
    results = {}
    for kind, make in WRITERS.items():
        clock = [1.8e9]
        with mock.patch("time.time", lambda clock=clock: clock[0]):
            for steps in (range(20), range(20, 40)):
                writer = make(path / kind)
                for step in steps:
                    clock[0] += moments.choice([0.0, 0.1, -moments.uniform(0, 86400)])
                    writer.write(at(step))
                writer.close()
        results[kind] = _compared(list(range(40)), written_steps(path / kind))
    return results


def _write_steps(path, kind, first):
    writer = WRITERS[kind](path)
    for step in range(first, first + 100):
        writer.write(at(step))
    writer.close()


def two_runs(path, moments):
    """Let two processes write to one file or log directory at the same time."""
    results = {}
    fork = multiprocessing.get_context("fork")
    for kind in KINDS:
        runs = [
            fork.Process(target=_write_steps, args=(path / kind, kind, first)) for first in (0, 100)
        ]
        for run in runs:
            run.start()
            time.sleep(moments.uniform(0, 0.01))
        for run in runs:
            run.join()
        results[kind] = _compared(list(range(200)), sorted(_steps_of_all_runs(path / kind, kind)))
    return results


def _steps_of_all_runs(path, kind):
    if kind != "tensorboard":
        return written_steps(path)
    series = read("python", path / "logs")
    return [
        step for (_, tag), points in series.items() if tag == "winit/loss" for step, _ in points
    ]


def _compared(finished, found):
    """Return the number of finished records, of lost ones, and whether there is anything else."""
    return len(finished), len(set(finished) - set(found)), found != finished


EXPERIMENTS = {
    "killed at a random moment": killed,
    "full disk": on_a_full_disk,
    "clock set back by up to a day": with_a_clock_that_goes_back,
    "two runs in one directory": two_runs,
}


def run_experiment(name, tries, moments):
    """Print the sums over all tries; return whether anything was lost or damaged."""
    totals = {kind: np.zeros(3, int) for kind in KINDS}
    for _ in range(tries):
        with tempfile.TemporaryDirectory() as directory:
            for kind, counts in EXPERIMENTS[name](Path(directory), moments).items():
                totals[kind] += counts
    print(f"{name}, {tries} times: records finished, of these lost, files damaged", flush=True)
    for kind, counts in totals.items():
        print("    {:12s} {:8d} {:8d} {:8d}".format(kind, *counts), flush=True)
    return any(counts[1:].any() for counts in totals.values())


def _resources():
    """Return the resident memory in MiB, and the numbers of open files and of threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, threading.active_count()


def fit_often(watched, fits, results):
    """Train a small model many times; send the resources after a tenth and after all."""
    import keras

    from keras_winit import ActivationMonitor

    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x, y = np.ones((8, 8), "float32"), np.ones((8, 1), "float32")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        writers = [make(path / kind) for kind, make in WRITERS.items()]
        monitor = ActivationMonitor(every=1, keep=10, verbose=0, writers=writers)
        for number in range(1, fits + 1):
            model.fit(x, y, verbose=0, callbacks=[monitor] if watched else [])
            if number in (fits // 10, fits):
                results.send(_resources())
        if watched:
            # Each step is in the file, and the monitor did not give up.
            assert written_steps_of_json(path / "json") == list(range(fits))


def written_steps_of_json(path):
    lines = map(json.loads, (path / "logs" / "out.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if line["kind"] == "sample"]


def run_fits(fits):
    """Print how resources grow with the number of trainings; return whether files or threads do."""
    spawn = multiprocessing.get_context("spawn")
    grows = False
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(f"{fits} trainings in one process, {backend}: after {fits // 10}, after {fits}")
    for watched in (False, True):
        receiver, sender = spawn.Pipe(duplex=False)
        process = spawn.Process(target=fit_often, args=(watched, fits, sender))
        process.start()
        early, late = receiver.recv(), receiver.recv()
        process.join()
        grows |= late[1:] != early[1:] or process.exitcode != 0
        print("    with a monitor and three writers" if watched else "    without a monitor")
        for row in zip(("memory, MiB", "open files", "threads"), early, late, strict=True):
            print("        {:12s} {:8.0f} {:8.0f}".format(*row), flush=True)
    return grows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--tries", type=int, default=30, help="of each other fault of files")
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    failed = [
        run_experiment(name, options.kills if name.startswith("killed") else options.tries, moments)
        for name in EXPERIMENTS
    ]
    failed.append(run_fits(options.fits))
    sys.exit(any(failed))


if __name__ == "__main__":
    main()
