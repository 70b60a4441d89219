"""Wraps layers, loss and optimizer of a model while its training step is traced or runs."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_winit import statistics
from keras_winit.models.call_hook import hooked
from keras_winit.models.layers import unit_axes
from keras_winit.monitor.capture.collector import (
    Scope,
    Watch,
    quiet,
    reason,
    replicas,
    scopes,
    trace_now,
    trace_of,
)

ABSENT = object()

# Never flat, or flat only where they are off.
UNSATURATED = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.leaky_relu,
    keras.activations.exponential,
    keras.activations.softmax,
)


class Patches:
    """Attributes of instances that are something else for a while."""

    def __init__(self) -> None:
        self.undo: list[tuple[Any, str, Any]] = []

    def put(self, target: Any, name: str, value: Any) -> None:
        """Past `__setattr__`, where Keras and torch track what is assigned."""
        self.undo.append((target, name, target.__dict__.get(name, ABSENT)))
        target.__dict__[name] = value

    def restore(self) -> None:
        """Put everything back as it was."""
        while self.undo:
            target, name, value = self.undo.pop()
            if value is ABSENT:
                target.__dict__.pop(name, None)
            else:
                target.__dict__[name] = value


class Shared:
    """A context that several threads are in: the first one opens it, the last one closes it.

    Args:
        make: Gives the context manager.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self.make, self.lock, self.inside = make, threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.context = self.make()
                self.context.__enter__()
            self.inside += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.context.__exit__(*error)


def judge(model: Any, watches: Sequence[Watch]) -> None:
    """Find out which activations can be flat; not within a trace, as it needs real numbers."""
    for layer in model._flatten_layers():
        activation = _function(layer)
        if activation is None or all(watch.knows(activation) for watch in watches):
            continue
        can_be = _can_be_flat(activation)
        for watch in watches:
            watch.note(activation, can_be)


def _can_be_flat(activation: Any) -> bool:
    if any(activation is one for one in UNSATURATED):
        return False
    # It may draw random numbers.
    with generators_kept(), keras.StatelessScope():
        return statistics.elementwise(activation)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """The backend's own random numbers go on as if nothing had been drawn."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng():
        yield


@contextlib.contextmanager
def patched(model: Any, variables: bool) -> Iterator[None]:
    """Layers, loss and optimizer tell the thread's scopes, if there are any, what they do.

    Args:
        model: Compiled.
        variables: Whether the optimizer is to tell as well.
    """
    patches = Patches()
    try:
        for layer in model._flatten_layers():
            _watch_activation(layer, patches.put)
        _watch_loss(model, patches.put)
        if keras.backend.backend() == "jax":
            _carry_out(model, patches.put)
        if model.optimizer is not None and variables:
            _watch_optimizer(model, patches.put)
        with hooked(_tap):
            yield
    finally:
        patches.restore()


def _tap(call: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """A layer is called; the thread's scopes, if there are any, see it."""
    told = scopes()
    if not told:
        return call(layer, *args, **kwargs)
    recurrent = isinstance(layer, keras.layers.RNN)
    for scope in told:
        if layer is scope.watch.names.model:
            scope.tell("record_inputs", args)
        scope.within += recurrent
    try:
        outputs = call(layer, *args, **kwargs)
    finally:
        for scope in told:
            scope.within -= recurrent
    for scope in told:
        scope.tell("record", layer, outputs)
    return outputs


Put = Callable[[Any, str, Any], None]


def _function(layer: Any) -> Any:
    """The activation that a layer applies itself; None if it has none, or that is a layer.

    Only of those whose `call` is Keras' own: others may look at what it is, as cells do.
    """
    activation = layer.__dict__.get("activation")
    own = type(layer).call.__module__.startswith("keras.") and not hasattr(layer, "state_size")
    # What is a layer would be built by a call.
    known = own and callable(activation) and not isinstance(activation, keras.Operation)
    return activation if known and activation is not keras.activations.linear else None


def _watch_activation(layer: Any, put: Put) -> None:
    activation = _function(layer)
    if activation is None:
        return

    @functools.wraps(activation)
    def watched(z: Any, *args: Any, **kwargs: Any) -> Any:
        for scope in scopes():
            scope.tell("keep_activation", layer, activation, z)
        return activation(z, *args, **kwargs)

    put(layer, "activation", watched)


def _watch_loss(model: Any, put: Put) -> None:
    compute_loss = model.compute_loss

    @functools.wraps(compute_loss)
    def watched(*args: Any, **kwargs: Any) -> Any:
        loss = compute_loss(*args, **kwargs)
        for scope in scopes():
            if scope.watch.plain_loss is None:
                weights = kwargs.get("sample_weight", args[3] if len(args) > 3 else None)
                scope.watch.plain_loss = weights is None and not model.losses
            if trace_of(loss) == scope.base:
                scope.loss = loss
        return loss

    put(model, "compute_loss", watched)


def split(model: Any, variables: Any) -> tuple[list[Any], tuple[Any, Any]]:
    """A model's non-trainable variables, and what `_carry_out` has put behind them.

    That is what each scope saw of layers, and the loss.
    """
    count = len(model.non_trainable_variables)
    carried = variables[count] if len(variables) > count else ([{} for _ in scopes()], None)
    return list(variables[:count]), carried


def _carry_out(model: Any, put: Put) -> None:
    """JAX: out of `value_and_grad`, as one more of the non-trainable variables."""
    forward, compute = model.stateless_call, model.stateless_compute_loss

    @contextlib.contextmanager
    def level(told: Sequence[Scope]) -> Iterator[None]:
        kept = [(scope.base, scope.layers, scope.loss) for scope in told]
        for scope in told:
            scope.base, scope.layers, scope.loss = trace_now(), {}, None
        try:
            yield
        finally:
            for scope, before in zip(told, kept, strict=True):
                scope.base, scope.layers, scope.loss = before

    # By the names that Keras gives them: somebody may use these.
    def stateless_call(
        trainable_variables: Any, non_trainable_variables: Any, *args: Any, **kwargs: Any
    ) -> Any:
        told = scopes()
        if not told:
            return forward(trainable_variables, non_trainable_variables, *args, **kwargs)
        others, (earlier, loss) = split(model, non_trainable_variables)
        with level(told):
            for scope in told:
                scope.tell("record_inputs", args)
            outputs, others, *rest = forward(trainable_variables, others, *args, **kwargs)
            seen = [{**b, **s.layers} for b, s in zip(earlier, told, strict=True)]
        return outputs, [*others, (seen, loss)], *rest

    def stateless_compute_loss(
        trainable_variables: Any,
        non_trainable_variables: Any,
        metrics_variables: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        told, others = scopes(), non_trainable_variables
        if not told:
            return compute(trainable_variables, others, metrics_variables, *args, **kwargs)
        others, (seen, _) = split(model, others)
        with level(told):
            loss, (trainable, others, metrics) = compute(
                trainable_variables, others, metrics_variables, *args, **kwargs
            )
        return loss, (trainable, [*others, (seen, loss)], metrics)

    put(model, "stateless_call", stateless_call)
    put(model, "stateless_compute_loss", stateless_compute_loss)


def _watch_optimizer(model: Any, put: Put) -> None:
    """Gradients as the optimizer gets them, without the scale of the loss; and its updates."""
    optimizer = model.optimizer
    if keras.backend.backend() == "jax":
        stateless_apply = optimizer.stateless_apply

        @functools.wraps(stateless_apply)
        def watched(optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
            grads, weights = list(grads), list(trainable_variables)
            state = list(optimizer_variables)
            result = stateless_apply(state, grads, weights)
            with _missed():
                values = dict(zip((id(v) for v in optimizer.variables), state, strict=True))
                scale = _loss_scale(optimizer, lambda variable: values[id(variable)])
                variables = optimizer._trainable_variables
                _record_updates(model, variables, grads, scale, weights, result[0])
            return result

        put(optimizer, "stateless_apply", watched)
        return
    apply = optimizer.apply

    @functools.wraps(apply)
    def watched_apply(grads: Any, trainable_variables: Any = None) -> Any:
        grads, variables = list(grads), optimizer._trainable_variables
        if trainable_variables is not None:
            trainable_variables = variables = list(trainable_variables)
        before, scale = None, None
        with _missed(), quiet():
            scale = _loss_scale(optimizer, lambda variable: ops.copy(variable.value))
            before = [ops.copy(_value(variable)) for variable in variables]
        result = apply(grads, trainable_variables)
        if before is not None:
            with _missed():
                # Also turns a variable into a tensor, which is all that may be kept of it.
                after = [ops.stop_gradient(_value(variable)) for variable in variables]
                _record_updates(model, variables, grads, scale, before, after)
        return result

    put(optimizer, "apply", watched_apply)


def _value(variable: Any) -> Any:
    """Of a variable of Keras, or of TensorFlow itself."""
    return variable.value if isinstance(variable, keras.Variable) else variable


@contextlib.contextmanager
def _missed() -> Iterator[None]:
    """What goes wrong with the variables is told, and no matter of the step."""
    try:
        yield
    except Exception as error:
        for scope in scopes():
            scope.watch.miss("optimizer", reason(error))


def _loss_scale(optimizer: Any, value_of: Callable[[Any], Any]) -> Any:
    """By what the loss was multiplied; None if it was not."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scale = getattr(optimizer, "dynamic_scale", None)
        return optimizer.initial_scale if scale is None else value_of(scale)
    return optimizer.loss_scale_factor


def _record_updates(
    model: Any, variables: Any, gradients: Any, scale: Any, before: Any, after: Any
) -> None:
    told = scopes()
    if not told:
        return
    updates = []
    for scope in told:
        if scope.watch.unit_axes is None:
            # Not before: some models are built by their first step.
            scope.watch.unit_axes = unit_axes(model, scope.watch.names)
    with quiet():
        for variable, gradient, *weights in zip(variables, gradients, before, after, strict=True):
            if "complex" in str(variable.dtype):
                for scope in told:
                    scope.watch.miss(scope.watch.names.of(variable), "is complex")
                continue
            # Of float64 what differs may be less than float32 tells apart.
            old, new = (_at_least_float32(weight) for weight in weights)
            gradient = _whole(gradient)
            if gradient is not None:
                gradient = _at_least_float32(gradient)
                if None in gradient.shape:
                    # Of a product over axes of unknown size.
                    gradient = ops.reshape(gradient, old.shape)
                gradient = gradient if scale is None else gradient / scale
            updates.append((variable, old, gradient, new))
    for scope in told:
        scope.tell("record_updates", updates)


def _at_least_float32(tensor: Any) -> Any:
    wide = keras.backend.standardize_dtype(tensor.dtype) in ("float32", "float64")
    return tensor if wide else ops.cast(tensor, "float32")


def _whole(gradient: Any) -> Any:
    """A gradient in one piece: dense, and the sum over replicas."""
    if gradient is None or keras.backend.backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    if isinstance(gradient, tf.IndexedSlices):
        # Rows of an embedding; one may come several times.
        gradient = tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, gradient.dense_shape[0]
        )
    if replicas()[0] > 1:
        return tf.distribute.get_replica_context().all_reduce("SUM", gradient)
    return gradient
