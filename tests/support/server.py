"""Serves a log directory with a real TensorBoard process."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

# TensorBoard's own switch to run without TensorFlow, which takes seconds to import.
SERVER = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
from tensorboard.main import run_main
run_main()
"""


@contextmanager
def tensorboard(log_dir, *flags):
    """Serve a directory; gives the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--logdir", str(log_dir), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-c", SERVER, *where, *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process)
            yield address
        finally:
            process.terminate()


def _wait_for(address, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/data/runs") as answer:
                if b"winit" in answer.read():
                    return
        except urllib.error.URLError:
            pass
        time.sleep(0.05)
    process.terminate()
    pytest.fail(f"TensorBoard does not serve the run: {process.stderr.read()[-2000:]}")
