"""Applies the monitor's rules to a model on one batch, before any training."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_winit.models.restored_state import (
    generators_restored,
    loss_and_metrics_left_unbuilt,
    values_restored,
)
from keras_winit.monitor.arguments import require_whole
from keras_winit.monitor.callback import ActivationMonitor
from keras_winit.monitor.capture.step_counter import updates_counter
from keras_winit.monitor.diagnosis.findings import Findings
from keras_winit.monitor.diagnosis.rules import RULES, Rule


def check(
    model: Any, x: Any, y: Any = None, steps: int = 4, rules: Sequence[Rule] = RULES
) -> Findings:
    """Train a compiled model for a few steps on one batch, and restore it; return the findings.

    A finding must persist for several steps. Afterwards the weights, the optimizer, the metrics
    and the states of random layers are what they were.

    Args:
        model: Compiled model.
        x: Batch of inputs, as `fit` takes them.
        y: Targets of the batch. Defaults to None.
        steps: Number of steps, at least 1. Defaults to 4.
        rules: Rules to apply. Defaults to `RULES`.

    Returns:
        The findings, the worst first.

    Raises:
        TypeError: If `steps` is not an integer.
        ValueError: If the model is not compiled, or `steps` is less than 1.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> model.compile("sgd", "mse")
        >>> print(check(model, keras.ops.ones((8, 4)), keras.ops.ones((8, 2))))
        nothing was found
    """
    if not getattr(model, "compiled", False):
        raise ValueError(
            f"`check` needs a compiled model. Received: {model.name!r}, not compiled. Call "
            "`model.compile(optimizer, loss)`."
        )
    require_whole("steps", steps, "check")
    size = len(keras.tree.flatten(x)[0])
    monitor = ActivationMonitor(every=1, verbose=0, rules=rules)
    if not model.built:
        model(x)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    with _state_restored(model):
        # The monitor counts steps as the optimizer does; the rules need the start of training.
        updates_counter(model.optimizer).assign(0)
        options = {"batch_size": size, "shuffle": False, "epochs": steps, "verbose": 0}
        model.fit(x, y, callbacks=[monitor], **options)
    return monitor.findings


@contextlib.contextmanager
def _state_restored(model: Any) -> Iterator[None]:
    """Restore all state of a model at the end."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    history, stop = getattr(model, "history", None), model.stop_training
    try:
        with (
            values_restored(variables),
            generators_restored(),
            loss_and_metrics_left_unbuilt(model),
        ):
            yield
    finally:
        model.history, model.stop_training = history, stop
