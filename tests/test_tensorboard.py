"""A real TensorBoard in a real browser: what its own tabs show of a run."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from boards import SAMPLE, at

from keras_winit.monitor.writers import TensorBoardWriter

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


@pytest.fixture(scope="module")
def serve():
    """Serve a directory until the end of this file's tests."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(tensorboard(*arguments))


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    require(chromium, "Chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        require(False, "playwright: pip install 'keras-winit[browser]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that must not fail, nor ask anybody but TensorBoard."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    errors, strangers = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: strangers.append(request.url))
    yield page
    page.close()
    assert errors == []
    ours = ("http://127.0.0.1:", "data:", "blob:", "about:")
    assert [url for url in strangers if not url.startswith(ours)] == []


STEPS = 20


@pytest.fixture(scope="module")
def board(tmp_path_factory, serve):
    """The address of a TensorBoard that shows one run, and its writer."""
    path = tmp_path_factory.mktemp("logs")
    writer = TensorBoardWriter(path)
    counts = np.tile([[1, 5, 7, 2]], (4, 1)).astype("float32")
    for step in range(STEPS):
        writer.write(at(step, replace(SAMPLE, counts=counts)))
    writer.close()
    return serve(path), writer


def test_pinned_time_series(board, page):
    address, writer = board
    page.goto(writer.instructions(address).splitlines()[2])
    pinned = page.locator("metrics-pinned-view scalar-card")
    pinned.nth(3).locator("line-chart svg path, line-chart canvas").first.wait_for()
    titles = [card.locator(".tag").inner_text() for card in pinned.all()]
    assert ["".join(title.split()) for title in titles] == [
        "winit/stddev_median",
        "winit/stddev_max",
        "winit/dead_share_median",
        "winit/dead_share_max",
    ]
    groups = page.locator("metrics-main-view .group-title")
    groups.last.wait_for(state="attached")
    assert groups.all_inner_texts()[1:] == [
        "winit",
        "winit_dead_share",
        "winit_gradient_norm",
        "winit_hist",
        "winit_stddev",
        "winit_update_ratio",
    ]


def test_histograms(board, page):
    page.goto(f"{board[0]}/#histograms")
    charts = page.locator("vz-histogram-timeseries")
    charts.nth(3).locator(".histogram").nth(STEPS - 1).wait_for(state="attached")
    assert charts.count() == 4
    # A line for each step, which is no line where nothing was counted.
    lines = charts.first.locator(".histogram path").evaluate_all(
        "paths => paths.map(path => path.getBBox().height)"
    )
    assert len(lines) == STEPS
    assert min(lines) > 5


def test_distributions(board, page):
    page.goto(f"{board[0]}/#distributions")
    charts = page.locator("vz-distribution-chart")
    charts.nth(3).locator("path.area").first.wait_for(state="attached")
    assert charts.count() == 4
    widths = charts.first.locator("path.area").evaluate_all(
        "paths => paths.map(path => path.getBBox().width)"
    )
    assert min(widths) > 100
