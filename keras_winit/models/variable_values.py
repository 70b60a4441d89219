"""Draws, copies and reads the values of variables, also of those that JAX spreads over devices."""

from typing import Any

import keras
import numpy as np

from keras_winit.initializers import Scheme


def draw(variable: Any, initializer: Any) -> None:
    """Draw a variable in its own dtype and, on JAX, shard by shard on the devices that hold it."""
    placement = {}
    if keras.backend.backend() == "jax" and isinstance(initializer, Scheme):
        placement = {"layout": variable.value.sharding}
    variable.assign(initializer(variable.shape, dtype=variable.dtype, **placement))


def copy_of(variable: Any) -> Any:
    """Return the value of a variable, safe from later assignments to it."""
    backend = keras.backend.backend()
    if backend == "torch":
        return variable.value.detach().clone()
    # Arrays of JAX never change.
    return variable.value.read_value() if backend == "tensorflow" else variable.value


def on_host(variable: Any) -> Any:
    """Return the entries of a variable as a numpy array.

    An array of JAX whose shards lie in several processes is gathered first, so that all of them
    must call this.
    """
    value = variable.value if isinstance(variable, keras.Variable) else variable
    if is_spread(value):
        import jax

        everywhere = jax.NamedSharding(value.sharding.mesh, jax.P())
        value = jax.jit(lambda array: array, out_shardings=everywhere)(value)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Variables with a copy for each replica cannot become arrays directly.
        value = tf.convert_to_tensor(value)
    return keras.ops.convert_to_numpy(value)


def float64_on_host(variable: Any) -> Any:
    """Return the entries of a variable as a numpy array of float64, see `on_host`."""
    return np.asarray(on_host(variable)).astype(np.float64)


def spread_stddev(value: Any) -> float:
    """Return the standard deviation of an array of several processes without gathering it."""
    import jax

    return float(jax.jit(lambda array: jax.numpy.std(array.astype("float32")))(value))


def is_spread(value: Any) -> bool:
    """Return whether this process holds only a part of a tensor."""
    if keras.backend.backend() != "jax":
        return False
    return not (value.is_fully_addressable or value.is_fully_replicated)
