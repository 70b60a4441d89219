"""Collects the tensors that one training step exposes, and packs what is measured of them."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops
from keras.src.backend import get_keras_mask

from keras_winit.models.no_gradients import no_gradients
from keras_winit.monitor.capture.capture import (
    EMPTY,
    HIDDEN,
    NO_LAYERS,
    NO_OPTIMIZER,
    NOT_DENSE,
    Capture,
)
from keras_winit.monitor.capture.layout import Layout, RowSlot
from keras_winit.monitor.capture.measurements import (
    MeasuredRow,
    MeasuredVariables,
    Output,
    Update,
    is_unjoined,
    joined_updates,
    measure,
    measure_variables,
    pack,
    rectifies,
    unit_axis_of_output,
)
from keras_winit.monitor.capture.plan import INPUT, TARGET
from keras_winit.monitor.capture.traces import (
    as_tensors,
    current_trace,
    in_recomputation,
    in_vectorized_map,
    is_dense,
    is_measurable,
    is_numeric,
    replica_count_and_id,
    trace_of,
)
from keras_winit.monitor.error_text import one_line
from keras_winit.monitor.row_names import is_pre_activation, row_name

# Prefix of the packed vectors among the logs. It must not be the name of a metric.
KEY = "keras_winit: what was measured "

# Holds the `collectors` of the step that a thread runs; replicas run in threads of their own.
THREAD = threading.local()


def active_collectors() -> tuple["StepCollector", ...]:
    """Return the collectors of the step that this thread runs, one for each monitor."""
    return getattr(THREAD, "collectors", ())


class StepCollector:
    """Measures the layers, the loss and the updates of one step, traced or executed.

    Args:
        capture: What to capture.
        careful: Whether to take the careful measure of everything, see `statistics.units`.
    """

    def __init__(self, capture: Capture, careful: bool = False) -> None:
        self.capture, self.careful = capture, careful
        # The level of tracing at which tensors can be measured, and that of the whole step.
        self.trace = self.step_trace = current_trace()
        self.rows: dict[str, RowSlot] = {}
        self.measured: dict[str, MeasuredRow] = {}
        # The updates and what was measured of them, by the names of the variables with which the
        # optimizer was called.
        self.applied: dict[tuple[str, ...], dict[str, Update]] = {}
        self.updates: dict[tuple[str, ...], MeasuredVariables] = {}
        # The activation, pre-activation and their level of tracing, by the `id` of the layer.
        self.pre_activations: dict[int, tuple[Any, Any, Any]] = {}
        self.calls: dict[str, int] = {}
        self.hidden: set[str] = set()
        self.loss: Any = None
        # Number of recurrent layers around the current call: their cells run in loops.
        self.recurrent_depth = 0

    def notify(self, method: str, *arguments: Any) -> None:
        """Call a method; an error in it ends the capture, but not the step."""
        if self.capture.broken is None:
            try:
                getattr(self, method)(*arguments)
            except Exception as error:
                self.capture.broken = one_line(error)

    def collect_inputs(self, inputs: Any) -> None:
        """Measure the inputs of the model, at its first call in the step."""
        self._collect_data(INPUT, inputs, is_measurable)

    def collect_targets(self, targets: Any) -> None:
        """Measure the targets, at the first computation of the loss in the step."""
        self._collect_data(TARGET, targets, is_numeric)

    def _collect_data(self, kind: str, data: Any, has_row: Callable[[Any], bool]) -> None:
        if not self.capture.plan.measures_layers:
            return
        tensors = as_tensors(data)
        if not all(is_dense(tensor) for tensor in tensors if ops.is_tensor(tensor)):
            self.capture.note_unseen(kind, NOT_DENSE)
        for position, tensor in enumerate(filter(has_row, tensors)):
            name = f"{kind}:{position}" if position else kind
            if name not in self.measured and current_trace() == trace_of(tensor) == self.trace:
                self._measure(None, name, tensor, get_keras_mask(tensor))

    def hold_pre_activation(self, layer: Any, activation: Any, z: Any) -> None:
        """Keep the pre-activation of a layer until its call ends; the first of a call counts."""
        self.pre_activations.setdefault(id(layer), (activation, z, current_trace()))

    def collect_outputs(self, layer: Any, outputs: Any) -> None:
        """Measure the outputs of a layer call, and its pre-activation."""
        activation, z, trace = self.pre_activations.pop(id(layer), (None, None, None))
        capture = self.capture
        if self.recurrent_depth or not capture.plan.measures_layers or not capture.wanted(layer):
            return
        tensors = [tensor for tensor in keras.tree.flatten(outputs) if ops.is_tensor(tensor)]
        if not tensors:
            return  # The outputs are symbolic: the model is being built.
        name = capture.names.of(layer)
        if current_trace() != self.trace or in_vectorized_map() or in_recomputation():
            self.hidden.add(name)
            return
        call = self.calls[name] = self.calls.get(name, 0) + 1
        pre_activation = row_name(name, call=call, pre_activation=True)
        if z is not None and trace != self.trace:
            self.hidden.add(pre_activation)
            z = None
        if z is not None and not is_measurable(z):
            z = None
        if z is not None and not isinstance(layer, keras.layers.Activation):
            # A pre-activation has no mask of its own.
            mask = get_keras_mask(tensors[0]) if _same_shape(z, tensors[0]) else None
            self._measure(layer, pre_activation, z, mask)
        for position, tensor in enumerate(tensors):
            row = row_name(name, position, call)
            if not is_dense(tensor):
                capture.note_unseen(row, NOT_DENSE)
            elif is_measurable(tensor):
                function = activation if z is not None and _same_shape(z, tensor) else None
                self._measure(layer, row, tensor, get_keras_mask(tensor), function, z)

    def _measure(
        self,
        layer: Any,
        name: str,
        tensor: Any,
        mask: Any = None,
        activation: Any = None,
        z: Any = None,
    ) -> None:
        if trace_of(tensor) != self.trace:
            self.hidden.add(name)
            return
        if 0 in tuple(tensor.shape):
            self.capture.note_unseen(name, EMPTY)
            return
        output = Output(
            name=name,
            values=tensor,
            mask=mask,
            unit_axis=unit_axis_of_output(layer, len(tensor.shape)),
            rectifier=rectifies(layer) and not is_pre_activation(name),
            activation=activation if self.capture.can_saturate(activation) else None,
            z=z,
        )
        try:
            with no_gradients():
                self.rows[name], self.measured[name] = measure(
                    self.capture.plan, output, len(self.rows), self.careful
                )
        except Exception as error:
            self.capture.note_unseen(name, one_line(error))

    def collect_updates(self, updates: Sequence[tuple[Any, Any, Any, Any]]) -> None:
        """Measure an optimizer call: each variable, its value before, gradient, value after.

        Calls with the same variable are measured as one update.
        """
        if not (self.capture.plan.variable_statistics and updates):
            return
        if current_trace() != self.step_trace:
            self.capture.note_unseen("optimizer", HIDDEN)
            return
        axes, name_of = self.capture.unit_axes or {}, self.capture.names.of
        try:
            with no_gradients():
                named = {
                    name: Update(name, *values, axes.get(name, ()))
                    for name, values in ((name_of(update[0]), update[1:]) for update in updates)
                }
                for earlier in [key for key in self.applied if not named.keys().isdisjoint(key)]:
                    del self.updates[earlier]
                    named = joined_updates(self.applied.pop(earlier), named)
                key = tuple(named)
                self.applied[key] = named
                self.updates[key] = measure_variables(
                    self.capture.plan, [*named.values()], self.careful
                )
        except Exception as error:
            self.capture.note_unseen("optimizer", one_line(error))

    def packed(self, measured: dict[str, MeasuredRow], loss: Any) -> Any:
        """Return the packed vector of the step, of shape (replicas, size).

        Args:
            measured: Measurements of the rows, at the level of the whole step.
            loss: A scalar at that level, or None.
        """
        capture = self.capture
        names = [name for name in self.rows if name in measured]
        names.sort(key=lambda name: not is_unjoined(measured[name]))
        self._note_missing_rows(measured)
        layout = Layout(
            capture.plan,
            tuple(self.rows[name] for name in names),
            tuple(variables.slots for variables in self.updates.values()),
            loss is not None,
        )
        with no_gradients():
            vector = pack(
                capture.number_of(layout),
                loss,
                [measured[name] for name in names],
                [*self.updates.values()],
            )[None]
            count, own = replica_count_and_id()
            if count > 1:
                # Keras averages the logs over the replicas: each fills its own row.
                is_own = ops.arange(count)[:, None] == own
                vector = ops.where(is_own, float(count) * vector, 0.0)
        return vector

    def _note_missing_rows(self, measured: dict[str, MeasuredRow]) -> None:
        # A layer that was hidden at first may have been measured later: a model may run once
        # to find its shapes.
        for name in sorted((self.hidden | self.rows.keys()) - measured.keys()):
            self.capture.note_unseen(name, HIDDEN)
        model, plan = self.capture.names.model, self.capture.plan
        if plan.measures_layers and not (self.rows or self.hidden):
            layers = model._flatten_layers(include_self=False)
            if any(self.capture.wanted(layer) for layer in layers):
                self.capture.note_unseen("layers", NO_LAYERS)
        if plan.variable_statistics and model.trainable_variables and not self.updates:
            self.capture.note_unseen("optimizer", NO_OPTIMIZER)


def _same_shape(one: Any, other: Any) -> bool:
    return tuple(one.shape) == tuple(other.shape)
