"""Exchanges a model's train function for a capturing one, for one call at a time."""

from collections.abc import Mapping
from typing import Any

from keras_winit.monitor.capture.collector import Capture
from keras_winit.monitor.capture.train_function import CapturingFunction, Receiver

# Number of compiled functions to keep: one for each set of monitors that watch the same step,
# of which three monitors make four.
MAX_FUNCTIONS = 8


class SingleCall:
    """Stands in for a model's train function for one call, then gives it back.

    Args:
        model: Model to train.
        original: Its train function.
        capturing: Function to call instead, with the captures of `receivers`.
        receivers: For each capture, the receiver of its vector.
    """

    def __init__(
        self,
        model: Any,
        original: Any,
        capturing: CapturingFunction,
        receivers: Mapping[Capture, Receiver],
    ) -> None:
        self.model, self.original = model, original
        self.capturing, self.receivers = capturing, receivers

    def __call__(self, *arguments: Any) -> Any:
        """Put the train function back, then run the capturing one."""
        self.model.train_function = self.original
        return self.capturing(self.original, tuple(self.receivers.values()), *arguments)


class Switch:
    """Makes a model's next train call a capturing one, and keeps the functions for it."""

    def __init__(self) -> None:
        # By what is captured, because another monitor may want the same step.
        self._functions: dict[tuple[Capture, ...], CapturingFunction] = {}

    def arm(self, model: Any, capture: Capture, receive: Receiver) -> None:
        """Let the next call of the model's train function capture, once.

        Args:
            model: Compiled, with its train function made.
            capture: What to capture, beside what other monitors have asked of this call.
            receive: Receiver of the vector.
        """
        original, receivers = model.train_function, {}
        if isinstance(original, SingleCall):
            original, receivers = original.original, {**original.receivers}
        receivers[capture] = receive
        captures = tuple(receivers)
        function = self._functions.get(captures)
        if function is None or function.original is not original:
            model.train_function = original
            function = self._functions[captures] = CapturingFunction(model, captures)
            if len(self._functions) > MAX_FUNCTIONS:
                # The oldest belongs to a set of monitors that may no longer exist.
                del self._functions[next(iter(self._functions))]
        model.train_function = SingleCall(model, original, function, receivers)

    @staticmethod
    def disarm(model: Any) -> None:
        """Put back the train function that an interrupted `fit` has left exchanged."""
        function = getattr(model, "train_function", None)
        if isinstance(function, SingleCall):
            model.train_function = function.original
