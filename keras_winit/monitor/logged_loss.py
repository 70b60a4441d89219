"""Looks at the loss that Keras logs, to see at which step it stops being finite."""

import math
from collections.abc import Mapping
from typing import Any

from keras_winit.monitor.capture.kept_batches import KeptBatches


class LoggedLoss:
    """The loss in the logs of each step, and the batches of the last step without a record.

    Keras turns the logs of each step into Python numbers for its callbacks, so that looking at
    them costs nothing. The logged loss is a mean over the epoch so far: the first step at which
    it is not finite is the step at which the loss is not finite.
    """

    def __init__(self) -> None:
        self.batches = KeptBatches()
        self._was_finite = True

    def begin(self) -> None:
        """Start anew, because a `fit` begins."""
        self.batches.clear()
        self._was_finite = True

    def first_non_finite(self, logs: Mapping[str, Any] | None) -> float | None:
        """Return the loss in the logs of a step if it is not finite and the last one was."""
        loss = (logs or {}).get("loss")
        if not isinstance(loss, float):
            return None
        was_finite, self._was_finite = self._was_finite, math.isfinite(loss)
        return loss if was_finite and not self._was_finite else None
