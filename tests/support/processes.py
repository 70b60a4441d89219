"""Starts two processes that train together on the loopback interface."""

import os
import socket
import subprocess
import sys

import keras


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def run_two(code, address, *arguments):
    """Run two processes with their numbers and return the lines that each of them prints."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, address, str(number), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        results = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output.splitlines() for output, _ in results]
