import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

# Before any backend is loaded: quiet, and on JAX several devices to spread over.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import keras
import pytest
from support.browser import FLAGS, require, watched_page
from support.server import tensorboard

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


@pytest.fixture
def serve():
    """Serve a directory until the test ends; gives the address."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(tensorboard(*arguments))


@pytest.fixture(scope="module")
def serve_all():
    """Serve a directory until the tests of the file end."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(tensorboard(*arguments))


@pytest.fixture(scope="session")
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    require(chromium, "Chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        require(False, "playwright: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    with watched_page(browser) as page:
        yield page


@pytest.fixture(scope="module")
def shared_page(browser):
    """One for all tests of a file: TensorBoard itself takes seconds to start in it."""
    with watched_page(browser) as page:
        yield page
