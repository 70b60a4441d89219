"""Tells in which trace and replica code runs, and which tensors can be measured there."""

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops


def current_trace() -> Any:
    """Return a token of the current level of tracing; equal tokens mean the same level."""
    backend = keras.backend.backend()
    if backend == "jax":
        from jax.extend.core import get_opaque_trace_state

        return get_opaque_trace_state(convention="flax")
    if backend == "tensorflow":
        import tensorflow as tf

        return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    import torch

    # The id differs within `backward`, where a checkpoint runs its layers again.
    return torch._C._current_graph_task_id()


def trace_of(tensor: Any) -> Any:
    """Return the token of the level that a tensor belongs to, to compare with `current_trace`."""
    if keras.backend.backend() == "tensorflow":
        return getattr(tensor, "graph", None)
    return current_trace()


def in_vectorized_map() -> bool:
    """Return whether TensorFlow traces a loop body that it will run on all samples at once."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    return "loop_body" in tf.compat.v1.get_default_graph().get_name_scope().split("/")


def in_recomputation() -> bool:
    """Return whether TensorFlow runs a layer again for the gradient of a checkpoint."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    gradient, frame = tf.GradientTape.gradient.__code__, inspect.currentframe()
    while frame is not None and frame.f_code is not gradient:
        frame = frame.f_back
    return frame is not None


def is_dense(tensor: Any) -> bool:
    """Return whether a tensor is neither sparse nor ragged."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return isinstance(tensor, tf.Tensor | tf.Variable)
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.Array)
    import torch

    return tensor.layout is torch.strided


def is_measurable(value: Any) -> bool:
    """Return whether a value is a dense float tensor of known rank 1 or more."""
    return _has_axes(value) and "float" in keras.backend.standardize_dtype(value.dtype)


def is_numeric(value: Any) -> bool:
    """Return whether a value is a dense tensor of numbers or booleans, of rank 1 or more."""
    kinds = ("float", "int", "bool")
    dtype = keras.backend.standardize_dtype(value.dtype) if _has_axes(value) else ""
    return any(kind in dtype for kind in kinds)


def _has_axes(value: Any) -> bool:
    if not ops.is_tensor(value) or getattr(value.shape, "rank", 1) is None or not len(value.shape):
        return False
    return is_dense(value)


def as_tensors(structure: Any) -> list[Any]:
    """Return the leaves of a structure; numpy arrays, which eager JAX passes on, as tensors."""
    return [
        ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value
        for value in keras.tree.flatten(structure)
    ]


def replica_count_and_id() -> tuple[int, Any]:
    """Return the number of replicas that train in sync, and the number of this one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            return context.num_replicas_in_sync, context.replica_id_in_sync_group
    return 1, 0
