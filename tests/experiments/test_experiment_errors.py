"""Errors of the experiments: each sentence in full."""

import re
import sys

import pytest

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
            "Could not interpret initializer identifier: function",
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
