"""Collects the outputs of layers with what only a report measures: cosines, repeated units."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask

from keras_winit import statistics
from keras_winit.models.call_hook import hooked
from keras_winit.models.no_gradients import no_gradients
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.collector import THREAD, StepCollector
from keras_winit.monitor.capture.layout import RowSlot
from keras_winit.monitor.capture.measurements import rectifies, unit_axis_of_output
from keras_winit.monitor.capture.patches import instrumented_layers
from keras_winit.monitor.capture.traces import current_trace, is_measurable, trace_of
from keras_winit.monitor.row_names import is_pre_activation, layer_of

# Units are compared over this many entries at most.
ENTRIES_COMPARED = 1024


class ReportCollector(StepCollector):
    """Collects the rows of one pass, and lets gradients reach the outputs of all layers.

    Args:
        capture: What to capture.
        careful: Whether to take the careful measure of everything, see `statistics.units`.
        probes: Zeros to add to each output that gradients must reach, in the order of the
            calls. Empty: the outputs themselves are the sources of gradients.
        postpone: Whether to keep the rows instead of measuring them.
    """

    def __init__(
        self,
        capture: Capture,
        careful: bool = False,
        probes: Any = (),
        postpone: bool = False,
    ) -> None:
        super().__init__(capture, careful)
        self._probes = probes
        # Rows to measure later: the arguments of `measure_row`.
        self.postponed: list[tuple[Any, ...]] | None = [] if postpone else None
        # The outputs of all layer calls, which keeps their ids valid, and where each one is.
        self.sources: list[Any] = []
        self._places: dict[int, int] = {}
        # For each row name, the place of its tensor in `sources`, its mean cosine, the sums of its
        # units and their norm.
        self.places: dict[str, int] = {}
        self.cosines: dict[str, Any] = {}
        self.unit_sums: dict[str, tuple[Any, Any]] = {}

    @property
    def progress(self) -> str:
        """A sentence on how far the pass has come."""
        names = list(self.rows) or [name for _, name, *_ in self.postponed or ()]
        place = f"after layer {layer_of(names[-1])!r}" if names else "before the first layer"
        return f"`signal_report` stopped {place}. The model is as it was before the call."

    def as_source(self, value: Any) -> Any:
        """Return an output of a layer such that its gradient can be taken."""
        is_seen = is_measurable(value) and current_trace() == trace_of(value) == self.trace
        if not is_seen:
            return value
        number = len(self.sources)
        if number < len(self._probes):
            mask, value = get_keras_mask(value), value + self._probes[number]
            set_keras_mask(value, mask)
        elif keras.backend.backend() == "torch" and not value.requires_grad:
            value = value.requires_grad_()
        self.sources.append(value)
        self._places[id(value)] = number
        return value

    def _measure(
        self,
        layer: Any,
        name: str,
        tensor: Any,
        mask: Any = None,
        activation: Any = None,
        z: Any = None,
    ) -> None:
        if id(tensor) in self._places:
            self.places[name] = self._places[id(tensor)]
        if self.postponed is not None:
            self.postponed.append((layer, name, tensor, mask, activation, z))
        else:
            self.measure_row(layer, name, tensor, mask, activation, z)

    def measure_row(
        self, layer: Any, name: str, tensor: Any, mask: Any, activation: Any, z: Any
    ) -> None:
        """Measure one row, with its cosine and its equal units."""
        super()._measure(layer, name, tensor, mask, activation, z)
        if name not in self.measured:
            return
        with no_gradients():
            values = ops.stop_gradient(tensor)
            self.cosines[name] = statistics.mean_cosine(values)
            matrix, _ = statistics.flatten(
                values, None, unit_axis_of_output(layer, len(tensor.shape))
            )
            matrix = matrix[:ENTRIES_COMPARED]
            lengths, _, _ = statistics.norms(lambda: [matrix], self.careful)
            self.unit_sums[name] = statistics.unit_sums(matrix, (1,)), lengths[0]

    def measure_compiled(self, compiled: dict[Any, Any], row: tuple[Any, ...]) -> None:
        """Measure one row on JAX, in a function that is compiled once for rows of its kind.

        Args:
            compiled: The compiled functions by kind; kept over all rows.
            row: As in `postponed`.
        """
        import jax

        layer, name, tensor, mask, activation, z = row
        saturates = self.capture.can_saturate(activation)
        is_dead = rectifies(layer) and not is_pre_activation(name)
        kind = (
            unit_axis_of_output(layer, len(tensor.shape)),
            is_dead,
            activation if saturates else None,
        )

        def measure(tensor: Any, mask: Any, z: Any) -> Any:
            inner = ReportCollector(self.capture, careful=True)
            inner.measure_row(layer, name, tensor, mask, activation, z)
            if name not in inner.measured:
                return None
            return inner.measured[name], inner.cosines[name], inner.unit_sums[name]

        function = compiled.setdefault(kind, jax.jit(measure))
        found = function(tensor, mask, z if saturates else None)
        if found is not None:
            self.measured[name], self.cosines[name], self.unit_sums[name] = found
            width, order = self.unit_sums[name][0].shape[0], len(self.rows)
            self.rows[name] = RowSlot(name, order, width, is_dead, saturates)


@contextlib.contextmanager
def collecting(model: Any, collector: ReportCollector) -> Iterator[None]:
    """Let a collector see all layer calls of this thread, and alter their outputs."""

    def make_sources(call: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(layer, *args, **kwargs)
        is_other = collector not in getattr(THREAD, "collectors", ()) or layer is model
        # The outer hook counts a recurrent layer among those around its own call.
        if is_other or collector.recurrent_depth > isinstance(layer, keras.layers.RNN):
            return outputs
        return keras.tree.map_structure(collector.as_source, outputs)

    before = getattr(THREAD, "collectors", ())
    THREAD.collectors = (collector,)
    try:
        # The hook that is added first is the inner one: the collector sees what it returns.
        with hooked(make_sources), instrumented_layers(model):
            yield
    except BaseException as error:
        error.add_note(collector.progress)
        raise
    finally:
        THREAD.collectors = before
