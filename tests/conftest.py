import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
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


# TensorBoard's own switch to run without TensorFlow, which takes seconds to import.
SERVER = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
from tensorboard.main import run_main
run_main()
"""
ALONE = "--disable-background-networking --disable-component-update --disable-sync"
FLAGS = f"--no-sandbox --disable-gpu --disable-quic --no-first-run {ALONE}".split()


def require(found, what):
    """Skip a test for want of something; fail where `REQUIRE_BROWSER=1`."""
    if not found:
        message = f"the browser tests need {what}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)


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


@contextmanager
def watched_page(browser):
    """A page that must not fail, nor ask anybody but TensorBoard."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert errors == []
    ours = ("http://127.0.0.1:", "data:", "blob:", "about:")
    assert [url for url in asked if not url.startswith(ours)] == []


@pytest.fixture
def page(browser):
    with watched_page(browser) as page:
        yield page


@pytest.fixture(scope="module")
def shared_page(browser):
    """One for all tests of a file: TensorBoard itself takes seconds to start in it."""
    with watched_page(browser) as page:
        yield page
