"""A finding becomes a consequence of an earlier one that can cause it."""

import pytest

from keras_winit.monitor import RULES, Finding
from keras_winit.monitor.diagnosis import root_causes
from keras_winit.monitor.diagnosis.root_causes import (
    CAUSES,
    FROM_START,
    TIER_OF,
    WRONG_INIT,
    LocatedFinding,
    fold_consequences,
)

pytestmark = pytest.mark.backend_independent

SETUP = (
    *("nothing_trainable", "learning_rate", "loss_mismatch", "one_unit_softmax", "target_range"),
    *("double_softmax", "no_activation", "high_dropout", "equal_kernels"),
)


def found(rule, step=0, value=1.0, severity="warning", order=0, is_root=False, layer="a"):
    finding = Finding(rule, severity, layer, step + 2, value, 1.0, "", "", "", step, 3)
    return LocatedFinding(finding, order, value, is_root)


def folded(*located):
    """Return the rules of the consequences, by the rule of the root."""
    return {
        finding.rule: [other.rule for other in finding.consequences]
        for finding in fold_consequences(located)
    }


def test_the_tables_hold_every_rule():
    ids = {rule.id for rule in RULES}
    causes = {cause.split(",")[0] for cause in CAUSES}
    assert set(TIER_OF) == ids
    # A loss that stays the same causes no other finding.
    assert causes == ids - {"nothing_learns"}
    assert set(FROM_START) <= ids
    effects = {rule for cause in CAUSES.values() for rule in (*cause.at_once, *cause.later)}
    assert effects <= ids


def test_a_regression_that_diverges_is_told_as_the_rate():
    located = [
        found("update_too_large", 0, 0.7),
        found("dead_units", 1, order=1),
        found("symmetric_units", 2, severity="error", order=1),
    ]
    assert folded(*located) == {"update_too_large": ["dead_units", "symmetric_units"]}


def test_the_size_of_the_inputs_is_no_cause_of_a_rate_that_is_out_of_all_bounds():
    images = found("input_scale", 0, 130.0, "info", -1)
    rate = found("update_too_large", 0, 1e5)
    nan = found("non_finite", 3, severity="error", order=2)
    assert folded(images, rate, nan) == {"update_too_large": ["non_finite"], "input_scale": []}
    # An update grows at most with the square of the inputs.
    for size, ratio, explained in (
        (130.0, 1600.0, True),
        (130.0, 1800.0, False),
        (2.0, 0.5, False),
    ):
        roots = folded(
            found("input_scale", 0, size, "info", -1), found("update_too_large", 0, ratio)
        )
        assert (roots == {"input_scale": ["update_too_large"]}) == explained


def test_the_largest_update_tells_whether_the_inputs_explain_the_rate():
    located = [
        found("input_scale", 0, 50.0, "info", -1),
        found("update_too_large", 0, 0.6, layer="a"),
        found("update_too_large", 0, 1e5, layer="b", order=1),
    ]
    assert folded(*located) == {"update_too_large": ["update_too_large"], "input_scale": []}


def test_a_singular_derivative_is_no_effect_of_an_update_elsewhere_or_of_the_start():
    nan = found("non_finite", 5, severity="error", is_root=True)
    for other in (found("update_too_large", 3, 0.106), found(WRONG_INIT, 0, 20.0)):
        assert folded(nan, other) == {"non_finite": [], other.finding.rule: []}


@pytest.mark.parametrize("effect", ["vanishing_backward", "dead_units", "vanishing_forward"])
def test_a_kernel_of_the_wrong_size_is_the_cause_of_what_it_brings_about(effect):
    located = found(effect, 0, 0.0, "error"), found(WRONG_INIT, 0, 11.0)
    assert folded(*located) == {WRONG_INIT: [effect]}


def test_a_start_is_no_effect_of_what_training_does():
    slight = found(WRONG_INIT, 0, 3.0, "info")
    for rule in ("vanishing_backward", "dead_units", "exploding_forward", "update_too_large"):
        assert folded(slight, found(rule, 0, 0.2, "error", 1)) == {WRONG_INIT: [], rule: []}


def test_slight_deviations_add_up():
    slight = [found(WRONG_INIT, 0, 0.2, "info", i, layer=f"d{i}") for i in range(2)]
    vanishing = found("vanishing_forward", 0, 1e-3, "error", 3)
    assert folded(slight[0], vanishing) == {WRONG_INIT: [], "vanishing_forward": []}
    assert folded(*slight, vanishing) == {WRONG_INIT: [WRONG_INIT, "vanishing_forward"]}
    late = found("vanishing_forward", 5, 1e-3, "error", 3)
    assert folded(*slight, late) == {WRONG_INIT: [WRONG_INIT], "vanishing_forward": []}


def test_kernels_that_are_too_small_make_nothing_larger():
    small, large = found(WRONG_INIT, 0, 0.01), found(WRONG_INIT, 0, 100.0)
    for rule in ("exploding_forward", "update_too_large", "non_finite", "saturated"):
        effect = found(rule, 0, 200.0, "error", 1)
        assert folded(small, effect) == {WRONG_INIT: [], rule: []}
        assert folded(large, effect) == {WRONG_INIT: [rule]}


def test_dead_units_make_no_signal_explode():
    located = found("dead_units", 0, 0.7), found("exploding_forward", 2, 60.0, "error", 3)
    assert len(folded(*located)) == 2


def test_a_consequence_goes_with_its_own_effects():
    located = [
        found("input_scale", 0, 150.0, "info", -1),
        found("update_too_large", 0, 70.0),
        found("dead_units", 2),
        found("update_frozen", 3),
    ]
    effects = ["update_too_large", "dead_units", "update_frozen"]
    assert folded(*located) == {"input_scale": effects}


def test_the_nearest_cause_is_taken_and_an_info_only_without_another():
    offset, large = (
        found("input_scale", 0, 12.0, "info", -1),
        found("constant_units", 0, 1.0, "error"),
    )
    saturated = found("saturated", 0, 0.9, order=2)
    assert folded(offset, large, saturated) == {"constant_units": ["saturated"], "input_scale": []}
    assert folded(offset, saturated) == {"input_scale": ["saturated"]}
    located = [
        found("saturated", 0, 0.9),
        found("update_too_large", 8, 0.6),
        found("exploding_backward", 9, 1e3),
        found("non_finite", 12, severity="error"),
    ]
    effects = ["exploding_backward", "non_finite"]
    assert folded(*located) == {"update_too_large": effects, "saturated": []}


def test_a_signal_runs_forward_and_training_spoils_any_layer():
    def pair(step):
        return found("exploding_forward", 0, 200.0, order=2), found("saturated", step, order=1)

    assert len(folded(*pair(0))) == 2
    assert len(folded(*pair(3))) == 1


@pytest.mark.parametrize(
    ("cause", "step", "effect", "effect_step"),
    [
        ("target_scale", 20, "update_too_large", 0),
        ("target_scale", 0, "exploding_backward", 0),
        ("target_scale", 0, "non_finite", 2),
        ("learning_rate", 0, "update_too_large", 0),
        ("learning_rate", 0, "nothing_learns", 100),
        ("one_unit_softmax", 0, "vanishing_backward", 0),
        ("one_unit_softmax", 0, "bad_initial_loss", 0),
        ("loss_mismatch", 0, "bad_initial_loss", 0),
        ("high_dropout", 0, "dead_units", 0),
        ("nothing_trainable", 0, "nothing_learns", 100),
        ("target_range", 0, "non_finite", 1),
        ("dead_output", 0, "vanishing_backward", 0),
        ("dead_output", 0, "constant_output", 20),
        ("symmetric_units", 0, "constant_output", 20),
        ("update_too_large", 0, "dead_output", 2),
        ("constant_units", 0, WRONG_INIT, 0),
    ],
)
def test_causes_of_the_model_and_of_the_data(cause, step, effect, effect_step):
    located = found(effect, effect_step, 1.0, "error", 1), found(cause, step, 1.0, "error")
    assert folded(*located) == {cause: [effect]}


@pytest.mark.parametrize(
    ("cause", "effect"),
    [
        ("no_activation", "dead_units"),
        ("update_too_large", "dead_units"),
        ("dead_units", "update_too_large"),
        ("constant_output", "dead_units"),
        ("vanishing_backward", "exploding_backward"),
        ("equal_kernels", "non_finite"),
    ],
)
def test_what_cannot_be_a_cause_at_the_same_step(cause, effect):
    assert effect in folded(found(cause), found(effect, order=1))


def test_a_root_has_the_worst_severity_of_what_it_explains():
    located = found("input_scale", 0, 300.0, "info", -1), found("saturated", 0, 0.9, "warning")
    (finding,) = fold_consequences(located)
    assert (finding.rule, finding.severity) == ("input_scale", "warning")


def test_the_work_grows_with_the_number_of_findings_not_with_its_square(monkeypatch):
    rules = ("saturated", "dead_units", "wrong_init_for_activation", "update_too_large")
    looked_at = []
    can_cause = root_causes._can_cause

    def counting(cause, effect):
        looked_at.append(effect)
        return can_cause(cause, effect)

    monkeypatch.setattr(root_causes, "_can_cause", counting)
    counts = []
    for layers in (100, 200):
        looked_at.clear()
        fold_consequences(
            [
                found(rule, order % 3, 20.0, order=order, layer=f"d{order}")
                for order in range(layers)
                for rule in rules
            ]
        )
        counts.append(len(looked_at))
    assert 0 < counts[1] <= 2.2 * counts[0]
