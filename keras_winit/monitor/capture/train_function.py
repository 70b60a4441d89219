"""The real training step, seen from inside: a second train function for one call at a time.

Layers, loss and optimizer are wrapped only while that function is traced (TensorFlow, JAX)
or runs (torch, `run_eagerly`). What was measured leaves the step as one more entry of its
logs, which is taken out before anyone sees them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_winit.monitor.capture.collector import KEY, LOCAL, Scope, Watch, reason
from keras_winit.monitor.capture.layout import SOUND
from keras_winit.monitor.capture.patches import Patches, Shared, judge, patched, split

Keep = Callable[[Any, int], None]


class Tapped:
    """The second train function of a model.

    Args:
        model: Compiled, with its own train function made.
        watches: What to look at, for each monitor.
    """

    def __init__(self, model: Any, watches: Sequence[Watch]) -> None:
        self.model, self.watches = model, watches
        self.plain_step = model.train_step
        self.failed: Exception | None = None
        self.careful = False
        self.beside = model.train_function
        # Replicas trace their steps side by side.
        variables = any(watch.plan.variable for watch in watches)
        self.patched = Shared(lambda: patched(model, variables))
        judge(model, watches)
        self.function = self._made()

    def _made(self) -> Any:
        if keras.backend.backend() == "torch":
            # Not compiled: the step runs once in a while.
            return lambda data: self._step(data[0])
        is_jitted = self.model.jit_compile and not self.model.run_eagerly
        if keras.backend.backend() == "jax" and is_jitted:
            return self._jitted()
        model, patches, own = self.model, Patches(), self.model.train_function
        patches.put(model, "train_step", self._step)
        try:
            # Keras' own way to compile, donate, shard and repeat the step.
            model.make_train_function(force=True)
            return model.train_function
        finally:
            patches.restore()
            model.train_function = own

    def _jitted(self) -> Any:
        """Return the function as Keras makes it on JAX, but let the state before it live on."""
        import jax

        shardings = None
        if keras.distribution.distribution() is not None:
            shardings = None, self.model._get_state_sharding_spec()
        step = (
            self._step if self.model.run_eagerly else jax.jit(self._step, out_shardings=shardings)
        )
        return self.model._make_function(step)

    def _step(self, *arguments: Any) -> Any:
        """`model.train_step`, with what was measured among the logs."""
        LOCAL.scopes = told = tuple(Scope(watch, self.careful) for watch in self.watches)
        try:
            with self.patched:
                result = self.plain_step(*arguments)
            if keras.backend.backend() == "jax":
                logs, (trainable, others, *rest) = result
                others, (layers, loss) = split(self.model, others)
                result = logs, (trainable, others, *rest)
            else:
                logs, layers, loss = result, [scope.layers for scope in told], None
        except Exception as error:
            self.failed = error
            raise
        finally:
            LOCAL.scopes = ()
        logs = dict(logs)
        for number, (scope, seen) in enumerate(zip(told, layers, strict=True)):
            if scope.watch.broken is not None:
                continue
            try:
                logs[f"{KEY}{number}"] = scope.packed(seen, scope.loss if loss is None else loss)
            except Exception as error:
                scope.watch.miss("step", reason(error))
        return (logs, *result[1:]) if keras.backend.backend() == "jax" else logs

    def __call__(self, plain: Any, keeps: Sequence[Keep], *arguments: Any) -> Any:
        """One call in the place of `plain`.

        Each of `keeps` gets what was measured for its watch, a tensor with a row for each
        replica, and how many batches were taken, if that is known; None, if the step could
        not be traced.
        """
        *state, data = arguments
        seen: list[Any] = []
        tee = data if _is_replayable(data) else _tee(data, seen)
        self.failed = None
        try:
            result = self.function(*state, tee)
        except Exception as error:
            for watch in self.watches:
                watch.last_words()
            if self.failed is None or not self._untouched():
                raise
            # If this fails as well, the fault is not in the taps.
            result = plain(*state, data if tee is data else itertools.chain(seen, data))
            for watch, keep in zip(self.watches, keeps, strict=True):
                watch.broken = reason(error)
                keep(None, 0)
            return result
        logs = result[0] if state else result
        if state:
            self._repeat_carefully(logs, *state, seen)
        for number, (watch, keep) in enumerate(zip(self.watches, keeps, strict=True)):
            packed = logs.pop(f"{KEY}{number}", None)
            if packed is not None:
                keep(packed, len(seen))
            elif watch.broken is not None:
                keep(None, 0)
        return result

    def _repeat_carefully(self, logs: dict[str, Any], state: Any, batches: Sequence[Any]) -> None:
        """Replace quick measurements that are not exact, on JAX.

        The same batches are run again from the state before them, operation by operation,
        and only what that measures is kept: JAX has no side effects to undo. Compiling the
        careful measure would take minutes where running it once takes seconds.
        """
        keys = [f"{KEY}{number}" for number in range(len(self.watches))]
        vectors = [np.asarray(logs[key]) for key in keys if key in logs]
        if all(vector[0, SOUND] for vector in vectors) or not batches:
            return
        self.careful = True
        try:
            for batch in batches:
                again, state = self._step(state, batch)
            logs |= {key: again[key] for key in keys if key in logs}
        except Exception as error:
            for watch in self.watches:
                watch.miss("careful measure", reason(error))
        finally:
            self.careful = False

    def _untouched(self) -> bool:
        """Whether a step that failed while it was traced has changed nothing yet."""
        backend = keras.backend.backend()
        return backend == "jax" or (backend == "tensorflow" and not self.model.run_eagerly)


def _is_replayable(data: Any) -> bool:
    """A step that fails while it is traced has taken nothing from TensorFlow's iterators."""
    return isinstance(data, tuple | list) or type(data).__module__.startswith("tensorflow")


def _tee(data: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for batch in data:
        seen.append(batch)
        yield batch


class Once:
    """Takes the place of a model's train function for one call, after which that is back.

    Args:
        model: Whose function it is.
        plain: The function.
        tapped: To be called instead, with the watches of `keeps`.
        keeps: Who gets what was measured, by what is watched.
    """

    def __init__(self, model: Any, plain: Any, tapped: Tapped, keeps: Mapping[Watch, Keep]) -> None:
        self.model, self.plain, self.tapped, self.keeps = model, plain, tapped, keeps

    def __call__(self, *arguments: Any) -> Any:
        """Put the train function back, then run the tapped one."""
        self.model.train_function = self.plain
        return self.tapped(self.plain, tuple(self.keeps.values()), *arguments)


def note_loops(model: Any, watch: Watch) -> None:
    """Name the layers that a loop over timesteps runs past the taps.

    An LSTM's cell is named only if the LSTM, whose numbers are its own, has no row.
    """
    for outer in model._flatten_layers():
        if isinstance(outer, keras.layers.TimeDistributed):
            inner, numbers = [outer.layer], False
        elif isinstance(outer, keras.layers.RNN):
            inner = list(outer.cell._flatten_layers())
            numbers = type(outer) is not keras.layers.RNN and watch.wanted(outer)
        else:
            continue
        for layer in inner:
            if watch.wanted(layer) and not numbers:
                why = f"runs in the loop of {watch.names.of(outer)}: watch that one"
                watch.miss(watch.names.of(layer), why)
