"""Training is the same, bit by bit, with the monitor and without."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from support.scenarios import (
    BACKEND,
    SCENARIOS,
    X,
    Y,
    compare,
    compiled,
    exact_graphs,
    normalized,
    train,
)

import keras_winit

SITES = {
    "nested and shared": "shared.pre shared in/inside.pre in/inside shared@2.pre shared@2 dense",
    "subclassed": "residual/dense.pre residual/dense residual/dropout residual "
    "residual_1/dense_1.pre residual_1/dense_1 residual_1/dropout_1 residual_1 dense_2",
    "recurrent": "embedding lstm gru",
    "over time": "time_distributed bidirectional/forward_gru bidirectional/backward_gru "
    "bidirectional dense_1",
    "custom step": "dense.pre dense dropout dense_1",
}
UNSEEN = {
    "over time": {"time_distributed/dense": "runs in the loop of time_distributed: watch that one"}
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
    assert monitor.history.unseen == UNSEEN.get(name, {})
    steps = [sample.step for sample in monitor.history.records]
    # Of several steps at once the last is kept.
    assert steps == ([1, 3] if name == "several steps at once" else [0, 1, 2, 3])
    for sample in monitor.history.records:
        assert np.isfinite(sample.values[:, sample.statistics.index("mean")]).all()
        if name in SITES:
            assert " ".join(sample.layers) == SITES[name]
        assert (
            sample.variable_values[:, sample.variable_statistics.index("weight_norm")] >= 0
        ).all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of its compilers")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_without_exact_graphs_only_last_bits_differ(jit_compile):
    options = {"optimizer": "sgd", "jit_compile": jit_compile}
    with exact_graphs(False):
        _, plain = train(lambda: normalized(**options))
        monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW)
        _, watched = train(lambda: normalized(**options), [monitor])
    for one, other in zip(plain["weights"].values(), watched["weights"].values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


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
    assert len(monitor.history.records) == 4


CXX = any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++")))


@pytest.mark.skipif(BACKEND != "torch", reason="of torch")
@pytest.mark.skipif(not CXX, reason="torch.compile needs a C++ compiler: apt-get install g++")
def test_what_torch_compiled_stays_compiled():
    import torch
    from torch._dynamo.utils import counters

    def build(jit_compile):
        dense = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((6,)), *dense])
        return compiled(model, "sgd", jit_compile=jit_compile), (X, Y)

    graphs = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: graphs.append(counters["stats"]["unique_graphs"])
    )
    monitor = keras_winit.ActivationMonitor(every=lambda step: step in (0, 3, 4), statistics=FEW)
    torch._dynamo.reset()
    counters.clear()
    _, plain = train(lambda: build(False), epochs=4)
    _, watched = train(lambda: build(True), [monitor, count], epochs=4)
    assert [sample.step for sample in monitor.history.records] == [0, 3, 4]
    assert monitor.history.unseen == {}
    # The watched steps run as they are; those between compile once.
    assert graphs[0] == 0 < graphs[1]
    assert graphs[1:] == graphs[1:2] * 7
    for one, other in zip(plain["weights"].values(), watched["weights"].values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


MIRRORED = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras_winit
from support.scenarios import compare, exact_graphs, mixed, with_embedding

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
names = [*keras_winit.monitor.STATISTICS]
names.remove("quantiles")
make = lambda: keras_winit.ActivationMonitor(every=1, statistics=names)
with exact_graphs():
    print(compare(mixed("mixed_float16"), make(), strategy.scope))
    two, one = make(), make()
    print(compare(with_embedding, two, strategy.scope), compare(with_embedding, one))
for a, b in zip(two.history.records, one.history.records, strict=True):
    assert a.layers == b.layers and a.variables == b.variables
    np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a.variable_values, b.variable_values, rtol=1e-4)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    assert np.abs(a.counts - b.counts).sum() <= 2
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
def test_replicas_train_the_same_and_count_as_one(fresh_process):
    tests = Path(__file__).parents[2]
    assert fresh_process(MIRRORED, tests, tests.parent).split("\n")[:2] == ["[]", "[] []"]
