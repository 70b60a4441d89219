"""The optimizer settings, and when a network counts as trained."""

from typing import Any

import numpy as np

# Names of the optimizer settings, whether they are Adam, and their learning rates. SGD has a
# momentum of 0.9; the formulas are those of Keras' optimizers.
SETTINGS = (
    ("Adam 1e-3", True, 1e-3),
    ("Adam 1e-4", True, 1e-4),
    ("SGD 1e-2", False, 1e-2),
    ("SGD 1e-3", False, 1e-3),
)

# A network trains if its score reaches this: the accuracy, or the explained share of the
# variance in regression.
THRESHOLD = 0.9

# Steps over which the score on the training batches is averaged.
WINDOW = 20


def steps_to_threshold(curves: Any) -> Any:
    """Return the first step at which the mean score of `WINDOW` steps reaches the threshold.

    Args:
        curves: Scores on the training batches, of shape (..., steps).

    Returns:
        Floats of shape (...), NaN where the threshold is not reached.
    """
    means = np.lib.stride_tricks.sliding_window_view(curves, WINDOW, -1).mean(-1)
    reached = means >= THRESHOLD
    return np.where(reached.any(-1), reached.argmax(-1) + float(WINDOW), np.nan)
