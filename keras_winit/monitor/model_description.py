"""Describes the model that a monitor watches, for the rules."""

from typing import Any

from keras_winit.models.graph import try_trace
from keras_winit.models.layers import LayerInfo, describe_layers
from keras_winit.models.names import Names
from keras_winit.models.setup import ModelSetup, collect_setup
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.diagnosis.model_facts import ModelFacts, collect_model_facts
from keras_winit.monitor.error_text import one_line
from keras_winit.monitor.warning import warn


class ModelDescription:
    """The layers of a model and what it was compiled with, read once for each `fit`.

    Args:
        model: The model.
        names: The names of its layers.
    """

    def __init__(self, model: Any, names: Names) -> None:
        self._model, self._names = model, names
        self._layers: dict[int, LayerInfo] | None = None
        self._setup: ModelSetup | None = None
        self._facts: ModelFacts | None = None

    def read(self) -> None:
        """Read the model, which must be built; warn if that fails."""
        try:
            trace = try_trace(self._model)
            self._layers = describe_layers(self._model, self._names, trace)
            self._setup = collect_setup(self._model, self._layers, self._names, trace)
        except Exception as error:
            self._layers = self._layers or {}
            warn(
                f"`ActivationMonitor` knows little of the model. Received: {one_line(error)}",
                stacklevel=3,
            )

    def facts(self, capture: Capture | None) -> ModelFacts:
        """Return the facts that rules need besides records."""
        if self._facts is None:
            if self._layers is None:
                self.read()
            self._facts = collect_model_facts(self._model, self._layers or {}, capture, self._setup)
        return self._facts
