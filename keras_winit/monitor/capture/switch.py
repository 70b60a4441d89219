"""Exchanges a model's train function for one call at a time, to capture it or keep its batches."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.kept_batches import KeptBatches
from keras_winit.monitor.capture.train_function import CapturingFunction, Receiver

# Number of compiled functions to keep: one for each set of monitors that watch the same step.
# Three monitors may form four such sets or more.
MAX_FUNCTIONS = 8


class SingleCall:
    """Stands in for a model's train function for one call, then gives it back.

    Args:
        model: Model to train.
        original: Its train function.
        capturing: Function to call instead, with the captures of `receivers`. None: the
            model's own is called.
        receivers: For each capture, the receiver of its vector.
        keepers: Where to keep the batches that the call takes.
    """

    def __init__(
        self,
        model: Any,
        original: Any,
        capturing: CapturingFunction | None,
        receivers: Mapping[Capture, Receiver],
        keepers: Sequence[KeptBatches] = (),
    ) -> None:
        self.model, self.original = model, original
        self.capturing, self.receivers, self.keepers = capturing, receivers, keepers

    def __call__(self, *arguments: Any) -> Any:
        """Put the train function back, then run it or the capturing one."""
        _put(self.model, self.original)
        *state, data = arguments
        for keeper in self.keepers:
            data = keeper.keep(data, self.model.steps_per_execution)
        if self.capturing is None:
            return self.original(*state, data)
        return self.capturing(self.original, tuple(self.receivers.values()), *state, data)


class Switch:
    """Makes a model's next train call a capturing one, and keeps the functions for it."""

    def __init__(self) -> None:
        # A key holds several captures if several monitors want the same step.
        self._functions: dict[tuple[Capture, ...], CapturingFunction] = {}

    def arm(self, model: Any, capture: Capture, receive: Receiver) -> None:
        """Let the next call of the model's train function capture, once.

        Args:
            model: Compiled, with its train function made.
            capture: What to capture, beside what other monitors have asked of this call.
            receive: Receiver of the vector.
        """
        original, receivers, keepers = _opened(model.train_function)
        receivers[capture] = receive
        captures = tuple(receivers)
        function = self._functions.get(captures)
        if function is None or function.original is not original:
            _put(model, original)
            function = self._functions[captures] = CapturingFunction(model, captures)
            if len(self._functions) > MAX_FUNCTIONS:
                # The oldest function belongs to a set of monitors that may no longer exist.
                del self._functions[next(iter(self._functions))]
        _put(model, SingleCall(model, original, function, receivers, keepers))

    @staticmethod
    def keep_batches(model: Any, keeper: KeptBatches) -> None:
        """Let the next call of the model's train function keep its batches."""
        call = model.train_function
        original, receivers, keepers = _opened(call)
        function = call.capturing if isinstance(call, SingleCall) else None
        _put(model, SingleCall(model, original, function, receivers, (*keepers, keeper)))

    @staticmethod
    def is_waiting(model: Any) -> bool:
        """Return whether the call of the train function that was exchanged is yet to come."""
        return isinstance(getattr(model, "train_function", None), SingleCall)

    @staticmethod
    def disarm(model: Any) -> None:
        """Put back the train function that an interrupted `fit` has left exchanged."""
        function = getattr(model, "train_function", None)
        if isinstance(function, SingleCall):
            _put(model, function.original)


def _put(model: Any, function: Any) -> None:
    # This goes past `__setattr__`, by which Keras and torch track assignments and which would take
    # longer than everything else that is done at a step without a record.
    model.__dict__["train_function"] = function


def _opened(function: Any) -> tuple[Any, dict[Capture, Receiver], tuple[KeptBatches, ...]]:
    """Return the model's own train function, and the receivers and keepers that wait for it."""
    if isinstance(function, SingleCall):
        return function.original, {**function.receivers}, tuple(function.keepers)
    return function, {}, ()
