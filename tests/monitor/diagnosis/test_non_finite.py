"""The rule `non_finite` blames the data, an update, or a function at a singular point."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.planted import findings_in, make_facts, make_part, make_record, make_records

import keras_winit
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.rules.non_finite import (
    SINGULAR_DERIVATIVE,
    SINGULAR_LOSS,
    SINGULAR_VALUE,
    SMALLER_UPDATES,
)
from keras_winit.monitor.diagnosis.rules.remedies import clean_data

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 8)).astype("float32")
NAN_GRADIENT = {"gradient_nonfinite": 5, "gradient_norm": np.nan}
LARGE_UPDATE = {"a": {"update_norm": 80.0, "update_ratio": 10.0}}
# This update is below the limit from which an update is reported at once.
MILD_UPDATE = {"c": {"update_norm": 0.85, "update_ratio": 0.106}}


def non_finite(records, facts=None):
    (finding,) = (one for one in findings_in(records, facts) if one.rule == "non_finite")
    return finding


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", ["input", "target"])
def test_missing_values_in_the_data_come_first_whatever_came_before(name):
    before = make_records(4, variables=LARGE_UPDATE)
    data = {f"{name}s": {"nonfinite": 3}}
    now = make_record(4, loss=np.nan, layers={"a": {"nonfinite": 9, "max": np.nan}}, **data)
    finding = non_finite([*before, now])
    assert (finding.layer, finding.remedy) == (name, clean_data(name))
    assert finding.cause == f"the data of {name!r} contain 3 NaN or infinite values"
    assert {(other.rule, other.layer) for other in finding.consequences} == {("non_finite", "a")}


@pytest.mark.backend_independent
def test_missing_values_in_inputs_and_targets_are_two_findings():
    record = make_record(0, inputs={"nonfinite": 1}, targets={"nonfinite": 1})
    assert [finding.layer for finding in findings_in([record])] == ["input", "target"]


@pytest.mark.backend_independent
def test_a_singular_derivative_lies_after_the_last_gradient_that_is_not_finite():
    variables = {**MILD_UPDATE, "a": NAN_GRADIENT, "b": NAN_GRADIENT}
    records = [*make_records(4, variables=MILD_UPDATE), make_record(4, variables=variables)]
    finding = non_finite(records)
    assert (finding.layer, finding.remedy) == ("b", SINGULAR_DERIVATIVE)
    assert finding.cause == (
        "the gradient of 'b/kernel' contains 5 NaN or infinite values, although all outputs, "
        "weights and the loss are finite: a derivative at a singular point between layer 'b' and "
        "layer 'c', such as that of a square root, a norm or a standard deviation at zero"
    )


@pytest.mark.backend_independent
def test_layers_between_are_named_and_so_is_the_loss():
    parts = {name: make_part(name) for name in ("a", "head")}
    facts = ModelFacts(parts={**parts, "b": make_part("b", kernels=())})
    record = make_record(0, variables={"a": NAN_GRADIENT})
    assert (
        "between layer 'a' and layer 'head' ('b', 'c'), such" in non_finite([record], facts).cause
    )
    record = make_record(0, variables=dict.fromkeys(("a", "head"), NAN_GRADIENT))
    assert "between layer 'head' and the loss, such" in non_finite([record]).cause


@pytest.mark.backend_independent
def test_gradients_that_overflow_have_no_singular_point():
    large = {"b": {"gradient_norm": 1e30}, "a": {"gradient_nonfinite": 5, "gradient_norm": np.inf}}
    finding = non_finite([make_record(0, variables=large)])
    assert "singular" not in finding.cause
    assert finding.remedy.startswith("start anew with smaller weights")


@pytest.mark.backend_independent
def test_a_layer_that_makes_nan_of_moderate_values_computes_something_singular():
    facts = make_facts({"b": {"kernels": ()}})
    finding = non_finite([make_record(0, layers={"b": {"nonfinite": 2, "max": np.nan}})], facts)
    assert (finding.layer, finding.remedy) == ("b", SINGULAR_VALUE)
    assert finding.cause == (
        "the output of layer 'b' contains 2 NaN or infinite values, although all values before it "
        "are finite and moderate"
    )
    # No singular point is blamed after values that are nearly too large, or if there is a kernel.
    layers = {"a": {"max": 1e20}, "b": {"nonfinite": 2, "max": np.nan}}
    assert non_finite([make_record(0, layers=layers)], facts).remedy != SINGULAR_VALUE
    assert non_finite([make_record(0, layers={"b": {"nonfinite": 2}})]).remedy != SINGULAR_VALUE


@pytest.mark.backend_independent
def test_the_loss_alone():
    finding = non_finite([make_record(0, loss=np.inf)])
    assert (finding.layer, finding.remedy) == ("loss", SINGULAR_LOSS)
    finding = non_finite([make_record(0, loss=np.inf, layers={"head": {"max": 1e25}})])
    assert finding.remedy != SINGULAR_LOSS


@pytest.mark.backend_independent
def test_after_an_update_that_was_too_large_the_rate_is_the_remedy():
    records = [
        make_record(0, variables=LARGE_UPDATE),
        make_record(1, layers={"b": {"nonfinite": 1}}),
    ]
    (finding,) = findings_in(records)
    assert finding.rule == "update_too_large"
    (consequence,) = (one for one in finding.consequences if one.rule == "non_finite")
    assert consequence.remedy == SMALLER_UPDATES


class UnitLength(layers.Layer):
    """Divides by a norm without an epsilon, and hides the zeros of empty rows."""

    def call(self, x):
        norm = ops.sqrt(ops.sum(x**2, axis=-1, keepdims=True))
        return ops.where(norm > 0, x / norm, 0.0)


def test_a_norm_at_zero_in_real_training():
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(8, use_bias=False, name="first")
    stack = [hidden, UnitLength(name="unit"), layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((8,)), *stack])
    model.compile("sgd", "mse")
    x = X.copy()
    x[0] = 0
    finding = keras_winit.monitor.check(model, x, X[:, :1])[0]
    assert (finding.rule, finding.layer, finding.step) == ("non_finite", "first", 0)
    assert "a singular point between layer 'first' and layer 'last' ('unit'), such" in finding.cause
    assert finding.remedy == SINGULAR_DERIVATIVE


def test_a_target_that_is_missing_in_real_training():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    model.compile("adam", "mse")
    y = X[:, :1].copy()
    y[3] = np.nan
    finding = keras_winit.monitor.check(model, X, y)[0]
    assert (finding.rule, finding.layer) == ("non_finite", "target")
    assert finding.cause == "the data of 'target' contain a NaN or infinite value"
