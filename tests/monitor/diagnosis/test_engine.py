"""The engine on planted records: persistence, look-back, rules that fail, root causes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.planted import (
    HEALTHY_VARIABLE,
    NAMES,
    findings_in,
    make_facts,
    make_record,
    make_records,
)

import keras_winit
from keras_winit.monitor import RULES, Rule, View, Violation
from keras_winit.monitor.diagnosis.engine import Diagnosis


@dataclass(frozen=True)
class LargeMaximum(Rule):
    id = "large_maximum"
    cause = "the maximum is large"
    threshold: float = 1.0

    def check(self, view):
        for row in view.outputs:
            if row["max"] > self.threshold:
                yield Violation(row.layer, row["max"], row.order)


def test_custom_rules():
    (finding,) = findings_in(make_records(2), rules=(*RULES, LargeMaximum()))
    assert (finding.rule, finding.layer, finding.value) == ("large_maximum", "a", 2.0)
    assert finding.cause == "the maximum is large"
    assert [other.layer for other in finding.consequences] == ["b", "c", "head"]
    assert findings_in(make_records(2), rules=(LargeMaximum(threshold=2.0),)) == ()


def test_a_rule_that_fails_is_no_longer_applied():
    class Broken(LargeMaximum):
        id = "broken"

        def check(self, view):
            raise KeyError("x")

    with pytest.warns(RuntimeWarning) as caught:
        assert len(findings_in(make_records(3), rules=(Broken(), LargeMaximum()))) == 1
    assert [str(warning.message) for warning in caught] == [
        "The rule 'broken' failed and is no longer applied. Received: KeyError: 'x'"
    ]


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        (
            (LargeMaximum,),
            TypeError,
            "`ActivationMonitor(rules=...)` must be a list of instances of "
            f"`keras_winit.monitor.Rule`. Received: rules=({LargeMaximum!r},).",
        ),
        (
            (LargeMaximum(), LargeMaximum(2.0)),
            ValueError,
            "`ActivationMonitor(rules=...)` must hold rules with different ids. "
            "Received: ids=['large_maximum', 'large_maximum'].",
        ),
    ],
)
def test_invalid_rules(rules, error, message):
    with pytest.raises(error) as caught:
        keras_winit.ActivationMonitor(rules=rules)
    assert str(caught.value) == message


def test_rules_look_back_on_the_first_record_and_the_last_64():
    zero = {"b": {"weight_norm": 0, "update_ratio": np.nan}}
    grown = {name: {"gradient_norm": 11 * HEALTHY_VARIABLE["gradient_norm"]} for name in NAMES}
    records = [
        make_record(variables=zero),
        *make_records(200, 1),
        *make_records(3, 201, variables=grown),
    ]
    diagnosis, facts = Diagnosis(), make_facts()
    for record in records:
        diagnosis(record, facts)
    assert [finding.rule for finding in diagnosis.findings] == ["exploding_backward"]
    assert len(diagnosis.records) == 65
    view = View(diagnosis.records, facts)
    assert [weight.layer for weight in view.weights if weight.started_at_zero] == ["b"]


def test_after_a_non_finite_value_rules_wait_for_resume():
    diagnosis, facts = Diagnosis([*RULES, LargeMaximum()]), make_facts()
    (non_finite, *_) = diagnosis(make_record(0, layers={"b": {"nonfinite": 1}}), facts)
    assert non_finite.rule == "non_finite"
    hits = [finding.hits for finding in diagnosis.findings]
    assert diagnosis(make_record(1, loss=np.nan), facts) == []
    assert [finding.hits for finding in diagnosis.findings] == hits
    diagnosis.resume()
    (non_finite,) = diagnosis(make_record(2, loss=np.nan), facts)
    assert (non_finite.rule, non_finite.layer) == ("non_finite", "loss")


def test_the_first_violation_of_a_name_counts():
    class InputAndLayer(Rule):
        id = "input_and_layer"

        def check(self, view):
            yield Violation("input", 1.0, -1, cause="the data")
            yield Violation("input", 2.0, 0, cause="a layer of the same name")

    (finding,) = findings_in(make_records(1), rules=[InputAndLayer()])
    assert finding.cause == "the data"


def test_consequences_fold_under_their_cause():
    zero_kernel = {"weight_norm": 0, "weight_repeated": 1}
    no_gradient = {"gradient_norm": 0, "gradient_repeated": 1}
    zero_output = {"unit_stddev": 0, "dead_units": 64, "dead_share": 1}
    records = make_records(
        4,
        variables={name: {**zero_kernel, **no_gradient} for name in "abc"},
        layers=dict.fromkeys("abc", zero_output),
    )
    (finding,) = findings_in(records)
    assert (finding.rule, finding.layer) == ("symmetric_units", "a")
    rules = {other.rule for other in finding.consequences}
    assert rules == {"symmetric_units", "vanishing_forward"}


def test_the_input_causes_the_saturation_behind_it():
    saturated = {"a": {"saturated_share": 0.9}, "c": {"saturated_share": 0.9}}
    (finding,) = findings_in(make_records(3, layers=saturated, inputs={"stddev": 300}))
    assert (finding.rule, finding.severity) == ("input_scale", "warning")
    assert [other.layer for other in finding.consequences] == ["a", "c"]


def test_unrelated_causes_stay_separate():
    variables = {"a": {"gradient_norm": 1e-5}, "c": {"update_norm": 1.6}}
    findings = findings_in(make_records(6, variables=variables))
    assert [finding.rule for finding in findings] == ["vanishing_backward", "update_too_large"]


@dataclass(frozen=True)
class Patient(LargeMaximum):
    persistence: int = 3
    asked: int | None = None

    def check(self, view):
        for violation in super().check(view):
            yield replace(violation, persistence=self.asked)


@pytest.mark.parametrize(("asked", "count"), [(None, 1), (2, 1), (4, 0)])
def test_a_single_record_is_enough_unless_it_may_show_chance(asked, count):
    rule = Patient(asked=asked)
    single, usual = Diagnosis([rule], single=True), Diagnosis([rule])
    for diagnosis in (single, usual):
        diagnosis(make_record(), make_facts())
    assert len(single.findings) == count
    assert usual.findings == ()
