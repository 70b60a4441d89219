"""The remedy that each rule prints is code that runs, and removes the finding."""

import itertools

import keras
import pytest
from support.faulty_models import CASES
from support.printed_code import alternatives, run_code

from keras_winit.monitor import RULES, check

STEPS = {"nothing_learns": 51, "constant_output": 24}


def flat(findings):
    return [one for finding in findings for one in (finding, *finding.consequences)]


@pytest.mark.backend_independent
def test_every_rule_has_a_case():
    assert set(CASES) == {rule.id for rule in RULES}


@pytest.mark.backend_independent
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_general_remedy_is_code(rule):
    if rule.id != "high_dropout":
        codes = alternatives(rule.remedy)
        assert codes
        for code in itertools.chain(*codes):
            compile(code, rule.id, "exec")


@pytest.mark.backend_independent
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule_id", CASES)
def test_the_printed_remedy_removes_the_finding(rule_id):
    build, x, y = CASES[rule_id]
    rules = [rule for rule in RULES if rule.id == rule_id]

    def found(model, x, y):
        return flat(check(model, x, y, steps=STEPS.get(rule_id, 4), rules=rules))

    def start():
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        return build()

    findings = found(start(), x, y)
    assert findings
    for number in range(len(alternatives(findings[0].remedy))):
        scope = {"model": start(), "x": x, "y": y}
        # Each finding has the remedy of its layer.
        for finding in findings:
            codes = alternatives(finding.remedy)[number]
            scope = run_code(codes, scope["model"], scope["x"], scope["y"])
        assert found(scope["model"], scope["x"], scope["y"]) == [], codes
