"""Instruments a model while its training step is traced or runs: layers, loss and optimizer."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_winit import statistics
from keras_winit.models.call_hook import hooked
from keras_winit.models.graph import is_from_keras
from keras_winit.models.restored_state import Put, attributes_restored, generators_restored
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.collector import StepCollector, active_collectors
from keras_winit.monitor.capture.optimizer import instrument_optimizer
from keras_winit.monitor.capture.traces import current_trace, trace_of

# Activations that are flat nowhere, or only where they are off.
UNSATURATED = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.leaky_relu,
    keras.activations.exponential,
    keras.activations.softmax,
)


class SharedContext:
    """A context that several threads may be in: the first one opens it, the last one closes it.

    Args:
        make: Returns the context manager.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._threads = make, threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._threads:
                self._context = self._make()
                self._context.__enter__()
            self._threads += 1

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._context.__exit__(*error)


def classify_activations(model: Any, captures: Sequence[Capture]) -> None:
    """Find out which activations can saturate, by running them; not possible within a trace."""
    for layer in model._flatten_layers():
        activation = _wrappable_activation(layer)
        if activation is None or all(capture.knows(activation) for capture in captures):
            continue
        can_saturate = _can_saturate(activation)
        for capture in captures:
            capture.classify(activation, can_saturate)


def _can_saturate(activation: Any) -> bool:
    if any(activation is function for function in UNSATURATED):
        return False
    # The activation may draw random numbers.
    with generators_restored(), keras.StatelessScope():
        return statistics.elementwise(activation)


@contextlib.contextmanager
def instrumented(model: Any, variables: bool) -> Iterator[None]:
    """Let layers, loss and optimizer notify the collectors that are active in their thread.

    Args:
        model: Compiled.
        variables: Whether to instrument the optimizer.
    """
    with attributes_restored() as put:
        _instrument_loss(model, put)
        if keras.backend.backend() == "jax":
            _carry_through_gradient(model, put)
        if model.optimizer is not None and variables:
            instrument_optimizer(model, put)
        with instrumented_layers(model):
            yield


@contextlib.contextmanager
def instrumented_layers(model: Any) -> Iterator[None]:
    """Let the layers of a model notify the collectors that are active in their thread."""
    with attributes_restored() as put:
        for layer in model._flatten_layers():
            _instrument_activation(layer, put)
        with hooked(_observe_call):
            yield


def _observe_call(call: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    collectors = active_collectors()
    if not collectors:
        return call(layer, *args, **kwargs)
    recurrent = isinstance(layer, keras.layers.RNN)
    for collector in collectors:
        if layer is collector.capture.names.model:
            collector.notify("collect_inputs", args)
        collector.recurrent_depth += recurrent
    try:
        outputs = call(layer, *args, **kwargs)
    finally:
        for collector in collectors:
            collector.recurrent_depth -= recurrent
    for collector in collectors:
        collector.notify("collect_outputs", layer, outputs)
    return outputs


def _wrappable_activation(layer: Any) -> Any:
    """Return the function in a layer's `activation`; None if there is none to wrap.

    Only layers whose `call` is Keras' own qualify: others may look at the identity of their
    activation, as cells do. An activation that is a layer would be built by a call.
    """
    activation = layer.__dict__.get("activation")
    qualifies = is_from_keras(layer) and not hasattr(layer, "state_size")
    is_function = callable(activation) and not isinstance(activation, keras.Operation)
    is_linear = activation is keras.activations.linear
    return activation if qualifies and is_function and not is_linear else None


def _instrument_activation(layer: Any, put: Put) -> None:
    activation = _wrappable_activation(layer)
    if activation is None:
        return

    @functools.wraps(activation)
    def observed(z: Any, *args: Any, **kwargs: Any) -> Any:
        for collector in active_collectors():
            collector.notify("hold_pre_activation", layer, activation, z)
        return activation(z, *args, **kwargs)

    put(layer, "activation", observed)


def _instrument_loss(model: Any, put: Put) -> None:
    compute_loss = model.compute_loss

    @functools.wraps(compute_loss)
    def observed(*args: Any, **kwargs: Any) -> Any:
        targets = kwargs.get("y", args[1] if len(args) > 1 else None)
        for collector in active_collectors():
            collector.notify("collect_targets", targets)
        loss = compute_loss(*args, **kwargs)
        for collector in active_collectors():
            if collector.capture.plain_loss is None:
                weights = kwargs.get("sample_weight", args[3] if len(args) > 3 else None)
                collector.capture.plain_loss = weights is None and not model.losses
            if trace_of(loss) == collector.trace:
                collector.loss = loss
        return loss

    put(model, "compute_loss", observed)


def split_carried(model: Any, variables: Any) -> tuple[list[Any], tuple[Any, Any]]:
    """Split the non-trainable variables from what `_carry_through_gradient` put behind them.

    Returns:
        The variables, and a pair: the measurements of each collector, and the loss.
    """
    count = len(model.non_trainable_variables)
    nothing: tuple[Any, Any] = ([{} for _ in active_collectors()], None)
    return list(variables[:count]), variables[count] if len(variables) > count else nothing


def _joined_measurements(earlier: Any, collectors: Sequence[StepCollector]) -> list[dict[str, Any]]:
    """Return, for each collector, what was measured earlier and what it holds."""
    return [
        {**before, **collector.measured}
        for before, collector in zip(earlier, collectors, strict=True)
    ]


def _carry_through_gradient(model: Any, put: Put) -> None:
    """Carry measurements out of JAX' `value_and_grad`, as one more non-trainable variable."""
    forward, compute = model.stateless_call, model.stateless_compute_loss

    @contextlib.contextmanager
    def inner_trace(collectors: Sequence[StepCollector]) -> Iterator[None]:
        outer = [(c.trace, c.measured, c.loss) for c in collectors]
        for collector in collectors:
            collector.trace, collector.measured, collector.loss = current_trace(), {}, None
        try:
            yield
        finally:
            for collector, state in zip(collectors, outer, strict=True):
                collector.trace, collector.measured, collector.loss = state

    # The parameters have Keras' names, because a model may pass them by name.
    def stateless_call(
        trainable_variables: Any, non_trainable_variables: Any, *args: Any, **kwargs: Any
    ) -> Any:
        collectors = active_collectors()
        if not collectors:
            return forward(trainable_variables, non_trainable_variables, *args, **kwargs)
        others, (earlier, loss) = split_carried(model, non_trainable_variables)
        with inner_trace(collectors):
            for collector in collectors:
                collector.notify("collect_inputs", args)
            outputs, others, *rest = forward(trainable_variables, others, *args, **kwargs)
            measured = _joined_measurements(earlier, collectors)
        return outputs, [*others, (measured, loss)], *rest

    def stateless_compute_loss(
        trainable_variables: Any,
        non_trainable_variables: Any,
        metrics_variables: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        collectors, others = active_collectors(), non_trainable_variables
        if not collectors:
            return compute(trainable_variables, others, metrics_variables, *args, **kwargs)
        others, (measured, _) = split_carried(model, others)
        with inner_trace(collectors):
            loss, (trainable, others, metrics) = compute(
                trainable_variables, others, metrics_variables, *args, **kwargs
            )
            measured = _joined_measurements(measured, collectors)
        return loss, (trainable, [*others, (measured, loss)], metrics)

    put(model, "stateless_call", stateless_call)
    put(model, "stateless_compute_loss", stateless_compute_loss)
