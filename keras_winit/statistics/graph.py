"""What reductions need that run in a graph on TensorFlow and JAX, and as they are on torch."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
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
        return traced()(*tensors) if _in_graph(tensors[0]) else function(*tensors)

    return call


def _in_graph(tensor: Any) -> bool:
    """Whether its value is yet to come."""
    if backend_is("tensorflow"):
        import tensorflow as tf

        return not tf.executing_eagerly()
    if backend_is("jax"):
        import jax

        return isinstance(tensor, jax.core.Tracer)
    return False


def cond(is_true: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """`ops.cond`, which outside of graphs takes longer than most of what it chooses from."""
    if _in_graph(is_true):
        return ops.cond(is_true, then, otherwise)
    return then() if is_true else otherwise()


# Entries of a group. On JAX ten times their memory is set aside for a closer look, also where
# none is taken.
GROUP = {"tensorflow": 2**22, "jax": 2**18, "torch": 2**22}


def groups(sizes: Sequence[int]) -> list[slice]:
    """Parts of a row of tensors that share a check and a closer look, which copies them.

    What is larger than a group should be is one by itself, and needs no copy.
    """
    starts, held, most = [0], 0, GROUP[keras.backend.backend()]
    for place, size in enumerate(sizes):
        held += size
        if held > most and place > starts[-1]:
            starts.append(place)
            held = size
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(sizes)])]


class Segments:
    """Neighbouring entries of one long tensor that belong together, S segments of them.

    Args:
        owners: For each entry the number of its segment.
        count: S.
    """

    def __init__(self, owners: Any, count: int) -> None:
        self.owners, self.count = owners, count

    def add(self, values: Any) -> Any:
        """The sum over each segment."""
        return ops.segment_sum(values, self.owners, num_segments=self.count)

    def most(self, values: Any) -> Any:
        """The largest entry of each segment."""
        return ops.segment_max(values, self.owners, num_segments=self.count)

    def each(self, values: Any) -> Any:
        """What a segment has, for each of its entries."""
        return ops.take(values, self.owners)


def in_a_row(tensors: Sequence[Any]) -> tuple[Any, Segments, Any]:
    """All entries of S tensors as one, a segment each; and their sizes, int32 of shape (S,)."""
    flat = ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in tensors])
    sizes = _vector([size(tensor) for tensor in tensors], "int32")
    places = ops.arange(ops.size(flat), dtype="int32")
    owners = ops.searchsorted(ops.cumsum(sizes), places, side="right")
    return flat, Segments(owners, len(tensors)), sizes


def matrix(tensor: Any, width: int) -> Any:
    """The same entries in rows of that length."""
    if backend_is("torch"):
        # `ops.reshape` takes longer than most that is done with the result.
        return tensor.reshape(-1, width)
    return ops.reshape(tensor, (-1, width))


def size(tensor: Any) -> Any:
    """The number of its entries, as a whole number if it is known by now."""
    return ops.size(tensor) if None in tensor.shape else math.prod(tensor.shape)


def finite(values: Any, counts: Any) -> Any:
    """Which entries are finite, and count."""
    found = ops.isfinite(values)
    return found if counts is None else ops.logical_and(found, counts)


def how_many(compare: str, values: Any, number: float, scratch: Any = None) -> Any:
    """For how many entries of a float32 tensor of torch a comparison is true, as float32.

    Not by way of booleans, whose sum takes ten times as long.

    Args:
        compare: Its name in torch.
        values: The tensor.
        number: What to compare them with.
        scratch: A tensor of that shape to write to; None makes one.
    """
    import torch

    scratch = torch.empty_like(values) if scratch is None else scratch
    return getattr(torch, compare)(values, number, out=scratch).sum()


def float32(tensor: Any) -> Any:
    """The tensor as it is, or cast."""
    single = keras.backend.standardize_dtype(tensor.dtype) == "float32"
    return tensor if single else ops.cast(tensor, "float32")


def as_floats(numbers: Sequence[Any]) -> Any:
    """Whole numbers or scalars, some of them known before the graph runs, as float32."""
    return _vector(numbers, "float32")


def _vector(numbers: Sequence[Any], dtype: str) -> Any:
    if all(isinstance(number, int) for number in numbers):
        return ops.convert_to_tensor(np.array(numbers, dtype))
    return ops.stack([ops.cast(number, dtype) for number in numbers])
