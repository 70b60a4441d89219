"""Row names: a layer's own name is never mistaken for a row name of another layer."""

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit, row
from support.scenarios import BACKEND, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor.row_names import (
    ends_in_mark,
    is_pre_activation,
    layer_of,
    row_name,
    split_call,
)

ROW_NAMES = {
    "a": ("a", 0, 1, False),
    "a:1": ("a", 1, 1, False),
    "a@2": ("a", 0, 2, False),
    "a.pre": ("a", 0, 1, True),
    "a:3@12.pre": ("a", 3, 12, True),
    "x@8/a.b:c~1@2": ("x@8/a.b:c~1", 0, 2, False),
    "line\nbreak@2": ("line\nbreak", 0, 2, False),
}


@pytest.mark.parametrize("name", ROW_NAMES)
def test_row_names_are_parsed_into_their_parts(name):
    layer, output, call, pre_activation = ROW_NAMES[name]
    assert row_name(layer, output, call, pre_activation) == name
    assert layer_of(name) == layer
    assert is_pre_activation(name) == pre_activation
    assert split_call(name) == (row_name(layer, output, 1, pre_activation), call)
    assert ends_in_mark(name) == (name != layer)


# The other backends refuse some of these as names of layers.
NAMES = {"tensorflow": ["a.pre"], "torch": ["a@2", "a:1"], "jax": ["a.pre", "a@2", "a:1"]}


@pytest.mark.parametrize("name", NAMES[BACKEND])
def test_a_layer_may_be_named_like_a_row_of_another_layer(name):
    inputs = keras.Input((6,))
    shared, dead = layers.Dense(6, "relu", name="a"), layers.Dense(3, "relu", name=name)
    model = compiled(keras.Model(inputs, dead(shared(shared(inputs)))), "sgd")
    dead.set_weights([np.zeros((6, 3)), np.full(3, -1.0)])
    monitor = ActivationMonitor(every=1)
    fit(model, monitor)
    (record, *_) = monitor.history.records
    expected = ["a.pre", "a", "a@2.pre", "a@2", f"{name}~1.pre", f"{name}~1"]
    assert list(record.layers) == expected
    assert row(record, f"{name}~1")["dead_share"] == 1
    calls = {
        (line["layer"], line["call"]) for line in monitor.history if line["statistic"] == "mean"
    }
    assert calls == {
        (layer + mark, call)
        for layer, call in (("a", 1), ("a", 2), (f"{name}~1", 1))
        for mark in ("", ".pre")
    }
    dead_layers = {finding.layer for finding in monitor.findings if finding.rule == "dead_units"}
    assert dead_layers <= {f"{name}~1"}
