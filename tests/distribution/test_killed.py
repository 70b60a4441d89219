"""A process that is killed while it trains, and a new one that `BackupAndRestore` resumes."""

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
from support.boards import read

# The steps per epoch, the epochs, and the step after which the first process is killed.
STEPS, EPOCHS, LAST = 4, 3, 6

CODE = """
import os, signal, sys
import keras, numpy as np
import keras_winit
from keras_winit.monitor import JsonLinesWriter
log_dir, last = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(0)
data = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")

class Kill(keras.callbacks.Callback):
    count = 0

    def on_train_batch_end(self, batch, logs=None):
        if self.count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "tanh", name="d")])
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
statistics = ["stddev", "gradient_norm"]
monitor = keras_winit.ActivationMonitor(
    log_dir, every=1, statistics=statistics, writers=[JsonLinesWriter(log_dir + "/out.jsonl")]
)
backup = keras.callbacks.BackupAndRestore(log_dir + "/backup")
callbacks = [backup, monitor, Kill()]
model.fit(data, data, batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
"""


def train(log_dir, last):
    """Train in a process of its own, which is killed after a step; return its exit status."""
    log_dir.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CODE, str(log_dir), str(last)]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    return subprocess.run(command, env=environment, timeout=300, check=False).returncode


def test_curves_go_on_after_a_kill_and_no_step_is_there_twice(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert train(killed, LAST) == -signal.SIGKILL
    assert train(killed, -1) == train(whole, -1) == 0
    curves, expected = (read("python", log_dir) for log_dir in (killed, whole))
    # The epoch in progress was lost and is trained again.
    steps = list(range(STEPS * EPOCHS))
    for tag in ("winit/loss", "winit/stddev_median", "winit_gradient_norm/000_d_kernel"):
        (found,) = [points for (_, name), points in curves.items() if name == tag]
        (wanted,) = [points for (_, name), points in expected.items() if name == tag]
        assert [step for step, _ in found] == steps
        values = [[value for _, value in points] for points in (found, wanted)]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
    lines = map(json.loads, (killed / "out.jsonl").read_text().splitlines())
    written = [line["step"] for line in lines if line["kind"] == "sample"]
    # A file that is appended to contains the repeated steps twice; the last record counts.
    assert written == [*range(LAST + 1), *range(STEPS, STEPS * EPOCHS)]
