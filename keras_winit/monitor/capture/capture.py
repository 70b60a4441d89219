"""The request of one monitor: what to capture from a model, and what could not be captured."""

from collections.abc import Callable, Iterable
from typing import Any

from keras_winit.models.names import Names
from keras_winit.monitor.capture.layout import Layout
from keras_winit.monitor.capture.plan import Plan

# Reasons why something was not measured, shown as `History.unseen`.
HIDDEN = "runs inside a scan, a loop, a checkpoint or a nested function"
NOT_DENSE = "is sparse or ragged"
EMPTY = "is empty"
NO_LAYERS = "none was called by this step: a function that was traced before may hold them"
NO_OPTIMIZER = "was not called by this step; others than the model's own are not watched"


class Capture:
    """The statistics and layers that one monitor asks for, and what could not be captured.

    Args:
        plan: Statistics to measure.
        wanted: Predicate `layer -> bool`.
        names: Names of the model's layers and variables.
    """

    def __init__(self, plan: Plan, wanted: Callable[[Any], bool], names: Names) -> None:
        self.plan, self.wanted, self.names = plan, wanted, names
        self.layouts: list[Layout] = []
        # Reasons why something was not measured, by row name.
        self.unseen: dict[str, str] = {}
        # The error that ended the capture.
        self.broken: str | None = None
        # This is called when a step fails, because that step may be the last one.
        self.on_failure: Callable[[], None] = lambda: None
        # These are known from the first step on: the unit axes of each kernel by the variable's
        # name, and whether the loss has neither penalties nor sample weights.
        self.unit_axes: dict[str, tuple[int, ...]] | None = None
        self.plain_loss: bool | None = None
        # The activations and whether they can saturate, by `id`.
        self._activations: dict[int, tuple[Any, bool]] = {}

    def knows(self, activation: Any) -> bool:
        """Return whether an activation has been classified."""
        known = self._activations.get(id(activation))
        return known is not None and known[0] is activation

    def classify(self, activation: Any, can_saturate: bool) -> None:
        """Remember whether an activation can saturate."""
        self._activations[id(activation)] = activation, can_saturate

    def can_saturate(self, activation: Any) -> bool:
        """Return whether an activation is known to be one that can saturate."""
        return self.knows(activation) and self._activations[id(activation)][1]

    def number_of(self, layout: Layout) -> int:
        """Return the number of a layout, and keep it if it is new."""
        if layout not in self.layouts:
            self.layouts.append(layout)
        return self.layouts.index(layout)

    def note_unseen(self, name: str, reason: str) -> None:
        """Remember why a row or variable was not measured; the first reason stays."""
        self.unseen.setdefault(name.removeprefix(":"), reason)

    def forget_empty(self, measured: Iterable[str]) -> None:
        """Forget that rows were empty, because a later batch was not."""
        for name in measured:
            if self.unseen.get(name) == EMPTY:
                del self.unseen[name]
