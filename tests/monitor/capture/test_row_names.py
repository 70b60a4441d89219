"""Names of rows: a layer's own name is never taken for a mark of the monitor."""

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import fit, row
from support.scenarios import BACKEND, compiled

from keras_winit import ActivationMonitor
from keras_winit.monitor.row_names import ends_in_mark, is_before, layer_of, site, split_call

SITES = {
    "a": ("a", 0, 1, False),
    "a:1": ("a", 1, 1, False),
    "a@2": ("a", 0, 2, False),
    "a.pre": ("a", 0, 1, True),
    "a:3@12.pre": ("a", 3, 12, True),
    "x@8/a.b:c~1@2": ("x@8/a.b:c~1", 0, 2, False),
    "line\nbreak@2": ("line\nbreak", 0, 2, False),
}


@pytest.mark.parametrize("name", SITES)
def test_names_are_read_as_they_were_made(name):
    layer, output, call, before = SITES[name]
    assert site(layer, output, call, before) == name
    assert layer_of(name) == layer
    assert is_before(name) == before
    assert split_call(name) == (site(layer, output, 1, before), call)
    assert ends_in_mark(name) == (name != layer)


# Others cannot be names there.
NAMES = {"tensorflow": ["a.pre"], "torch": ["a@2", "a:1"], "jax": ["a.pre", "a@2", "a:1"]}


@pytest.mark.parametrize("name", NAMES[BACKEND])
def test_a_layer_named_like_a_site_of_another(name):
    inputs = keras.Input((6,))
    other, like = layers.Dense(6, "relu", name="a"), layers.Dense(3, "relu", name=name)
    model = compiled(keras.Model(inputs, like(other(other(inputs)))), "sgd")
    like.set_weights([np.zeros((6, 3)), np.full(3, -1.0)])
    monitor = ActivationMonitor(every=1)
    fit(model, monitor)
    (sample, *_) = monitor.history.records
    seen = ["a.pre", "a", "a@2.pre", "a@2", f"{name}~1.pre", f"{name}~1"]
    assert list(sample.layers) == seen
    assert row(sample, f"{name}~1")["dead_share"] == 1
    rows = {(one["layer"], one["call"]) for one in monitor.history if one["statistic"] == "mean"}
    assert rows == {
        (f"{n}{e}", c) for n, c in (("a", 1), ("a", 2), (f"{name}~1", 1)) for e in ("", ".pre")
    }
    assert {one.layer for one in monitor.findings if one.rule == "dead_units"} <= {f"{name}~1"}
