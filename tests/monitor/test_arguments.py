"""Arguments of the monitor: schedules, choices of layers, and the errors of wrong values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support.hostile import anything, assert_refusal
from support.monitored import dense_pair, fit, steps_of, tiny
from support.scenarios import X, Y

import keras_winit
from keras_winit import ActivationMonitor
from keras_winit.monitor import STATISTICS, JsonLinesWriter


def test_the_default_schedule():
    monitor = ActivationMonitor(statistics="mean")
    fit(tiny(), monitor, x=np.tile(X, (7, 1)), y=np.tile(Y, (7, 1)), batch_size=1)
    assert steps_of(monitor) == [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100]


@pytest.mark.parametrize(
    ("every", "steps", "later_steps"),
    [(3, [0, 3, 6], [9]), (lambda step: step in (1, 6), [1, 6], []), (100, [0], [])],
)
def test_steps_count_on_over_fits_and_monitors(every, steps, later_steps):
    model, monitor = tiny(), ActivationMonitor(every=every, statistics=["mean"])
    fit(model, monitor)
    fit(model, monitor, epochs=2)
    fit(model, monitor)
    assert steps_of(monitor) == steps
    later = ActivationMonitor(every=every, statistics=["mean"])
    fit(model, later)
    assert steps_of(later) == later_steps


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (None, ["one.pre", "one", "two.pre", "two"]),
        ("one", ["one.pre", "one"]),
        ("t*", ["two.pre", "two"]),
        (layers.Dense, ["one.pre", "one", "two.pre", "two"]),
        (lambda layer: layer.units == 3, ["two.pre", "two"]),
        (["two", layers.Conv2D], ["two.pre", "two"]),
    ],
)
def test_layers_are_chosen(choice, names):
    monitor = ActivationMonitor(layers=choice, statistics="mean")
    fit(dense_pair(), monitor)
    assert list(monitor.history.records[0].layers) == names


def test_a_layer_is_chosen_by_the_layer_itself():
    model, monitor = dense_pair(), ActivationMonitor(statistics="mean")
    chosen = ActivationMonitor(layers=[model.layers[1]], statistics="mean")
    fit(model, monitor, chosen)
    assert chosen.history.records[0].layers == ("two.pre", "two")


def test_a_choice_that_fits_no_layer_warns_once():
    monitor = ActivationMonitor(layers="conv*")
    with pytest.warns(RuntimeWarning) as caught:
        fit(dense_pair(), monitor, epochs=2)
    assert [str(item.message) for item in caught if item.category is RuntimeWarning] == [
        "`ActivationMonitor(layers=...)` fits no layer that ran. Received: layers='conv*'. "
        "The model has one, two."
    ]
    assert monitor.history.records[0].variables


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_variables_are_recorded_without_layers():
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
            {"statistics": np.array("mean")},
            TypeError,
            "`ActivationMonitor(statistics=...)` must be names out of "
            f"{', '.join(STATISTICS)}. Received: statistics=array('mean', dtype='<U4').",
        ),
        (
            {"writers": [JsonLinesWriter]},
            TypeError,
            "`ActivationMonitor(writers=...)` must be a list of writers, such as "
            "`JsonLinesWriter(path)` of `keras_winit.monitor`. Received: "
            f"writers=[{JsonLinesWriter!r}].",
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


@pytest.mark.parametrize("verbose", ["x", None, -1, 3, 1.5, np.array(1), np.array([1, 2])])
def test_verbose_has_four_values(verbose):
    with pytest.raises(ValueError, match="verbose") as caught:
        ActivationMonitor(verbose=verbose)
    assert str(caught.value) == (
        "`ActivationMonitor(verbose=...)` must be 'auto', 0, 1 or 2. "
        f"Received: verbose={verbose!r}."
    )


@pytest.mark.parametrize("on_finding", ["x", None, np.array("warn"), np.array([1, 2])])
def test_on_finding_has_three_names_or_is_a_function(on_finding):
    with pytest.raises(ValueError, match="on_finding") as caught:
        ActivationMonitor(on_finding=on_finding)
    assert str(caught.value) == (
        "`ActivationMonitor(on_finding=...)` must be 'warn', 'raise', 'stop' or a function. "
        f"Received: on_finding={on_finding!r}."
    )


@pytest.mark.parametrize(("steps", "kind"), [(2.5, TypeError), ("a", TypeError), (0, ValueError)])
def test_check_takes_a_whole_number_of_steps(steps, kind):
    with pytest.raises(kind, match="must be an integer >= 1") as caught:
        keras_winit.monitor.check(tiny(), X, Y, steps=steps)
    assert f"steps={steps!r}" in str(caught.value)


def test_writers_are_attributes_of_the_monitor_package(fresh_process):
    code = "import keras_winit; print(keras_winit.monitor.JsonLinesWriter('log.jsonl'))"
    assert "JsonLinesWriter" in fresh_process(code)


OPTIONS = ("every", "layers", "statistics", "samples", "keep", "writers", "verbose", "on_finding")


@pytest.mark.backend_independent
@settings(max_examples=60)
@given(options=st.dictionaries(st.sampled_from((*OPTIONS, "rules", "log_dir")), anything()))
def test_any_arguments_are_accepted_or_refused_at_construction(options):
    try:
        monitor = ActivationMonitor(**options)
    except (ValueError, TypeError) as error:
        assert_refusal(error)
        return
    assert monitor.every == options.get("every")
