"""Makes weights in host memory, in parts, and places them on devices without a copy."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
# A part of a weight: one slice for each axis, each without a step.
Part = tuple[slice, ...]
Array = npt.NDArray[Any]
# Makes the values of a part, in memory from `empty` or `zeros`.
DrawPart = Callable[[Part], Array]

# Alignment in bytes from which TensorFlow and JAX adopt host memory without a copy. Given
# memory of a smaller alignment, TensorFlow aborts the process.
ALIGNMENT = 64

# Largest number of each dtype of weights.
LARGEST = {
    "float16": float.fromhex("0x1.ffcp15"),
    "bfloat16": float.fromhex("0x1.fep127"),
    "float32": float.fromhex("0x1.fffffep127"),
    "float64": float.fromhex("0x1.fffffffffffffp1023"),
}

# Largest weight, in bytes, that a TensorFlow graph holds as a constant. XLA can compile a
# constant, but it costs 16 times its size; larger weights are drawn by an op, which XLA lacks.
EMBEDDED = 1 << 24


def whole(shape: Shape) -> Part:
    """Return the part that covers all of a weight."""
    return tuple(slice(0, size) for size in shape)


def part_shape(part: Part) -> Shape:
    """Return the shape of a part."""
    return tuple(axis.stop - axis.start for axis in part)


def _aligned(allocate: Callable[..., Array], shape: Shape, dtype: str) -> Array:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = allocate(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def empty(shape: Shape, dtype: str) -> Array:
    """Return uninitialized memory that backends can adopt."""
    return _aligned(np.empty, shape, dtype)


def zeros(shape: Shape, dtype: str) -> Array:
    """Return zeros that backends can adopt; the system supplies a page at its first use."""
    return _aligned(np.zeros, shape, dtype)


def require_finite(values: Array) -> None:
    """Raise `OverflowError` if weights have become infinite in their dtype."""
    if not np.isfinite(values).all():
        raise OverflowError("A weight does not fit the dtype.")


def rounded(values: Array, dtype: str) -> Array:
    """Return a copy of values, rounded once to the dtype of a weight.

    Raises:
        OverflowError: If a value is not finite in the dtype.
    """
    out = empty(values.shape, dtype)
    with np.errstate(over="ignore"):
        out[...] = values
    require_finite(out)
    return out


def cut_from_whole(make: Callable[[], Array], shape: Shape, dtype: str) -> DrawPart:
    """Return a `DrawPart` for a weight that can only be made as a whole: once for all parts."""
    made: list[Array] = []

    def draw(part: Part) -> Array:
        if part == whole(shape):
            # The result is not kept: the backend adopts this memory and may overwrite it.
            return make()
        if not made:
            made.append(make())
        out = empty(part_shape(part), dtype)
        out[...] = made[0][part]
        return out

    return draw


def concatenated(
    draws: Sequence[DrawPart], sizes: Sequence[int], axis: int, dtype: str
) -> DrawPart:
    """Return a `DrawPart` for blocks side by side along an axis, each with a `DrawPart`."""

    def draw(part: Part) -> Array:
        out = empty(part_shape(part), dtype)
        wanted, start = part[axis], 0
        for draw_block, size in zip(draws, sizes, strict=True):
            low, high = max(wanted.start, start), min(wanted.stop, start + size)
            if low < high:
                in_block = slice(low - start, high - start)
                in_out = slice(low - wanted.start, high - wanted.start)
                values = draw_block((*part[:axis], in_block, *part[axis + 1 :]))
                out[(*(slice(None),) * axis, in_out)] = values
            start += size
        return out

    return draw


def to_tensor(draw: DrawPart, shape: Shape, dtype: str, layout: Any = None) -> Any:
    """Make a weight and return it as a tensor of the current backend.

    Args:
        draw: Makes the values of a part. It is not called while a backend traces for shapes
            only.
        shape: Shape of the whole weight.
        dtype: Keras name of the tensor's dtype.
        layout: On JAX, the distribution of the weight over devices: a `TensorLayout` or a
            `NamedSharding`. `draw` is then called for one shard after the other.
    """
    backend = keras.backend.backend()
    if dtype not in LARGEST and layout is None:
        return keras.ops.convert_to_tensor(draw(whole(shape)), dtype=dtype)
    if backend == "tensorflow":
        return _to_tensorflow(draw, shape, dtype)
    if backend == "jax":
        return _to_jax(draw, shape, dtype, layout)
    if backend == "torch":
        return _to_torch(draw, shape, dtype)
    return keras.ops.convert_to_tensor(draw(whole(shape)), dtype=dtype)


def native_dtype(dtype: str) -> str:
    """Return the dtype that the backend uses: float32 for float64 on JAX, unless x64 is on."""
    if keras.backend.backend() == "jax":
        import jax

        return str(jax.dtypes.canonicalize_dtype(dtype))
    return dtype


def next_state(generator: keras.random.SeedGenerator) -> tuple[int, int]:
    """Return the seed and the count of a `SeedGenerator`, and add one to its count."""
    # The state is read and written on the host, also while the backend traces. The lock keeps
    # two threads from drawing the same count.
    with _state_lock, outside_of_traces():
        state = generator.state.value
        if getattr(state, "is_meta", False):
            return 0, 0
        try:
            seed, count = (int(word) for word in keras.ops.convert_to_numpy(state))
        except Exception as error:
            raise ValueError(
                "a scheme cannot draw from a `SeedGenerator` whose state is being traced. "
                "Draw in `build`, or call `keras.random` in `call`."
            ) from error
        dtype = keras.backend.standardize_dtype(state.dtype)
        generator.state.assign(np.array([seed, count + 1], dtype))
    return seed % 2**64, count % 2**64


_state_lock = threading.Lock()


def outside_of_traces() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which tensors have values, also while the backend traces."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.init_scope()  # type: ignore[no-any-return]
    if keras.backend.backend() == "jax":
        import jax

        return jax.ensure_compile_time_eval()  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def _to_tensorflow(draw: DrawPart, shape: Shape, dtype: str) -> Any:
    import tensorflow as tf

    def values() -> Array:
        return draw(whole(shape))

    if tf.executing_eagerly():
        return _adopted_by_tensorflow(values(), dtype)
    graph = getattr(tf.compat.v1.get_default_graph(), "name", "")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    # Keras infers shapes in a scratch graph, which never runs: the op is not called there.
    if graph.startswith("scratch_graph") or size > EMBEDDED:
        traced = tf.numpy_function(values, [], dtype, stateful=False)
        return tf.ensure_shape(traced, shape)
    return tf.constant(tf.autograph.experimental.do_not_convert(values)())


def _adopted_by_tensorflow(values: Array, dtype: str) -> Any:
    import tensorflow as tf

    if values.nbytes == 0 or values.ctypes.data % ALIGNMENT:
        return tf.convert_to_tensor(values)
    # NumPy has no DLPack code for bfloat16, so its bits are passed on as uint16.
    bits = values.view(np.uint16) if dtype == "bfloat16" else values
    tensor = tf.experimental.dlpack.from_dlpack(bits.__dlpack__())
    # `identity` puts the tensor on the device in scope; if that is the host, it copies nothing.
    return tf.identity(tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor)


def _to_jax(draw: DrawPart, shape: Shape, dtype: str, layout: Any) -> Any:
    import jax

    if layout is not None:
        return _to_jax_shards(draw, shape, layout)
    if not isinstance(jax.numpy.asarray(np.float32(0)), jax.core.Tracer):
        return jax.device_put(draw(whole(shape)))
    if not jax.sharding.get_abstract_mesh().empty:
        # JAX cannot compile a callback under a mesh.
        return jax.numpy.asarray(draw(whole(shape)))
    spec = jax.ShapeDtypeStruct(shape, dtype)
    return jax.pure_callback(lambda: draw(whole(shape)), spec)


def _to_jax_shards(draw: DrawPart, shape: Shape, layout: Any) -> Any:
    import jax

    sharding = getattr(layout, "backend_layout", layout)
    if isinstance(getattr(sharding, "mesh", None), jax.sharding.AbstractMesh):
        # Keras passes an abstract mesh, and sets the mesh with the devices around the call.
        sharding = jax.sharding.NamedSharding(jax.sharding.get_mesh(), sharding.spec)
    devices: dict[tuple[tuple[int, int], ...], list[Any]] = {}
    indices: dict[Any, Any] = dict(sharding.addressable_devices_indices_map(shape))
    for device, index in indices.items():
        bounds = tuple(axis.indices(size)[:2] for axis, size in zip(index, shape, strict=True))
        devices.setdefault(bounds, []).append(device)

    def shards() -> Iterable[Any]:
        for bounds, holders in devices.items():
            values = draw(tuple(slice(*axis) for axis in bounds))
            for device in holders:
                yield jax.device_put(values, device)

    return jax.make_array_from_single_device_arrays(shape, sharding, list(shards()))


def _to_torch(draw: DrawPart, shape: Shape, dtype: str) -> Any:
    import torch

    if keras.ops.convert_to_tensor(0.0).is_meta:
        return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
    values = draw(whole(shape))
    if dtype == "bfloat16":
        tensor = torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(values)
    return keras.ops.convert_to_tensor(tensor)
