"""Measures the CPU time that `import keras_winit` adds to `import keras`.

    python benchmarks/import_time.py [--backend NAME] [--rounds N]

Each import runs in a fresh process, and the two kinds take turns, so that the rest of the
machine's load falls on both alike. The time is CPU time over all threads. The first round is
dropped: it writes the bytecode that `pip install` would have written.

The two medians differ by less than one median varies between runs. The last line is the
exact figure: the time from the end of `import keras` to the end of `import keras_winit`,
measured within one process.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys

BACKENDS = ("tensorflow", "jax", "torch")

KERAS_ONLY = """
import time
import keras
print(time.process_time())
"""
BOTH = """
import time
import keras
keras_done = time.process_time()
import keras_winit
print(time.process_time(), keras_done)
"""


def cpu_seconds(code, environment):
    """Run the code in a fresh process and return the numbers that it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return [float(number) for number in done.stdout.split()]


def show(backend, rounds):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    keras_only, both, added = [], [], []
    for _ in range(rounds + 1):
        keras_only += cpu_seconds(KERAS_ONLY, environment)
        total, keras_done = cpu_seconds(BOTH, environment)
        both.append(total)
        added.append(total - keras_done)
    keras_only, both, added = (
        statistics.median(seconds[1:]) for seconds in (keras_only, both, added)
    )
    print(f"{backend}, median CPU seconds of {rounds} fresh processes each")
    print(f"    {'import keras':44s} {keras_only:8.3f}")
    print(f"    {'import keras, keras_winit':44s} {both:8.3f}")
    print(f"    {'difference':44s} {both - keras_only:8.3f}")
    print(f"    {'ratio':44s} {both / keras_only:8.3f}")
    print(f"    {'import keras_winit, within one process':44s} {added:8.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    for backend in options.backend or BACKENDS:
        if importlib.util.find_spec(backend) is not None:
            show(backend, options.rounds)


if __name__ == "__main__":
    main()
