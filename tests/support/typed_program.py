"""A program of a user, for mypy: the public functions have types, and unknown names are errors."""

from typing import Any, assert_type

import numpy as np

import keras_winit
from keras_winit import monitor, plots, theory


def check(model: Any) -> str:
    """Report on a model, repair it and report again."""
    x = np.zeros((8, 4), np.float32)
    report = keras_winit.signal_report(model, x, samples=8, verbose=0)
    assert_type(report, keras_winit.report.SignalReport)
    assert_type(report.rows[0].stddev, float)
    assert_type(report.findings, monitor.Findings)
    changes = keras_winit.lsuv(model, x, per_channel=True, seed=1)
    assert_type([row.layer for row in changes.rows], list[str])
    assert_type(keras_winit.fans(model), dict[str, tuple[float, float] | None])
    keras_winit.reinitialize(model, keras_winit.Sparse(connections=3, seed=7), layers="block*")
    keras_winit.no_such_function(model)  # type: ignore[attr-defined]
    return report.verdict


def train(model: Any, x: Any) -> list[str]:
    """Train a model with a monitor and a writer of its own; return the layers with findings."""
    watch = keras_winit.ActivationMonitor(
        log_dir="logs", every=lambda step: step % 10 == 0, writers=[LossWriter()]
    )
    model.fit(x, x, callbacks=[watch])
    steps, values = watch.history.curve("dense", "stddev")
    assert_type(steps.dtype, np.dtype[np.int64])
    assert_type(values.dtype, np.dtype[np.float64])
    plots.propagation([keras_winit.propagate("winit>sparse", depth=3)], "layers.png")
    assert_type(theory.gain("gelu"), float)
    return [finding.layer for finding in watch.findings]


class LossWriter(monitor.Writer):
    """Prints the losses."""

    def write(self, record: monitor.Record) -> None:
        """Print the loss of a step."""
        assert_type(record.loss, float | None)
        print(record.step, record.loss)
