"""What the monitor looks at and when: steps, layers, and arguments that are wrong."""

import numpy as np
import pytest
from keras import layers
from support.monitored import dense_pair, fit, tiny
from support.scenarios import X, Y

import keras_winit
from keras_winit import ActivationMonitor
from keras_winit.monitor import STATISTICS


def test_the_default_schedule():
    monitor = ActivationMonitor(statistics="mean")
    fit(tiny(), monitor, x=np.tile(X, (7, 1)), y=np.tile(Y, (7, 1)), batch_size=1)
    steps = [sample.step for sample in monitor.history.records]
    assert steps == [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100]


@pytest.mark.parametrize(
    ("every", "steps"), [(3, [0, 3, 6]), (lambda step: step in (1, 6), [1, 6]), (100, [0])]
)
def test_steps_go_on_over_fits_and_resumed_runs(every, steps):
    model, monitor = tiny(), ActivationMonitor(every=every, statistics=["mean"])
    fit(model, monitor)
    fit(model, monitor, epochs=2)
    fit(model, monitor)
    assert [sample.step for sample in monitor.history.records] == steps
    later = ActivationMonitor(every=every, statistics=["mean"])
    fit(model, later)
    assert [sample.step for sample in later.history.records] == [s for s in (8, 9) if s % 3 == 0][
        : every == 3
    ]


@pytest.mark.parametrize(
    ("layers_", "names"),
    [
        (None, ["one.pre", "one", "two.pre", "two"]),
        ("one", ["one.pre", "one"]),
        ("t*", ["two.pre", "two"]),
        (layers.Dense, ["one.pre", "one", "two.pre", "two"]),
        (lambda layer: layer.units == 3, ["two.pre", "two"]),
        (["two", layers.Conv2D], ["two.pre", "two"]),
    ],
)
def test_layers_are_chosen(layers_, names):
    monitor = ActivationMonitor(layers=layers_, statistics="mean")
    fit(dense_pair(), monitor)
    assert list(monitor.history.records[0].layers) == names


def test_a_layer_is_chosen_by_itself():
    model, monitor = dense_pair(), ActivationMonitor(statistics="mean")
    chosen = ActivationMonitor(layers=[model.layers[1]], statistics="mean")
    fit(model, monitor, chosen)
    assert chosen.history.records[0].layers == ("two.pre", "two")


def test_a_choice_of_nothing_is_told_once():
    monitor = ActivationMonitor(layers="conv*")
    with pytest.warns(RuntimeWarning) as told:
        fit(dense_pair(), monitor, epochs=2)
    assert [str(one.message) for one in told if one.category is RuntimeWarning] == [
        "`ActivationMonitor(layers=...)` fits no layer that ran. Received: layers='conv*'. "
        "The model has one, two."
    ]
    assert monitor.history.records[0].variables


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_variables_alone():
    for monitor in (ActivationMonitor(layers=[]), ActivationMonitor(statistics="update_norm")):
        fit(dense_pair(), monitor)
        assert monitor.history.records[0].layers == ()
        assert "update_norm" in monitor.history.records[0].variable_statistics


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"every": 0},
            ValueError,
            "`ActivationMonitor(every=...)` must be an integer >= 1. Received: every=0.",
        ),
        (
            {"every": 1.5},
            TypeError,
            "`ActivationMonitor(every=...)` must be an integer >= 1. Received: every=1.5.",
        ),
        (
            {"samples": 0},
            ValueError,
            "`ActivationMonitor(samples=...)` must be an integer >= 1. Received: samples=0.",
        ),
        (
            {"statistics": ["mean", "median"]},
            ValueError,
            "`ActivationMonitor(statistics=...)` must be names out of "
            f"{', '.join(STATISTICS)}. Received: statistics=['mean', 'median'].",
        ),
        (
            {"statistics": 5},
            TypeError,
            "`ActivationMonitor(statistics=...)` must be names out of "
            f"{', '.join(STATISTICS)}. Received: statistics=5.",
        ),
        (
            {"writers": "a.jsonl"},
            TypeError,
            "`ActivationMonitor(writers=...)` must be a list of writers, such as "
            "`JsonLinesWriter(path)` of `keras_winit.monitor`. Received: "
            "writers='a.jsonl'.",
        ),
        (
            {"writers": ["a.jsonl"]},
            TypeError,
            "`ActivationMonitor(writers=...)` must be a list of writers, such as "
            "`JsonLinesWriter(path)` of `keras_winit.monitor`. Received: "
            "writers=['a.jsonl'].",
        ),
        (
            {"rules": None},
            TypeError,
            "`ActivationMonitor(rules=...)` must be a list of instances of "
            "`keras_winit.monitor.Rule`. Received: rules=None.",
        ),
        ({"log_dir": 5}, TypeError, "`TensorBoardWriter` needs a path. Received: 5."),
        (
            {"layers": 3},
            TypeError,
            "`ActivationMonitor(layers=...)` must be a pattern, a layer or its class, a predicate "
            "or several of them. Received: layers=3.",
        ),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error) as caught:
        ActivationMonitor(**options)
    assert str(caught.value) == message


def test_public_names():
    assert keras_winit.ActivationMonitor is ActivationMonitor


@pytest.mark.parametrize("verbose", ["x", None, -1, 3, 1.5])
def test_verbose_is_one_of_four(verbose):
    with pytest.raises(ValueError, match="verbose") as caught:
        ActivationMonitor(verbose=verbose)
    assert str(caught.value) == (
        "`ActivationMonitor(verbose=...)` must be 'auto', 0, 1 or 2. "
        f"Received: verbose={verbose!r}."
    )


@pytest.mark.parametrize(("steps", "kind"), [(2.5, TypeError), ("a", TypeError), (0, ValueError)])
def test_check_takes_whole_steps(steps, kind):
    with pytest.raises(kind, match="must be an integer >= 1") as caught:
        keras_winit.monitor.check(tiny(), X, Y, steps=steps)
    assert f"steps={steps!r}" in str(caught.value)


def test_writers_are_where_the_readme_has_them(fresh_process):
    code = "import keras_winit; print(keras_winit.monitor.JsonLinesWriter('log.jsonl'))"
    assert "JsonLinesWriter" in fresh_process(code)
