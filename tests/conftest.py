import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Set before a backend is loaded: few log lines, and several devices on JAX for sharding tests.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import keras
import pytest
from hypothesis import HealthCheck, settings
from support.browser import FLAGS, require, watched_page
from support.server import tensorboard

import keras_winit

HERE = Path(__file__).parent

# Processes that tests start import the package under test, from whatever folder they run in.
PACKAGE = Path(keras_winit.__file__).parent
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH")))
)

# Each run uses the same few examples, so that only a change can cause a failure and CI is fast.
settings.register_profile(
    "few",
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("few")

# The warning of a monitor that gives up, or whose writer gives up, while training goes on.
GAVE_UP = "`.*` (watches|writes) no more, training goes on"

# Files and folders in which no test depends on the backend. See the marker in setup.cfg.
BACKEND_INDEPENDENT = (
    "commands/test_errors.py",
    "monitor/diagnosis/test_rules.py",
    "monitor/output/test_tensorboard_images.py",
    "monitor/output/test_text_writers.py",
    "plots",
    "tensorboard_plugin",
    "test_pages.py",
    "theory/test_mean_field.py",
    "theory/test_theory_errors.py",
)


def pytest_addoption(parser):
    parser.addoption("--overwrite", action="store_true", help="rewrite the golden files")


def pytest_configure(config):
    missing = [place for place in BACKEND_INDEPENDENT if not (HERE / place).exists()]
    if missing:
        raise pytest.UsageError(f"BACKEND_INDEPENDENT in {__file__} lists missing files: {missing}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if any(item.path.is_relative_to(HERE / place) for place in BACKEND_INDEPENDENT):
            item.add_marker("backend_independent")


@contextmanager
def monitors_must_not_give_up():
    """Fail if a monitor or a writer gives up and the test does not expect the warning."""
    with warnings.catch_warnings(record=True) as caught:
        # If warnings were errors, the monitor would print this one and not raise it.
        warnings.filterwarnings("always", GAVE_UP, RuntimeWarning)
        yield
    for warning in caught:
        if re.match(GAVE_UP, str(warning.message)):
            pytest.fail(str(warning.message))
        warnings.warn_explicit(
            warning.message,
            warning.category,
            warning.filename,
            warning.lineno,
            source=warning.source,
        )


# The setup of a test is checked as well, because module fixtures train before the first test.
@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup():
    with monitors_must_not_give_up():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    with monitors_must_not_give_up():
        return (yield)


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.backend.backend()}, tests of {PACKAGE}"


@pytest.fixture
def golden(request):
    """Compare a value with a file in tests/golden; `pytest --overwrite` rewrites the file."""

    def compare(name, value):
        path = HERE / "golden" / name
        if request.config.getoption("--overwrite"):
            path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        assert value == json.loads(path.read_text())

    return compare


@pytest.fixture(scope="session")
def fresh_process():
    """Run code in a new Python process on the same backend and return what it prints."""

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
    """Serve a log directory until the test ends and return the address."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(tensorboard(*arguments))


@pytest.fixture(scope="module")
def serve_all():
    """Serve a log directory until the tests of the file end and return the address."""
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
    """Share one page between the tests of a file: TensorBoard takes seconds to start in it."""
    with watched_page(browser) as page:
        yield page
