"""What the taps of one training step saw, at the level where it can leave the step."""

import contextlib
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask

from keras_winit.models.names import Names
from keras_winit.monitor.capture.layout import Layout, Row
from keras_winit.monitor.capture.measurements import (
    Measured,
    MeasuredVariables,
    Output,
    Update,
    is_unjoined,
    measure,
    measure_variables,
    pack,
    rectifies,
    unit_axis,
)
from keras_winit.monitor.capture.plan import INPUT, Plan
from keras_winit.monitor.row_names import is_before, site

# Of what was measured, among the logs; no name of a metric.
KEY = "keras_winit: what was measured "
HIDDEN = "runs inside a scan, a loop, a checkpoint or a nested function"
NOT_DENSE = "is sparse or ragged"
NONE = "none was called by this step: a function that was traced before may hold them"
OTHER = "was not called by this step; others than the model's own are not watched"

# Of `scopes`; replicas have threads of their own.
LOCAL = threading.local()


def scopes() -> tuple["Scope", ...]:
    """Of the step that this thread is in, one for each monitor."""
    return getattr(LOCAL, "scopes", ())


def trace_now() -> Any:
    """What tells one level of tracing from another, or None where there is just one."""
    backend = keras.backend.backend()
    if backend == "jax":
        from jax.extend.core import get_opaque_trace_state

        return get_opaque_trace_state(convention="flax")
    if backend == "tensorflow":
        import tensorflow as tf

        return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    import torch

    # Within `backward`, where a checkpoint runs its layers again.
    return torch._C._current_graph_task_id()


def trace_of(tensor: Any) -> Any:
    """The level that a tensor belongs to, to compare with `trace_now`."""
    if keras.backend.backend() == "tensorflow":
        return getattr(tensor, "graph", None)
    return trace_now()


def _vectorized() -> bool:
    """Whether TensorFlow writes down what is done to one sample, to do it to all later."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    return "loop_body" in tf.compat.v1.get_default_graph().get_name_scope().split("/")


def _recomputed() -> bool:
    """Whether TensorFlow runs a layer again, for the gradient of a checkpoint."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    backward, frame = tf.GradientTape.gradient.__code__, inspect.currentframe()
    while frame is not None and frame.f_code is not backward:
        frame = frame.f_back
    return frame is not None


def is_dense(tensor: Any) -> bool:
    """Whether it has all its entries, in rows of equal length."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return isinstance(tensor, tf.Tensor | tf.Variable)
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.Array)
    import torch

    return tensor.layout is torch.strided


def is_float_tensor(value: Any) -> bool:
    """Whether there is something to measure: not symbolic, not whole, of a rank that is known."""
    if not ops.is_tensor(value) or getattr(value.shape, "rank", 1) is None or not len(value.shape):
        return False
    if not is_dense(value):
        return False
    return "float" in keras.backend.standardize_dtype(value.dtype)


def replicas() -> tuple[int, Any]:
    """How many replicas there are, and the number of this one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            return context.num_replicas_in_sync, context.replica_id_in_sync_group
    return 1, 0


def reason(error: Exception) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class Watch:
    """What to look at in a model, and what could not be seen.

    Args:
        plan: What to measure.
        wanted: Whether to watch a layer.
        names: Of the model's layers and variables.
    """

    def __init__(self, plan: Plan, wanted: Callable[[Any], bool], names: Names) -> None:
        self.plan, self.wanted, self.names = plan, wanted, names
        self.layouts: list[Layout] = []
        self.unseen: dict[str, str] = {}
        # Of activations by their `id`, whether they act on each entry by itself and can be flat.
        self._flat: dict[int, tuple[Any, bool]] = {}
        self.broken: str | None = None
        # What is to be done when a step fails, as that may be the last.
        self.last_words: Callable[[], None] = lambda: None
        # Of each kernel, by the name of the variable; and whether the loss is that of the
        # targets alone. Known from the first step on.
        self.unit_axes: dict[str, tuple[int, ...]] | None = None
        self.plain_loss: bool | None = None

    def knows(self, activation: Any) -> bool:
        """Whether somebody has looked at this activation."""
        return id(activation) in self._flat and self._flat[id(activation)][0] is activation

    def note(self, activation: Any, can_be_flat: bool) -> None:
        """What was seen of an activation."""
        self._flat[id(activation)] = activation, can_be_flat

    def can_be_flat(self, activation: Any) -> bool:
        """Whether saturation means something for it."""
        return self.knows(activation) and self._flat[id(activation)][1]

    def number(self, layout: Layout) -> int:
        """Where this layout is kept."""
        if layout not in self.layouts:
            self.layouts.append(layout)
        return self.layouts.index(layout)

    def miss(self, name: str, why: str) -> None:
        """Note once that something could not be seen."""
        self.unseen.setdefault(name, why)


class Scope:
    """One step, traced or executed."""

    def __init__(self, watch: Watch, careful: bool = False) -> None:
        self.watch, self.careful = watch, careful
        self.base = self.outer = trace_now()
        self.rows: dict[str, Row] = {}
        self.layers: dict[str, Measured] = {}
        # By the variables that the optimizer was called with.
        self.updates: dict[tuple[str, ...], MeasuredVariables] = {}
        self.pending: dict[int, tuple[Any, Any, Any]] = {}
        self.calls: dict[str, int] = {}
        self.hidden: set[str] = set()
        self.loss: Any = None
        # How many recurrent layers we are in: their cells run in loops of their own.
        self.within = 0

    def tell(self, act: str, *news: Any) -> None:
        """Call a method; what goes wrong in it ends the watch, and not the step."""
        if self.watch.broken is None:
            try:
                getattr(self, act)(*news)
            except Exception as error:
                self.watch.broken = reason(error)

    def record_inputs(self, inputs: Any) -> None:
        """The model has been called; a second call in a step is no news."""
        if not self.watch.plan.of_layers:
            return
        # JAX without compilation gets the batch as numpy has it.
        tensors = [
            ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value
            for value in keras.tree.flatten(inputs)
        ]
        if not all(is_dense(tensor) for tensor in tensors if ops.is_tensor(tensor)):
            self.watch.miss(INPUT.removeprefix(":"), NOT_DENSE)
        for place, tensor in enumerate(filter(is_float_tensor, tensors)):
            name = f"{INPUT}:{place}" if place else INPUT
            if name not in self.layers and trace_now() == trace_of(tensor) == self.base:
                self._measure(None, name, tensor, get_keras_mask(tensor))

    def keep_activation(self, layer: Any, activation: Any, z: Any) -> None:
        """A layer is about to apply its activation, for the first time in this call."""
        self.pending.setdefault(id(layer), (activation, z, trace_now()))

    def record(self, layer: Any, outputs: Any) -> None:
        """A layer has been called."""
        activation, z, trace = self.pending.pop(id(layer), (None, None, None))
        if self.within or not self.watch.plan.of_layers or not self.watch.wanted(layer):
            return
        tensors = [t for t in keras.tree.flatten(outputs) if ops.is_tensor(t)]
        if not tensors:
            return  # Symbolic: the model is being built.
        name = self.watch.names.of(layer)
        if trace_now() != self.base or _vectorized() or _recomputed():
            self.hidden.add(name)
            return
        call = self.calls[name] = self.calls.get(name, 0) + 1
        if z is not None and trace != self.base:
            self.hidden.add(site(name, call=call, before=True))
            activation = z = None
        if z is not None and not is_float_tensor(z):
            activation = z = None
        if z is not None and not isinstance(layer, keras.layers.Activation):
            # It has no mask of its own.
            mask = get_keras_mask(tensors[0]) if _like(z, tensors[0]) else None
            self._measure(layer, site(name, call=call, before=True), z, mask)
        for place, tensor in enumerate(tensors):
            if not is_dense(tensor):
                self.watch.miss(site(name, place, call), NOT_DENSE)
            elif is_float_tensor(tensor):
                fits = z is not None and _like(z, tensor)
                mask = get_keras_mask(tensor)
                function = activation if fits else None
                self._measure(layer, site(name, place, call), tensor, mask, function, z)

    def _measure(
        self,
        layer: Any,
        name: str,
        tensor: Any,
        mask: Any = None,
        activation: Any = None,
        z: Any = None,
    ) -> None:
        if trace_of(tensor) != self.base:
            self.hidden.add(name)
            return
        if 0 in tuple(tensor.shape):
            self.watch.miss(name.removeprefix(":"), "is empty")
            return
        output = Output(
            name=name,
            values=tensor,
            mask=mask,
            unit_axis=unit_axis(layer, len(tensor.shape)),
            rectifier=rectifies(layer) and not is_before(name),
            activation=activation if self.watch.can_be_flat(activation) else None,
            z=z,
        )
        try:
            with quiet():
                found = measure(self.watch.plan, output, len(self.rows), self.careful)
                self.rows[name], self.layers[name] = found
        except Exception as error:
            self.watch.miss(name.removeprefix(":"), reason(error))

    def record_updates(self, updates: Sequence[tuple[Any, Any, Any, Any]]) -> None:
        """The optimizer has been called: variables, their weights, gradients, weights after."""
        if not (self.watch.plan.variable and updates):
            return
        if trace_now() != self.outer:
            self.watch.miss("optimizer", HIDDEN)
            return
        axes, name_of = self.watch.unit_axes or {}, self.watch.names.of
        try:
            with quiet():
                named = [Update(name_of(variable), *rest) for variable, *rest in updates]
                found = [one._replace(unit_axes=axes.get(one.name, ())) for one in named]
                names = tuple(one.name for one in found)
                self.updates[names] = measure_variables(self.watch.plan, found, self.careful)
        except Exception as error:
            self.watch.miss("optimizer", reason(error))

    def packed(self, layers: dict[str, Measured], loss: Any) -> Any:
        """All of it as rows: one for each replica, of which this one fills its own."""
        names = [name for name in self.rows if name in layers]
        names.sort(key=lambda name: not is_unjoined(layers[name]))
        # Hidden at first is what a model runs once to find its shapes.
        for name in sorted((self.hidden | self.rows.keys()) - layers.keys()):
            self.watch.miss(name, HIDDEN)
        if self.watch.plan.of_layers and not (self.rows or self.hidden):
            parts = self.watch.names.model._flatten_layers(include_self=False)
            if any(self.watch.wanted(part) for part in parts):
                self.watch.miss("layers", NONE)
        learns = self.watch.names.model.trainable_variables
        if self.watch.plan.variable and learns and not self.updates:
            self.watch.miss("optimizer", OTHER)
        layout = Layout(
            self.watch.plan,
            tuple(self.rows[name] for name in names),
            tuple(measured.slots for measured in self.updates.values()),
            loss is not None,
        )
        with quiet():
            vector = pack(
                self.watch.number(layout),
                loss,
                [layers[name] for name in names],
                [*self.updates.values()],
            )[None]
            count, own = replicas()
            if count > 1:
                # Keras averages logs over replicas.
                here = ops.arange(count)[:, None] == own
                vector = ops.where(here, float(count) * vector, 0.0)
        return vector


def _like(one: Any, other: Any) -> bool:
    return tuple(one.shape) == tuple(other.shape)


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Without a trace in the gradients."""
    if keras.backend.backend() == "torch":
        import torch

        grad: contextlib.AbstractContextManager[Any] = torch.no_grad()
        return grad
    return contextlib.nullcontext()
