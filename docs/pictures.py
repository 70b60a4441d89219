"""Draws the pictures of the README and of the pages in this folder.

    python docs/pictures.py [--tab]

`benchmarks/trainability.py --picture` draws that of the starts. The pictures of the TensorBoard
tab need a browser: `pip install ".[browser]"` and Chromium.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import keras
import numpy as np

import keras_winit

IMAGES = Path(__file__).parent / "images"
STYLES = {"": "default", "-dark": "dark_background"}


def propagation(path):
    """Draw the notes' experiment: ten tanh layers, two bad starts and a good one."""
    schemes = ("small_normal", "large_normal", "lecun_normal")
    results = [keras_winit.propagate(f"winit>{scheme}", "tanh") for scheme in schemes]
    keras_winit.plots.propagation(results, path)


def report(path):
    """Draw the report of the network in `checking.md`."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(64, "relu", name=f"h{i}") for i in range(7)]
    output = keras.layers.Dense(10, "softmax", name="out")
    model = keras.Sequential([keras.Input((64,)), *hidden, output])
    keras_winit.signal_report(model).plot(path)


def train(log_dir):
    """Train a network with one bad layer, and log it."""
    keras.utils.set_random_seed(0)
    hidden = [
        keras.layers.Dense(64, "relu", kernel_initializer="winit>he_normal", name=f"hidden_{i}")
        for i in range(1, 9)
    ]
    hidden[4] = keras.layers.Dense(64, "tanh", kernel_initializer="winit>large_normal", name="bad")
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(1, name="out")])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(3200, 64))
    monitor = keras_winit.ActivationMonitor(log_dir=log_dir, verbose=0)
    model.fit(x, x[:, :1], batch_size=32, epochs=2, callbacks=[monitor], verbose=0)


def tab(path):
    """Take pictures of the tab in a real TensorBoard, light and dark."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as logs, sync_playwright() as playwright:
        train(logs)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", logs]
        server = subprocess.Popen([*command, "--port", address.split(":")[1]])
        try:
            wait_until_served(f"http://{address}/data/runs")
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(
                viewport={"width": 1280, "height": 760}, device_scale_factor=1.5
            )
            page.goto(f"http://{address}/#keras_winit", timeout=300_000)
            page.frame_locator("iframe").locator("body[data-ready]").wait_for(timeout=300_000)
            for ending in STYLES:
                page.wait_for_timeout(1000)
                page.screenshot(path=path.with_stem(f"tab{ending}"))
                page.evaluate("document.body.classList.toggle('dark-mode')")
            browser.close()
        finally:
            server.terminate()


def wait_until_served(address):
    """Wait up to five minutes until TensorBoard has found the run."""
    for _ in range(600):
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(address) as response:
                if b"winit" in response.read():
                    return
        except OSError:
            continue
    raise TimeoutError(f"TensorBoard does not answer at {address}.")


def main():
    """Draw the pictures in both styles."""
    import matplotlib.style

    parser = argparse.ArgumentParser()
    parser.add_argument("--tab", action="store_true", help="also take the pictures of the tab")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    for ending, style in STYLES.items():
        with matplotlib.style.context(style):
            propagation(IMAGES / f"propagation{ending}.png")
            report(IMAGES / f"report{ending}.png")
    if options.tab:
        tab(IMAGES / "tab.png")


if __name__ == "__main__":
    main()
