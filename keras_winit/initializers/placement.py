"""Host memory that every backend adopts without a copy, and how it is handed over."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
# The part of a kernel that is wanted: one slice an axis, each without a step.
Part = tuple[slice, ...]
Array = npt.NDArray[Any]

# TensorFlow adopts memory from this alignment on (and aborts below it), JAX likewise.
ALIGNMENT = 64

# A TensorFlow graph holds constants of up to 2 GiB in all. A captured tensor may be
# larger, but a variable that starts from one cannot be made inside XLA.
EMBEDDED = 1 << 30


def whole(shape: Shape) -> Part:
    """The part that is all of it."""
    return tuple(slice(0, size) for size in shape)


def part_shape(part: Part) -> Shape:
    """The shape of a part."""
    return tuple(axis.stop - axis.start for axis in part)


def _aligned(allocate: Callable[..., Array], shape: Shape, dtype: str) -> Array:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = allocate(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def empty(shape: Shape, dtype: str) -> Array:
    """Memory to be filled, ready for adoption."""
    return _aligned(np.empty, shape, dtype)


def zeros(shape: Shape, dtype: str) -> Array:
    """Zeros ready for adoption; the system supplies a page when it is first touched."""
    return _aligned(np.zeros, shape, dtype)


def place(draw: Callable[[Part], Array], shape: Shape, dtype: str, layout: Any = None) -> Any:
    """The values that `draw` gives, as a tensor of the current backend.

    Args:
        draw: Gives the values of a part of the kernel, in host memory of this module.
            While a backend traces for shapes only, it is not called at all.
        shape: Of the whole kernel.
        dtype: Of the tensor, by its Keras name.
        layout: On JAX, how the kernel lies on the devices: a `TensorLayout` or a
            `NamedSharding`. `draw` is then asked for one shard after the other.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _to_tensorflow(draw, shape, dtype)
    if backend == "jax":
        return _to_jax(draw, shape, dtype, layout)
    if backend == "torch":
        return _to_torch(draw, shape, dtype)
    return keras.ops.convert_to_tensor(draw(whole(shape)), dtype=dtype)


def native_dtype(dtype: str) -> str:
    """What the backend makes of a dtype: float64 is float32 on JAX, unless x64 is on."""
    if keras.backend.backend() == "jax":
        import jax

        return str(jax.dtypes.canonicalize_dtype(dtype))
    return dtype


def take_state(generator: keras.random.SeedGenerator) -> tuple[int, int]:
    """The seed and the count of a `SeedGenerator`, whose count then moves on by one."""
    backend = keras.backend.backend()
    # Inside a trace the state is read and advanced at once: a draw is a host affair.
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.init_scope():
            state = generator.next()
    elif backend == "jax":
        import jax

        with jax.ensure_compile_time_eval():
            state = generator.next()
    else:
        state = generator.next()
        if getattr(state, "is_meta", False):
            return 0, 0
    seed, count = keras.ops.convert_to_numpy(state)
    # A signed 32-bit state on one backend is an unsigned one on another.
    return int(seed) & 0xFFFFFFFF, int(count) & 0xFFFFFFFF


def _to_tensorflow(draw: Callable[[Part], Array], shape: Shape, dtype: str) -> Any:
    import tensorflow as tf

    if tf.executing_eagerly():
        return _adopted_by_tensorflow(draw(whole(shape)), dtype)
    if tf.compat.v1.get_default_graph().name.startswith("scratch_graph"):
        # Keras infers shapes in this graph and runs none of it: an op that would draw
        # when it is run. Elsewhere XLA may compile the graph, and has no such op.
        traced = tf.numpy_function(lambda: draw(whole(shape)), [], dtype, stateful=False)
        return tf.ensure_shape(traced, shape)
    values = draw(whole(shape))
    if values.nbytes < EMBEDDED:
        return tf.constant(values)
    with tf.init_scope():
        tensor = _adopted_by_tensorflow(values, dtype)
    return tf.identity(tensor)


def _adopted_by_tensorflow(values: Array, dtype: str) -> Any:
    import tensorflow as tf

    if values.nbytes == 0 or values.ctypes.data % ALIGNMENT:
        return tf.convert_to_tensor(values)
    # Numpy has no DLPack code for bfloat16: hand over the bits.
    bits = values.view(np.uint16) if dtype == "bfloat16" else values
    tensor = tf.experimental.dlpack.from_dlpack(bits.__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor


def _to_jax(draw: Callable[[Part], Array], shape: Shape, dtype: str, layout: Any) -> Any:
    import jax

    if layout is not None:
        return _to_jax_shards(draw, shape, layout)
    if isinstance(jax.numpy.asarray(np.float32(0)), jax.core.Tracer):
        spec = jax.ShapeDtypeStruct(shape, dtype)
        return jax.pure_callback(lambda: draw(whole(shape)), spec)
    return jax.device_put(draw(whole(shape)))


def _to_jax_shards(draw: Callable[[Part], Array], shape: Shape, layout: Any) -> Any:
    import jax

    layout = getattr(layout, "backend_layout", layout)
    # Keras passes an abstract mesh, and sets the one with the devices around the call.
    mesh = layout.mesh if isinstance(layout.mesh, jax.sharding.Mesh) else jax.sharding.get_mesh()
    sharding = jax.sharding.NamedSharding(mesh, layout.spec)
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


def _to_torch(draw: Callable[[Part], Array], shape: Shape, dtype: str) -> Any:
    import torch

    if keras.ops.convert_to_tensor(0.0).is_meta:
        return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
    values = draw(whole(shape))
    if dtype == "bfloat16":
        tensor = torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(values)
    return keras.ops.convert_to_tensor(tensor)
