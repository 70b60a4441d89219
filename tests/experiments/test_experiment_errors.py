"""Errors of the experiments: each sentence in full."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import anything, assert_refusal

from keras_winit import experiments, propagate, symmetry

ERRORS = [
    (
        lambda: propagate("winit>zeros", depth=0),
        ValueError,
        "`propagate(depth=...)` must be an integer >= 1. Received: depth=0.",
    ),
    (
        lambda: propagate("winit>zeros", width=2.5),
        TypeError,
        "`propagate(width=...)` must be an integer >= 1. Received: width=2.5.",
    ),
    (
        lambda: propagate("winit>zeros", seed=-1),
        ValueError,
        "`propagate(seed=...)` must be an integer >= 0. Received: seed=-1.",
    ),
    (
        lambda: propagate("winit>zeros", "softmax"),
        ValueError,
        "`propagate(activation=...)` must act on each entry by itself. "
        "Received: activation='softmax'.",
    ),
    (
        lambda: propagate("winit>zeros", "nope"),
        ValueError,
        "`propagate(activation=...)` must be an activation of Keras or a function. "
        "Received: activation='nope'.",
    ),
    (
        lambda: symmetry("winit>zeros", units=1),
        ValueError,
        "`symmetry(units=...)` must be an integer >= 2. Received: units=1.",
    ),
    (
        lambda: symmetry("winit>zeros", steps=1.5),
        TypeError,
        "`symmetry(steps=...)` must be an integer >= 0. Received: steps=1.5.",
    ),
    *(
        (
            lambda experiment=experiment: experiment(None),
            ValueError,
            f"`{experiment.__name__}(initializer=...)` must be an initializer. Received: None.",
        )
        for experiment in (propagate, symmetry)
    ),
    # Keras itself raises KeyError for this name.
    *(
        (
            lambda experiment=experiment: experiment("function"),
            ValueError,
            f"`{experiment.__name__}(initializer=...)` must be an initializer. "
            "Received: 'function'.",
        )
        for experiment in (propagate, symmetry)
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), ERRORS, ids=lambda v: str(v)[:50])
def test_error(call, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call()


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    sentence = "`digits` needs scikit-learn. Install it with `pip install scikit-learn`."
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(sentence)}$"):
        experiments.digits()


@settings(max_examples=60)
@given(
    initializer=st.one_of(st.sampled_from(["zeros", "winit>he_normal"]), anything()),
    activation=st.one_of(st.sampled_from(["relu", "tanh"]), anything()),
    options=st.dictionaries(
        st.sampled_from(["depth", "width", "samples", "seed"]),
        # Larger numbers would need too much memory.
        anything().filter(lambda value: not isinstance(value, int) or value < 100),
    ),
)
def test_any_arguments_of_propagate_are_measured_or_refused(initializer, activation, options):
    options = {"depth": 2, "width": 3, "samples": 4, **options}
    try:
        result = propagate(initializer, activation, **options)
    except (ValueError, TypeError) as error:
        assert_refusal(error)
        return
    assert len(result.layers) == options["depth"]
    # Each output has an entry for each sample and unit, which is counted or not finite.
    for layer in result.layers:
        counted = sum(layer.counts) + layer.nonfinite
        assert counted == options["width"] * options["samples"]
