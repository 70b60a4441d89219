"""Instruments an optimizer to capture its gradients, unscaled, and the updates that it makes."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_winit.models.layers import unit_axes_of_kernels
from keras_winit.models.no_gradients import no_gradients
from keras_winit.models.restored_state import Put
from keras_winit.monitor.capture.collector import active_collectors
from keras_winit.monitor.capture.traces import replica_count_and_id
from keras_winit.monitor.error_text import one_line


def instrument_optimizer(model: Any, put: Put) -> None:
    """Let the optimizer of a model notify the active collectors.

    Args:
        model: Compiled.
        put: Sets an attribute of an instance.
    """
    if keras.backend.backend() == "jax":
        _instrument_stateless_apply(model, put)
    else:
        _instrument_apply(model, put)


def _instrument_stateless_apply(model: Any, put: Put) -> None:
    optimizer = model.optimizer
    stateless_apply = optimizer.stateless_apply

    @functools.wraps(stateless_apply)
    def observed(optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
        grads, weights = list(grads), list(trainable_variables)
        state = list(optimizer_variables)
        result = stateless_apply(state, grads, weights)
        with _errors_noted():
            values = dict(zip((id(v) for v in optimizer.variables), state, strict=True))
            scale = _loss_scale(optimizer, lambda variable: values[id(variable)])
            variables = optimizer._trainable_variables
            _collect(model, variables, grads, scale, weights, result[0])
        return result

    put(optimizer, "stateless_apply", observed)


def _instrument_apply(model: Any, put: Put) -> None:
    optimizer = model.optimizer
    apply = optimizer.apply

    @functools.wraps(apply)
    def observed(grads: Any, trainable_variables: Any = None) -> Any:
        grads, variables = list(grads), optimizer._trainable_variables
        if trainable_variables is not None:
            trainable_variables = variables = list(trainable_variables)
        before, scale = None, None
        with _errors_noted(), no_gradients():
            scale = _loss_scale(optimizer, lambda variable: ops.copy(variable.value))
            before = [ops.copy(_value(variable)) for variable in variables]
        result = apply(grads, trainable_variables)
        if before is not None:
            with _errors_noted():
                # This also turns a variable into a tensor: the variable itself must not be kept.
                after = [ops.stop_gradient(_value(variable)) for variable in variables]
                _collect(model, variables, grads, scale, before, after)
        return result

    put(optimizer, "apply", observed)


def _value(variable: Any) -> Any:
    """Return the value of a variable of Keras, or of TensorFlow itself."""
    return variable.value if isinstance(variable, keras.Variable) else variable


@contextlib.contextmanager
def _errors_noted() -> Iterator[None]:
    """Turn an error while variables are measured into a note; the step must not fail by it."""
    try:
        yield
    except Exception as error:
        for collector in active_collectors():
            collector.capture.note_unseen("optimizer", one_line(error))


def _loss_scale(optimizer: Any, value_of: Callable[[Any], Any]) -> Any:
    """Return the factor by which the loss was multiplied, or None."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scale = getattr(optimizer, "dynamic_scale", None)
        return optimizer.initial_scale if scale is None else value_of(scale)
    return optimizer.loss_scale_factor


def _collect(
    model: Any, variables: Any, gradients: Any, scale: Any, before: Any, after: Any
) -> None:
    collectors = active_collectors()
    if not collectors:
        return
    for collector in collectors:
        if collector.capture.unit_axes is None:
            # This is not done earlier, because some models are built by their first step.
            collector.capture.unit_axes = unit_axes_of_kernels(model, collector.capture.names)
    updates = []
    with no_gradients():
        for variable, gradient, *weights in zip(variables, gradients, before, after, strict=True):
            if "complex" in str(variable.dtype):
                for collector in collectors:
                    capture = collector.capture
                    capture.note_unseen(capture.names.of(variable), "is complex")
                continue
            # Values in float64 may differ by less than float32 can tell.
            old, new = (_at_least_float32(weight) for weight in weights)
            gradient = _dense_gradient(gradient)
            if gradient is not None:
                gradient = _at_least_float32(gradient)
                if None in gradient.shape:
                    # A gradient of a product over axes of unknown size lacks a static shape.
                    gradient = ops.reshape(gradient, old.shape)
                gradient = gradient if scale is None else gradient / scale
            updates.append((variable, old, gradient, new))
    for collector in collectors:
        collector.notify("collect_updates", updates)


def _at_least_float32(tensor: Any) -> Any:
    wide = keras.backend.standardize_dtype(tensor.dtype) in ("float32", "float64")
    return tensor if wide else ops.cast(tensor, "float32")


def _dense_gradient(gradient: Any) -> Any:
    """Return a gradient as one dense tensor, summed over the replicas."""
    if gradient is None or keras.backend.backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    if isinstance(gradient, tf.IndexedSlices):
        # The gradient consists of rows of an embedding, of which one may occur several times.
        gradient = tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, gradient.dense_shape[0]
        )
    if replica_count_and_id()[0] > 1:
        return tf.distribute.get_replica_context().all_reduce("SUM", gradient)
    return gradient
