"""Reads the learning rates that an optimizer will use."""

from typing import Any

import keras
from keras import ops

Schedule = keras.optimizers.schedules.LearningRateSchedule

# Steps at which a schedule is read: a warm-up from zero is over by the last one.
STEPS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 999)


def learning_rates(optimizer: Any) -> dict[int, float]:
    """Return learning rates by step: at `STEPS` for a schedule, otherwise at the next step only.

    The result is empty if the optimizer has no learning rate.
    """
    # An optimizer that scales the loss keeps the rate in the optimizer that it wraps.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(optimizer, "_learning_rate", None)
    if isinstance(rate, Schedule):
        return {step: _number(rate(ops.convert_to_tensor(step))) for step in STEPS}
    rate = getattr(optimizer, "learning_rate", None)
    return {} if rate is None else {int(ops.convert_to_numpy(optimizer.iterations)): _number(rate)}


def _number(rate: Any) -> float:
    return float(ops.convert_to_numpy(rate))
