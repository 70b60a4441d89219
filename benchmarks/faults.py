"""Log files of writers that are killed at random moments.

    python benchmarks/faults.py [--kills N] [--seed N]

A child process writes synthetic records to a JSON lines file, a CSV file and a run of TensorBoard
as fast as it can, and counts in a pipe the records that each writer has finished. It is killed
(SIGKILL) after 0 to 50 ms. Then each file is read: it may hold whole records only, all that were
finished, and at most the one in progress besides; the last line of a text file may lack its end.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.boards import WRITERS, at, written_steps

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
    """The steps in a file, whose unfinished end a resumed writer removes; with one more record."""
    writer = WRITERS[kind](path)
    writer.write(at(10**6))
    writer.close()
    return written_steps(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    finished, lost, damaged = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), []
    for kill in range(options.kills):
        with tempfile.TemporaryDirectory() as directory:
            counts = finished_of_killed(Path(directory), moments.uniform(0, 0.05))
            for kind, count in counts.items():
                steps = steps_after_kill(Path(directory) / kind, kind)
                finished[kind] += count
                lost[kind] += max(0, count - (len(steps) - 1))
                if steps not in ([*range(n), 10**6] for n in (count, count + 1)):
                    damaged.append((kill, kind))
    print(f"{options.kills} kills: records finished, and of these lost")
    for kind in KINDS:
        print(f"    {kind:12s} {finished[kind]:8d} {lost[kind]:8d}")
    print(f"    files with anything else than these records: {len(damaged)}")
    sys.exit(bool(damaged))


if __name__ == "__main__":
    main()
