"""The description of a model's layers that the rules rely on."""

import keras
import numpy as np
from keras import layers
from support.scenarios import SCENARIOS

from keras_winit.models.graph import try_trace
from keras_winit.models.layers import describe_layers
from keras_winit.models.names import Names


def parts_of(model):
    return {
        part.name: part for part in describe_layers(model, Names(model), try_trace(model)).values()
    }


def node_counts(model):
    return [(len(p._inbound_nodes), len(p._outbound_nodes)) for p in model._flatten_layers()]


def scenario_parts(name):
    keras.utils.clear_session()
    model, data = SCENARIOS[name]()
    if not model.built:
        model(data[0])
    before = node_counts(model)
    parts = parts_of(model)
    assert node_counts(model) == before
    return parts


class Stateful(keras.Model):
    """Assigns a variable and draws random numbers in `call`."""

    def __init__(self):
        super().__init__()
        self.dense, self.generator = layers.Dense(4), keras.random.SeedGenerator(1)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        self.count.assign_add(1.0)
        return self.dense(x + keras.random.normal((1, 8), seed=self.generator))


def test_anatomy_does_not_run_the_model():
    model = Stateful()
    model(np.zeros((2, 8), "float32"))
    count, state = float(model.count), np.array(model.generator.state)
    assert list(parts_of(model)) == [model.dense.name]
    assert float(model.count) == count == 1
    np.testing.assert_array_equal(np.array(model.generator.state), state)


def test_anatomy_leaves_no_nodes_on_operations():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(keras.ops.sin(inputs)))
    operation = next(op for op in model.operations if type(op).__name__ == "Sin")
    describe_layers(model, Names(model), try_trace(model))
    assert len(operation._inbound_nodes) == 1


def test_anatomy_of_a_residual_model():
    parts = scenario_parts("normalized")
    dense, last = parts["dense"], parts["dense_1"]
    assert (dense.activation, dense.branch) == ("softplus", 0)
    assert (dense.ends_branch, dense.normalized) == (True, True)
    assert (last.hidden, last.branch, last.activation) == (False, None, None)


def test_anatomy_of_attention():
    parts = scenario_parts("attention")
    assert parts["query"].branch == parts["attention_output"].branch == 0
    assert parts["attention_output"].ends_branch
    assert not parts["query"].ends_branch
    assert parts["wide"].activation == "gelu"
    assert parts["embedding"].is_embedding
    assert parts["query"].kernels[0].unit_axes == (1, 2)
    low, high = parts["wide"].kernels[0].variances
    assert (low, round(high * 8, 3)) == (1 / 8, 2.352)


def test_rescaling_prepares_an_input_and_normalizes_nothing():
    first = [layers.Rescaling(3.0), layers.Dense(4, name="a")]
    second = [layers.Rescaling(3.0), layers.Dense(4, name="b")]
    parts = parts_of(keras.Sequential([keras.Input((4,)), *first, *second]))
    assert [(parts[name].takes_raw_input, parts[name].normalized) for name in "ab"] == [
        (False, False)
    ] * 2


def test_anatomy_of_a_subclassed_model():
    parts = scenario_parts("subclassed")
    assert [parts[name].branch for name in ("dense", "dense_1", "dense_2")] == [0, 1, None]
    assert parts["dense_1"].ends_branch
    assert not parts["dense_2"].hidden
