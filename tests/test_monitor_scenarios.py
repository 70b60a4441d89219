"""Training is the same, bit by bit, with the monitor and without."""

from pathlib import Path

import keras
import numpy as np
import pytest
from scenarios import BACKEND, SCENARIOS, compare, exact_graphs

import keras_winit

SITES = {
    "nested and shared": "shared.pre shared in/inside.pre in/inside shared@2.pre shared@2 dense",
    "subclassed": "subclassed/residual/dense.pre subclassed/residual/dense dropout "
    "subclassed/residual subclassed/residual_1/dense_1.pre subclassed/residual_1/dense_1 "
    "dropout_1 subclassed/residual_1 subclassed/dense_2",
    "recurrent": "sequential/embedding sequential/lstm sequential/gru",
    "over time": "sequential/time_distributed sequential/bidirectional/forward_gru "
    "sequential/bidirectional/backward_gru sequential/bidirectional sequential/dense_1",
    "custom step": "dense.pre dense dropout dense_1",
}


# What is read matters here, not how much is made of it: quick to compile.
FEW = ("mean", "unit_stddev", "saturated_share", "weight_norm", "gradient_norm", "update_norm")


@pytest.fixture(scope="module", autouse=True)
def _exact_graphs():
    with exact_graphs():
        yield


@pytest.mark.parametrize("name", SCENARIOS)
def test_training_is_the_same(name):
    statistics = "all" if name == "last batch smaller" else FEW
    monitor = keras_winit.ActivationMonitor(every=1, statistics=statistics)
    assert compare(SCENARIOS[name], monitor) == []
    assert monitor.history.unseen == {}
    steps = [sample.step for sample in monitor.history.samples]
    # Of several steps at once the last is kept.
    assert steps == ([1, 3] if name == "several steps at once" else [0, 1, 2, 3])
    for sample in monitor.history.samples:
        assert np.isfinite(sample.values[:, sample.statistics.index("mean")]).all()
        if name in SITES:
            assert " ".join(sample.layers) == SITES[name]
        assert (
            sample.variable_values[:, sample.variable_statistics.index("weight_norm")] >= 0
        ).all()


@pytest.mark.skipif(BACKEND != "jax", reason="distributions of Keras work on JAX")
@pytest.mark.parametrize("kind", ["data", "model"])
def test_training_on_several_devices_is_the_same(kind):
    distribution = keras.distribution
    if kind == "data":
        spread = distribution.DataParallel(auto_shard_dataset=False)
    else:
        mesh = distribution.DeviceMesh((2, 2), ["batch", "model"], distribution.list_devices())
        layout = distribution.LayoutMap(mesh)
        layout["dense/kernel"] = (None, "model")
        spread = distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW)
    distribution.set_distribution(spread)
    try:
        assert compare(SCENARIOS["custom step"], monitor) == []
    finally:
        distribution.set_distribution(None)
    assert len(monitor.history.samples) == 4


MIRRORED = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras_winit
from scenarios import compare, exact_graphs, mixed, with_embedding

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
names = [*keras_winit.monitor.STATISTICS]
names.remove("quantiles")
make = lambda: keras_winit.ActivationMonitor(every=1, statistics=names)
with exact_graphs():
    print(compare(mixed("mixed_float16"), make(), strategy.scope))
    two, one = make(), make()
    print(compare(with_embedding, two, strategy.scope), compare(with_embedding, one))
for a, b in zip(two.history.samples, one.history.samples, strict=True):
    assert a.layers == b.layers and a.variables == b.variables
    np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a.variable_values, b.variable_values, rtol=1e-4)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    assert np.abs(a.counts - b.counts).sum() <= 2
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
def test_replicas_train_the_same_and_count_as_one(fresh_process):
    here = Path(__file__).parent
    assert fresh_process(MIRRORED, here, here.parent).split("\n")[:2] == ["[]", "[] []"]
