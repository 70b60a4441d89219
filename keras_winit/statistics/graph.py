"""What reductions need that run in a graph on TensorFlow and JAX, and as they are on torch."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

INF = math.inf


def backend_is(name: str) -> bool:
    """Whether Keras runs on it."""
    return bool(keras.backend.backend() == name)


def once_for_all(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of tensors, within a graph traced once for all arguments alike.

    Traced into every layer anew, a hundred layers would take half a minute to compile.
    """

    @functools.cache
    def traced() -> Any:
        if backend_is("tensorflow"):
            import tensorflow as tf

            noinline = {"_noinline": True}
            return tf.function(function, autograph=False, experimental_attributes=noinline)
        import jax

        return jax.jit(function)

    @functools.wraps(function)
    def call(*tensors: Any) -> Any:
        return traced()(*tensors) if _in_graph() else function(*tensors)

    return call


def _in_graph() -> bool:
    if backend_is("tensorflow"):
        import tensorflow as tf

        return not tf.executing_eagerly()
    return backend_is("jax")


def cond(is_true: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """`ops.cond`, which on torch takes longer than most of what it chooses from."""
    if backend_is("torch"):
        return then() if is_true else otherwise()
    return ops.cond(is_true, then, otherwise)


def finite(values: Any, counts: Any) -> Any:
    """Which entries are finite, and count."""
    found = ops.isfinite(values)
    return found if counts is None else ops.logical_and(found, counts)


def number(flags: Any) -> Any:
    """How many there are along the first axis, as float32."""
    return ops.sum(ops.cast(flags, "float32"), axis=0)
