"""Serves a log directory with a real TensorBoard process."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

# The module `notf` makes TensorBoard run without TensorFlow, which takes seconds to import.
SERVER = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
from tensorboard.main import run_main
run_main()
"""


@contextmanager
def tensorboard(log_dir, *flags):
    """Serve a log directory from a new process and yield the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    arguments = ["--logdir", str(log_dir), "--host", "127.0.0.1", "--port", str(port), *flags]
    command = [sys.executable, "-c", SERVER, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for_run(address, process)
            yield address
        finally:
            process.terminate()


def _wait_for_run(address, process):
    """Wait up to 60 s until TensorBoard lists a run of the monitor."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/data/runs") as response:
                if b"winit" in response.read():
                    return
        except urllib.error.URLError:
            pass
        time.sleep(0.05)
    process.terminate()
    pytest.fail(f"TensorBoard does not serve the run: {process.stderr.read()[-2000:]}")
