"""Runs the real training step with capture: a second train function, used one call at a time.

The model is instrumented only while that function is traced (TensorFlow, JAX) or runs (torch,
`run_eagerly`). The measurements leave the step as one more entry of its logs, which is removed
before anyone sees them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_winit.models.restored_state import attributes_restored
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.collector import (
    KEY,
    THREAD,
    StepCollector,
)
from keras_winit.monitor.capture.kept_batches import kept_when_taken
from keras_winit.monitor.capture.layout import SOUND
from keras_winit.monitor.capture.patches import (
    SharedContext,
    classify_activations,
    instrumented,
    split_carried,
)
from keras_winit.monitor.error_text import one_line

# Takes the packed vector of a step, of shape (replicas, size), or None if the step could not be
# traced with capture; and how many batches the call took, or 0 if that is not known.
Receiver = Callable[[Any, int], None]


class CapturingFunction:
    """The second train function of a model, which also measures.

    Args:
        model: Compiled, with its own train function made.
        captures: What to capture, for each monitor.
    """

    def __init__(self, model: Any, captures: Sequence[Capture]) -> None:
        self.model, self.captures = model, captures
        # The model's own step and train function, for which this one stands in.
        self.original_step, self.original = model.train_step, model.train_function
        self._error: Exception | None = None
        self._careful = False
        # Replicas trace their steps at the same time.
        variables = any(capture.plan.variable_statistics for capture in captures)
        self._instrumented = SharedContext(lambda: instrumented(model, variables))
        classify_activations(model, captures)
        self._function = self._make_function()

    def _make_function(self) -> Any:
        model, backend = self.model, keras.backend.backend()
        if backend == "torch":
            # The step is not compiled, because it runs once in a while.
            return lambda data: self._step(data[0])
        if backend == "jax" and model.jit_compile and not model.run_eagerly:
            return self._jitted()
        original = model.train_function
        try:
            with attributes_restored() as put:
                put(model, "train_step", self._step)
                # Keras knows how to compile, distribute and repeat the step.
                model.make_train_function(force=True)
                return model.train_function
        finally:
            model.train_function = original

    def _jitted(self) -> Any:
        """Return the function as Keras makes it on JAX, but without donation.

        The state before the step stays valid, so that the step can be repeated, and XLA need
        not copy the weights to measure by how much they change.
        """
        import jax

        shardings = None
        if keras.distribution.distribution() is not None:
            shardings = None, self.model._get_state_sharding_spec()
        return self.model._make_function(jax.jit(self._step, out_shardings=shardings))

    def _step(self, *arguments: Any) -> Any:
        """Do as `model.train_step`, and add the measurements to the logs."""
        collectors = tuple(StepCollector(capture, self._careful) for capture in self.captures)
        THREAD.collectors = collectors
        try:
            with self._instrumented:
                result = self.original_step(*arguments)
            if keras.backend.backend() == "jax":
                logs, (trainable, others, *rest) = result
                others, (measured, loss) = split_carried(self.model, others)
                result = logs, (trainable, others, *rest)
            else:
                logs, loss = result, None
                measured = [collector.measured for collector in collectors]
        except Exception as error:
            self._error = error
            raise
        finally:
            THREAD.collectors = ()
        logs = dict(logs)
        for number, (collector, rows) in enumerate(zip(collectors, measured, strict=True)):
            if collector.capture.broken is not None:
                continue
            try:
                own_loss = collector.loss if loss is None else loss
                logs[f"{KEY}{number}"] = collector.packed(rows, own_loss)
            except Exception as error:
                collector.capture.note_unseen("step", one_line(error))
        return (logs, *result[1:]) if keras.backend.backend() == "jax" else logs

    def __call__(self, original: Any, receivers: Sequence[Receiver], *arguments: Any) -> Any:
        """Run once in the place of `original`, and hand each capture's vector to its receiver."""
        *state, data = arguments
        batches: list[Any] = []
        source = data if _is_replayable(data) else kept_when_taken(data, batches)
        self._error = None
        try:
            result = self._function(*state, source)
        except Exception as error:
            for capture in self.captures:
                capture.on_failure()
            if self._error is None or not self._left_untouched():
                raise
            # If the original fails as well, the fault is not in the capture.
            rest = data if source is data else itertools.chain(batches, data)
            result = original(*state, rest)
            for capture, receive in zip(self.captures, receivers, strict=True):
                capture.broken = one_line(error)
                receive(None, 0)
            return result
        logs = result[0] if state else result
        if state:
            self._repeat_carefully(logs, state[0], batches)
        for number, (capture, receive) in enumerate(zip(self.captures, receivers, strict=True)):
            packed = logs.pop(f"{KEY}{number}", None)
            if packed is not None:
                receive(packed, len(batches))
            elif capture.broken is not None:
                receive(None, 0)
        return result

    def _repeat_carefully(self, logs: dict[str, Any], state: Any, batches: Sequence[Any]) -> None:
        """Replace quick measurements that are not exact, on JAX.

        The same batches run again from the state before them, operation by operation, and only
        the measurements are kept: a step on JAX has no side effects to undo. Compiling the
        careful measure would take minutes where running it once takes seconds.
        """
        keys = [key for key in (f"{KEY}{n}" for n in range(len(self.captures))) if key in logs]
        if not batches or all(np.asarray(logs[key])[0, SOUND] for key in keys):
            return
        self._careful = True
        try:
            for batch in batches:
                repeated, state = self._step(state, batch)
            logs |= {key: repeated[key] for key in keys if key in repeated}
        except Exception as error:
            for capture in self.captures:
                capture.note_unseen("careful measure", one_line(error))
        finally:
            self._careful = False

    def _left_untouched(self) -> bool:
        """Return whether a step that failed while it was traced has changed nothing yet."""
        backend = keras.backend.backend()
        return backend == "jax" or (backend == "tensorflow" and not self.model.run_eagerly)


def _is_replayable(data: Any) -> bool:
    """Return whether a step that fails while it is traced has taken nothing from the data."""
    return isinstance(data, tuple | list) or type(data).__module__.startswith("tensorflow")


def note_layers_in_loops(model: Any, capture: Capture) -> None:
    """Note the layers that are not seen because a loop over timesteps runs them.

    The cell of an LSTM, whose numbers would be the LSTM's own, is noted only if the LSTM has no
    row.
    """
    for outer in model._flatten_layers():
        if isinstance(outer, keras.layers.TimeDistributed):
            inner, outer_speaks = [outer.layer], False
        elif isinstance(outer, keras.layers.RNN):
            inner = list(outer.cell._flatten_layers())
            outer_speaks = type(outer) is not keras.layers.RNN and capture.wanted(outer)
        else:
            continue
        for layer in inner:
            if capture.wanted(layer) and not outer_speaks:
                reason = f"runs in the loop of {capture.names.of(outer)}: watch that one"
                capture.note_unseen(capture.names.of(layer), reason)
