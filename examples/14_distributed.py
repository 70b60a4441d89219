"""A distributed run: the same weights and the same records on one device and on several.

Look at the two tables: they agree. A seed gives the same weights for any number of devices, and the
monitor records the whole batch, not one device's part of it. On JAX the batch and the kernels are
split over a mesh of 2 x 2 devices; on TensorFlow two replicas share the batch. The devices are
parts of the CPU, so that this runs anywhere. `docs/distributed.md` says more.
"""

import contextlib
import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import keras
import numpy as np

import keras_winit

x = np.random.default_rng(0).normal(size=(256, 32)).astype("float32")


def train(place):
    """Train a network in a context such as the scope of a strategy; return its monitor."""
    with place:
        model = keras.Sequential([keras.Input((32,))])
        for seed in range(3):
            scheme = keras_winit.HeNormal(seed=seed)
            model.add(keras.layers.Dense(32, "relu", kernel_initializer=scheme, name=f"h{seed}"))
        model.add(keras.layers.Dense(32, kernel_initializer=keras_winit.LecunNormal(seed=3)))
        model.compile("sgd", "mse")
        monitor = keras_winit.ActivationMonitor(every=1, verbose=0)
        model.fit(x, x, batch_size=64, shuffle=False, callbacks=[monitor], verbose=0)
    return monitor


def place_on_jax():
    devices = keras.distribution.list_devices()[:4]
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*kernel"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch").scope()


def place_on_tensorflow():
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()


places = {"jax": place_on_jax, "tensorflow": place_on_tensorflow}
backend = keras.backend.backend()
if backend not in places:
    raise SystemExit(f"This example needs JAX or TensorFlow. Received: backend={backend!r}.")
several = places[backend]()
monitors = {"one device": train(contextlib.nullcontext()), "several devices": train(several)}
for name, monitor in monitors.items():
    print(f"--- {name}\n{monitor}\n")

one, other = (monitor.history.records[-1] for monitor in monitors.values())
print(f"largest difference in the tables: {np.nanmax(np.abs(one.values - other.values)):.1e}")
