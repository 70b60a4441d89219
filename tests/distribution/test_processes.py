"""Two processes on the loopback interface train one model together."""

import keras
import pytest
from support.processes import free_address, run_two

BACKEND = keras.backend.backend()

JAX = """
import sys
import jax, keras, numpy as np
import keras_winit
address, process, log_dir = sys.argv[1], int(sys.argv[2]), sys.argv[3]
distribution = keras.distribution
distribution.initialize(address, 2, process)
mesh = distribution.DeviceMesh((2, 2), ["batch", "model"], distribution.list_devices())
layouts = distribution.LayoutMap(mesh)
layouts[".*kernel"] = (None, "model")
parallel = distribution.ModelParallel(
    layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
)
distribution.set_distribution(parallel)
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
x[5, 2] = 100
model = keras.Sequential(
    [keras.Input((6,)), keras.layers.Dense(8, "relu", kernel_initializer="winit>he_normal")]
)
model.compile(keras.optimizers.SGD(0.0), "mse")
kernel = model.layers[0].kernel
layout = kernel.value.sharding
whole = lambda: jax.device_get(jax.jit(lambda k: k, out_shardings=jax.NamedSharding(
    layout.mesh, jax.P()))(kernel.value).addressable_data(0))
print("unseeded", np.square(whole()).sum())
monitor = keras_winit.ActivationMonitor(every=1, log_dir=log_dir, verbose=2)
half = slice(32 * process, 32 * process + 32)
model.fit(x[half], np.zeros((32, 8), "float32"), batch_size=32, verbose=0, callbacks=[monitor])
record, = monitor.history.records
# Every record covers the samples of both processes.
mean, stddev, largest = (record.input_values[0, record.statistics.index(name)]
                         for name in ("mean", "stddev", "max"))
np.testing.assert_allclose([mean, stddev, largest], [x.mean(), x.std(), 100], rtol=1e-4)
outputs = np.maximum(x.astype("float64") @ whole(), 0)
measured = [record.lookup("dense", name) for name in ("mean", "stddev", "max", "dead_units")]
expected = [outputs.mean(), outputs.std(), outputs.max(), (outputs.max(0) == 0).sum()]
np.testing.assert_allclose(measured, expected, rtol=1e-4)
assert monitor.history.unseen == {}
keras_winit.reinitialize(model, seed=3)
assert kernel.value.sharding == layout
print("reinitialized", np.square(whole()).sum())
"""

TENSORFLOW = """
import json, os, sys
workers, process = sys.argv[1].split(","), int(sys.argv[2])
task = {"type": "worker", "index": process}
os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, numpy as np
import keras_winit
keras.utils.set_random_seed(process)
def total():
    return np.square(np.asarray(model.layers[0].kernel.value)).sum()
with strategy.scope():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, kernel_initializer="winit>he_normal")]
    )
    model.compile("sgd", "mse")
print("unseeded", total())
keras_winit.reinitialize(model, seed=3)
print("reinitialized", total())
try:
    x = np.zeros((8, 6), "float32")
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :8])).batch(8).with_options(options)
    model.fit(data, verbose=0)
except ValueError as error:
    print("refused", "unsupported type" in str(error) and "PerReplica" in str(error))
"""


def values_of(lines):
    known = ("unseeded", "reinitialized", "refused")
    return [line for line in lines if line.startswith(known)]


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX has this distribution")
def test_jax_processes_record_the_whole_batch_and_only_the_chief_writes(tmp_path):
    chief, other = run_two(JAX, free_address(), tmp_path)
    assert values_of(chief) == values_of(other)
    assert [path.name for path in tmp_path.iterdir()] == ["winit"]
    assert len(list((tmp_path / "winit").glob("events*"))) == 1
    # With `verbose=2` the chief prints the table of the epoch as well.
    assert any("dense" in line for line in chief)
    assert not any("dense" in line for line in other)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has this strategy")
def test_workers_start_equal_and_fit_is_still_refused_by_keras():
    chief, other = run_two(TENSORFLOW, f"{free_address()},{free_address()}")
    assert values_of(chief) == values_of(other)
    # If this fails, Keras has begun to support the strategy, and the monitor must support it too.
    assert values_of(chief)[-1] == "refused True"
