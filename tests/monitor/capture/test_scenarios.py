"""Training with the monitor is bit by bit the training without it, for many kinds of models."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from support.comparison import compare, exact_graphs, train
from support.monitored import steps_of
from support.scenarios import BACKEND, SCENARIOS, X, Y, compiled, normalized

import keras_winit

ROW_NAMES = {
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

# A few statistics of every kind, so that models compile fast.
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
    # If Keras runs several steps at once, only the last is recorded.
    expected = [1, 3] if name == "several steps at once" else [0, 1, 2, 3]
    assert steps_of(monitor) == expected
    for record in monitor.history.records:
        assert np.isfinite(record.values[:, record.statistics.index("mean")]).all()
        if name in ROW_NAMES:
            assert " ".join(record.layers) == ROW_NAMES[name]
        weight_norms = record.variable_values[:, record.variable_statistics.index("weight_norm")]
        assert (weight_norms >= 0).all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="sets options of TensorFlow's graphs")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_with_fused_graphs_only_the_last_bits_differ(jit_compile):
    options = {"optimizer": "sgd", "jit_compile": jit_compile}
    with exact_graphs(False):
        _, without = train(lambda: normalized(**options))
        monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW)
        _, monitored = train(lambda: normalized(**options), [monitor])
    check_weights_are_close(monitored, without)


def check_weights_are_close(outcome, expected):
    for name, weights in expected["weights"].items():
        np.testing.assert_allclose(outcome["weights"][name], weights, rtol=0, atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="Keras distributes models only on JAX")
@pytest.mark.parametrize("kind", ["data", "model"])
def test_training_on_several_devices_is_the_same(kind):
    distribution = keras.distribution
    if kind == "data":
        devices = distribution.list_devices()[:4]
        parallel = distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    else:
        mesh = distribution.DeviceMesh((2, 2), ["batch", "model"], distribution.list_devices()[:4])
        layout = distribution.LayoutMap(mesh)
        layout["dense/kernel"] = (None, "model")
        parallel = distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW)
    distribution.set_distribution(parallel)
    try:
        assert compare(SCENARIOS["custom step"], monitor) == []
    finally:
        distribution.set_distribution(None)
    assert len(monitor.history.records) == 4


HAS_COMPILER = any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++")))


@pytest.mark.skipif(BACKEND != "torch", reason="tests torch.compile")
@pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs C++: apt-get install g++")
def test_a_model_compiled_by_torch_stays_compiled():
    import torch
    from torch._dynamo.utils import counters

    def build(jit_compile):
        dense = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((6,)), *dense])
        return compiled(model, "sgd", jit_compile=jit_compile), (X, Y)

    graph_counts = []
    count_graphs = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: graph_counts.append(
            counters["stats"]["unique_graphs"]
        )
    )
    monitor = keras_winit.ActivationMonitor(every=lambda step: step in (0, 3, 4), statistics=FEW)
    torch._dynamo.reset()
    counters.clear()
    _, without = train(lambda: build(False), epochs=4)
    _, monitored = train(lambda: build(True), [monitor, count_graphs], epochs=4)
    assert steps_of(monitor) == [0, 3, 4]
    assert monitor.history.unseen == {}
    # The recorded steps 0, 3 and 4 run uncompiled; the steps between them compile once.
    assert graph_counts[0] == 0 < graph_counts[1]
    assert graph_counts[1:] == graph_counts[1:2] * 7
    check_weights_are_close(monitored, without)


MIRRORED = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras_winit
from support.comparison import compare, exact_graphs
from support.scenarios import mixed, with_embedding

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
names = [*keras_winit.monitor.STATISTICS]
# The quantiles of two replicas are averaged.
names.remove("quantiles")
make = lambda: keras_winit.ActivationMonitor(every=1, statistics=names)
with exact_graphs():
    print(compare(mixed("mixed_float16"), make(), strategy.scope))
    replicated, single = make(), make()
    print(compare(with_embedding, replicated, strategy.scope), compare(with_embedding, single))
for a, b in zip(replicated.history.records, single.history.records, strict=True):
    assert a.layers == b.layers and a.variables == b.variables
    np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a.variable_values, b.variable_values, rtol=1e-4)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    assert np.abs(a.counts - b.counts).sum() <= 2
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has this strategy")
def test_replicas_train_the_same_and_have_one_record(fresh_process):
    tests = Path(__file__).parents[2]
    assert fresh_process(MIRRORED, tests).split("\n")[:2] == ["[]", "[] []"]
