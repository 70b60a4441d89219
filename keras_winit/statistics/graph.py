"""Helpers for reductions that run inside a graph (TensorFlow, JAX) or eagerly (PyTorch)."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

INF = math.inf


def backend_is(name: str) -> bool:
    """Return whether Keras runs on this backend."""
    return bool(keras.backend.backend() == name)


def traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that a graph traces once for each combination of shapes.

    Traced and optimized anew for every layer, the same reductions would take most of the time
    that the first step of a large model takes. Arguments that are no tensors must be hashable.
    """

    @functools.cache
    def compiled(*static: Any) -> Any:
        def bound(*tensors: Any) -> Any:
            return function(*tensors, *static)

        if backend_is("tensorflow"):
            import tensorflow as tf

            noinline = {"_noinline": True}
            return tf.function(bound, autograph=False, experimental_attributes=noinline)
        import jax

        return jax.jit(bound)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if not in_graph(arguments[0]):
            return function(*arguments)
        count = sum(ops.is_tensor(argument) for argument in arguments)
        return compiled(*arguments[count:])(*arguments[:count])

    return call


def in_graph(tensor: Any) -> bool:
    """Return whether the values of a tensor are known only when a graph runs."""
    if backend_is("tensorflow"):
        import tensorflow as tf

        return not tf.executing_eagerly()
    if backend_is("jax"):
        import jax

        return isinstance(tensor, jax.core.Tracer)
    return False


def is_traced_by_jax(tensor: Any) -> bool:
    """Return whether JAX traces the function that computes a tensor."""
    return backend_is("jax") and in_graph(tensor)


def cond(is_true: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Do as `ops.cond`, but choose in Python outside of graphs, which is far cheaper."""
    if in_graph(is_true):
        return ops.cond(is_true, then, otherwise)
    return then() if is_true else otherwise()


def as_matrix(tensor: Any, width: int) -> Any:
    """Return the entries in rows of length `width`."""
    if backend_is("torch"):
        # `ops.reshape` takes longer than most reductions of the result.
        return tensor.reshape(-1, width)
    return ops.reshape(tensor, (-1, width))


def size(tensor: Any) -> Any:
    """Return the number of entries: an int if the shape is static, else an int tensor."""
    return ops.size(tensor) if None in tensor.shape else math.prod(tensor.shape)


def finite(values: Any, counts: Any) -> Any:
    """Return a boolean tensor: which entries are finite and, where `counts` is given, count."""
    is_finite = ops.isfinite(values)
    return is_finite if counts is None else ops.logical_and(is_finite, counts)


def count_on_torch(compare: str, values: Any, number: float, scratch: Any = None) -> Any:
    """Count the entries of a float32 tensor for which a comparison is true, as float32.

    Comparisons that write floats take a tenth of the time of summing booleans.

    Args:
        compare: Name of the comparison in torch, such as "gt".
        values: Tensor to count in.
        number: Right side of the comparison.
        scratch: Tensor of the same shape to write to. Defaults to None, which allocates one.
    """
    import torch

    scratch = torch.empty_like(values) if scratch is None else scratch
    return getattr(torch, compare)(values, number, out=scratch).sum()


def float32(tensor: Any) -> Any:
    """Return the tensor itself if it is float32, else a cast copy."""
    is_single = keras.backend.standardize_dtype(tensor.dtype) == "float32"
    return tensor if is_single else ops.cast(tensor, "float32")


def as_floats(numbers: Sequence[Any]) -> Any:
    """Return a float32 vector of Python numbers and scalar tensors."""
    if all(isinstance(number, int) for number in numbers):
        return ops.convert_to_tensor(np.array(numbers, "float32"))
    return ops.stack([ops.cast(number, "float32") for number in numbers])
