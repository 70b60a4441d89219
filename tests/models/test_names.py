"""What layers and variables are called: by their place, the same after loading."""

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
    """Two blocks with a layer of the same name each; that of one may be far too large."""
    parts = []
    for name in ("block1", "block2"):
        scheme = "winit>large_normal" if name == large else "winit>he_normal"
        inner = layers.Dense(64, "relu", kernel_initializer=scheme, name="dense")
        parts.append(keras.Sequential([inner], name=name))
    return [keras.Input((64,)), *parts, layers.Dense(3, name="head")]


class Twice(layers.Layer):
    """Holds a layer, and a layer of the same name in a list."""

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
    for part in blocks()[1:]:
        x = part(x)
    return keras.Model(inputs, x, name="net")


@pytest.mark.parametrize("make", [sequential, functional])
def test_names_are_the_same_after_loading(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        names = Names(one)
        assert [names.of(layer) for layer in one._flatten_layers() if layer.variables][1:] == [
            *("block1", "block1/dense", "block2", "block2/dense", "head")
        ]
        assert [names.of(variable) for variable in one.trainable_variables] == [
            f"{layer}/{part}"
            for layer in ("block1/dense", "block2/dense", "head")
            for part in ("kernel", "bias")
        ]


def test_a_fault_is_found_where_it_is_after_loading(tmp_path):
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


def test_each_has_a_name_of_its_own():
    model = keras.Sequential([keras.Input((4,)), Twice(name="a"), layers.Dense(2, name="b")])
    names = Names(model, refused=lambda name: name == "b")
    inner, other = model.layers[0].inner, model.layers[0].others[0]
    assert [names.of(one) for one in (inner, other, model.layers[1])] == [
        *("a/same", "a/same~2", "b~1")
    ]
    assert [names.of(one) for one in model.variables] == [
        *("a/scale", "a/same/kernel", "a/same/bias", "a/same~2/kernel", "a/same~2/bias"),
        *("b~1/kernel", "b~1/bias"),
    ]


def test_a_layer_that_comes_later_and_one_of_nobody():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="a")])
    names = Names(model)
    assert names.of(model.layers[0]) == "a"
    model.add(layers.Dense(2, name="b"))
    assert names.of(model.layers[1]) == "b"
    stray = layers.Dense(2, name="a")
    assert names.of(stray) == "a~2"
    # What is made anew in each step has one name, and is not kept.
    del stray
    gc.collect()
    assert names.of(layers.Dense(2, name="a")) == "a~2"


def test_a_layer_that_takes_the_place_of_one_of_its_name():
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
