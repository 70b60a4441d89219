"""Tests of `Names`: unique names by place in the model, the same after loading."""

import gc

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit
from support.scenarios import compiled

from keras_winit import ActivationMonitor
from keras_winit.models.names import Names


def blocks(large=None):
    """Return two blocks that each hold a layer `dense`; one kernel may be far too large."""
    sequentials = []
    for name in ("block1", "block2"):
        scheme = "winit>large_normal" if name == large else "winit>he_normal"
        dense = layers.Dense(64, "relu", kernel_initializer=scheme, name="dense")
        sequentials.append(keras.Sequential([dense], name=name))
    return [keras.Input((64,)), *sequentials, layers.Dense(3, name="head")]


class SameNameTwice(layers.Layer):
    """Holds a layer, and another layer of the same name in a list."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner, self.others = layers.Dense(4, name="same"), [layers.Dense(4, name="same")]
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        return self.scale * self.others[0](self.inner(x))


def sequential():
    return keras.Sequential(blocks(), name="net")


def functional():
    x = inputs = keras.Input((64,))
    for layer in blocks()[1:]:
        x = layer(x)
    return keras.Model(inputs, x, name="net")


@pytest.mark.parametrize("make", [sequential, functional])
def test_names_are_the_same_after_loading(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    for version in (model, keras.models.load_model(tmp_path / "model.keras")):
        names = Names(version)
        layers_with_variables = [x for x in version._flatten_layers() if x.variables]
        assert [names.of(layer) for layer in layers_with_variables[1:]] == [
            *("block1", "block1/dense", "block2", "block2/dense", "head")
        ]
        assert [names.of(variable) for variable in version.trainable_variables] == [
            f"{layer}/{variable}"
            for layer in ("block1/dense", "block2/dense", "head")
            for variable in ("kernel", "bias")
        ]


def test_findings_name_the_faulty_layer_after_loading(tmp_path):
    x = np.random.default_rng(0).normal(size=(32, 64)).astype("float32")
    for name in ("block1", "block2"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(blocks(name))
        model.save(tmp_path / "model.keras")
        loaded = compiled(keras.models.load_model(tmp_path / "model.keras"), "sgd")
        monitor = ActivationMonitor(verbose=0)
        fit(loaded, monitor, x=x, y=x[:, :3])
        first = monitor.findings[0]
        assert (first.rule, first.layer) == ("wrong_init_for_activation", f"{name}/dense")
        assert f"'{name}/dense/kernel'" in first.cause


def test_names_are_unique_and_avoid_refused_ones():
    model = keras.Sequential(
        [keras.Input((4,)), SameNameTwice(name="a"), layers.Dense(2, name="b")]
    )
    names = Names(model, refused=lambda name: name == "b")
    inner, other = model.layers[0].inner, model.layers[0].others[0]
    assert [names.of(layer) for layer in (inner, other, model.layers[1])] == [
        *("a/same", "a/same~2", "b~1")
    ]
    assert [names.of(variable) for variable in model.variables] == [
        *("a/scale", "a/same/kernel", "a/same/bias", "a/same~2/kernel", "a/same~2/bias"),
        *("b~1/kernel", "b~1/bias"),
    ]


def test_layers_added_later_and_layers_outside_the_model():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="a")])
    names = Names(model)
    assert names.of(model.layers[0]) == "a"
    model.add(layers.Dense(2, name="b"))
    assert names.of(model.layers[1]) == "b"
    stray = layers.Dense(2, name="a")
    assert names.of(stray) == "a~2"
    # A layer that a model creates anew in each step gets the name of its deleted predecessor.
    del stray
    gc.collect()
    assert names.of(layers.Dense(2, name="a")) == "a~2"


def test_a_layer_that_replaces_another_takes_over_its_name():
    model = compiled(
        keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(3, name="b")])
    )
    monitor = ActivationMonitor(every=1, statistics=["mean", "weight_norm"])
    fit(model, monitor)
    model.pop()
    model.add(layers.Dense(3, name="b"))
    fit(compiled(model), monitor)
    first, *_, last = monitor.history.records
    assert last.layers == first.layers
    assert last.variables == first.variables
