"""Host memory that every backend adopts without a copy, and how it is handed over."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Sequence
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

# Up to so many bytes a TensorFlow graph gets weights as a constant, which XLA can compile
# but which costs 16 times its size; larger ones are drawn by an op, which XLA lacks.
EMBEDDED = 1 << 24


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


def cut(make: Callable[[], Array], shape: Shape, dtype: str) -> Callable[[Part], Array]:
    """How to make any part of what can only be made as a whole: once for all parts."""
    kept: list[Array] = []

    def draw(part: Part) -> Array:
        if part == whole(shape):
            return make()  # The backend adopts it: it is not ours to keep.
        if not kept:
            kept.append(make())
        out = empty(part_shape(part), dtype)
        out[...] = kept[0][part]
        return out

    return draw


def side_by_side(
    plans: Sequence[Callable[[Part], Array]], sizes: Sequence[int], axis: int, dtype: str
) -> Callable[[Part], Array]:
    """How to make any part of kernels that stand side by side along an axis."""

    def draw(part: Part) -> Array:
        out = empty(part_shape(part), dtype)
        wanted, start = part[axis], 0
        for plan, size in zip(plans, sizes, strict=True):
            low, high = max(wanted.start, start), min(wanted.stop, start + size)
            if low < high:
                inside = slice(low - start, high - start)
                place = (slice(None),) * axis + (slice(low - wanted.start, high - wanted.start),)
                out[place] = plan((*part[:axis], inside, *part[axis + 1 :]))
            start += size
        return out

    return draw


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
    # Read and advanced at once and on the host, also inside a trace. One at a time.
    with _taking, outside_of_traces():
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


_taking = threading.Lock()


def outside_of_traces() -> contextlib.AbstractContextManager[Any]:
    """Where tensors have values, also while the backend traces a function."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.init_scope()  # type: ignore[no-any-return]
    if keras.backend.backend() == "jax":
        import jax

        return jax.ensure_compile_time_eval()  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def _to_tensorflow(draw: Callable[[Part], Array], shape: Shape, dtype: str) -> Any:
    import tensorflow as tf

    def values() -> Array:
        return draw(whole(shape))

    if tf.executing_eagerly():
        return _adopted_by_tensorflow(values(), dtype)
    graph = getattr(tf.compat.v1.get_default_graph(), "name", "")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if graph.startswith("scratch_graph") or size > EMBEDDED:
        # Keras infers shapes in a scratch graph and runs none of it.
        traced = tf.numpy_function(values, [], dtype, stateful=False)
        return tf.ensure_shape(traced, shape)
    return tf.constant(tf.autograph.experimental.do_not_convert(values)())


def _adopted_by_tensorflow(values: Array, dtype: str) -> Any:
    import tensorflow as tf

    if values.nbytes == 0 or values.ctypes.data % ALIGNMENT:
        return tf.convert_to_tensor(values)
    # Numpy has no DLPack code for bfloat16: hand over the bits.
    bits = values.view(np.uint16) if dtype == "bfloat16" else values
    tensor = tf.experimental.dlpack.from_dlpack(bits.__dlpack__())
    # Identity puts it on the device in scope, and copies nothing if that is the host.
    return tf.identity(tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor)


def _to_jax(draw: Callable[[Part], Array], shape: Shape, dtype: str, layout: Any) -> Any:
    import jax

    if layout is not None:
        return _to_jax_shards(draw, shape, layout)
    if not isinstance(jax.numpy.asarray(np.float32(0)), jax.core.Tracer):
        return jax.device_put(draw(whole(shape)))
    if not jax.sharding.get_abstract_mesh().empty:
        # A callback cannot be compiled under a mesh.
        return jax.numpy.asarray(draw(whole(shape)))
    spec = jax.ShapeDtypeStruct(shape, dtype)
    return jax.pure_callback(lambda: draw(whole(shape)), spec)


def _to_jax_shards(draw: Callable[[Part], Array], shape: Shape, layout: Any) -> Any:
    import jax

    sharding = getattr(layout, "backend_layout", layout)
    if isinstance(getattr(sharding, "mesh", None), jax.sharding.AbstractMesh):
        # Keras passes this and sets the mesh with the devices around the call.
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
