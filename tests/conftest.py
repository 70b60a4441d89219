import json
import os
import subprocess
import sys
from pathlib import Path

# Before any backend is loaded: quiet, and on JAX several devices to spread over.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import keras
import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--overwrite", action="store_true", help="write the golden files anew")


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.backend.backend()}"


@pytest.fixture
def golden(request):
    """Compare a value with a file in tests/golden; `pytest --overwrite` writes the file."""

    def compare(name, value):
        path = HERE / "golden" / name
        if request.config.getoption("--overwrite"):
            path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        assert value == json.loads(path.read_text())

    return compare


@pytest.fixture(scope="session")
def fresh_process():
    """Run code in a Python process of its own, on the same backend; gives what it printed."""

    def run(code, *arguments, check=True):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout
        return done.stdout + done.stderr

    return run
