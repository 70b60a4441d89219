"""Each rule on planted records: it fires just outside its limit, and is silent just inside."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from support.planted import (
    HEALTHY_VARIABLE,
    NAMES,
    findings_in,
    make_facts,
    make_part,
    make_record,
    make_records,
    rule_named,
)

from keras_winit.models.layers import KernelInfo
from keras_winit.monitor import RULES, View
from keras_winit.monitor.capture.plan import LAYER, VARIABLE
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.rules import losses, setup
from keras_winit.monitor.diagnosis.rules.signal import most_dead

OF_SETUP = (losses.__name__, setup.__name__)
ADVICE = (
    'draw its weights anew: `keras_winit.reinitialize(model, layers="b")`, or set '
    'kernel_initializer="winit>he_normal" in the layer'
)


@dataclass
class Case:
    """The faults planted just outside and just inside a rule's limit, and the expected finding."""

    outside: dict
    cause: str
    remedy: str = ADVICE
    inside: dict = field(default_factory=dict)
    persistence: int = 1
    start: int = 0
    layer: str = "b"
    earlier: int = 0

    def records(self, count, planted):
        """Return the first records of the run, and some from the step at which the rule starts."""
        return make_records(self.earlier, **planted) + make_records(count, self.start, **planted)


def of_layer(**statistics):
    return {"layers": {"b": statistics}}


def of_variable(**statistics):
    return {"variables": {"b": statistics}}


def of_all_variables(**statistics):
    return {"variables": dict.fromkeys(NAMES, statistics)}


CASES = {
    "non_finite": Case(
        of_layer(nonfinite=1),
        "the output of layer 'b' contains a NaN or infinite value, from the first recorded step on",
        rule_named("non_finite").remedy,
    ),
    "constant_units": Case(
        of_variable(weight_repeated=0.3),
        "30% of the units of 'b/kernel' repeat another unit: units with equal weights compute the "
        "same output, and stay equal unless something tells them apart",
        inside=of_variable(weight_repeated=0.29),
    ),
    "symmetric_units": Case(
        of_variable(weight_repeated=0.6, gradient_repeated=0.3),
        "30% of the units of 'b/kernel' repeat another unit, and so do their gradients: nothing "
        "tells the units apart, so they all learn the same, or nothing",
        inside=of_variable(weight_repeated=1.0, gradient_repeated=0.29),
        persistence=3,
        start=1,
    ),
    "input_scale": Case(
        {"inputs": {"stddev": 10.1}},
        "the data of 'input' have mean 0 and standard deviation 10.1; initializers expect about 0 "
        "and 1",
        "scale the data: `x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-7)`, or begin the model "
        "with a Normalization layer",
        {"inputs": {"stddev": 9.9}},
        layer="input",
    ),
    "target_scale": Case(
        {"targets": {"stddev": 30.1}},
        "'target' has mean 0 and standard deviation 30.1, the outputs of layer 'head' 0 and 0.5: "
        "the outputs have to grow far beyond the size that initializers and optimizers expect",
        "standardize the targets with `y = (y - y.mean()) / y.std()`, and undo it in what the "
        "model predicts",
        {"targets": {"stddev": 29.9}},
        layer="target",
    ),
    "wrong_init_for_activation": Case(
        of_variable(weight_norm=64 * (2.8 * 2 / 64) ** 0.5),
        "'b/kernel' has standard deviation 0.296; its fans and activation need 0.125 to 0.177",
        inside=of_variable(weight_norm=64 * (2.6 * 2 / 64) ** 0.5),
    ),
    "vanishing_forward": Case(
        of_layer(unit_stddev=0.0049),
        "between samples, the outputs of layer 'b' vary 0.0098 times as much as those of layer "
        "'a': each layer shrinks the differences between samples until none are left",
        inside=of_layer(unit_stddev=0.0051),
        persistence=2,
    ),
    "exploding_forward": Case(
        of_layer(stddev=25.1),
        "the output of layer 'b' has standard deviation 25.1: each layer makes the signal larger",
        inside=of_layer(stddev=24.9),
    ),
    "vanishing_backward": Case(
        of_variable(gradient_norm=0.9e-4),
        "the gradient of 'b/kernel' has norm 9e-05, 0.0009 times the largest: each layer on the "
        "way back from the loss makes the gradient smaller",
        inside=of_variable(gradient_norm=1.1e-4),
        persistence=3,
    ),
    "exploding_backward": Case(
        of_variable(gradient_norm=101),
        "the gradient of 'b/kernel' has norm 101, 1.01e+03 times the median: each layer on the "
        "way back from the loss makes the gradient larger",
        rule_named("exploding_backward").remedy,
        of_variable(gradient_norm=99),
        persistence=3,
    ),
    "dead_units": Case(
        of_layer(dead_units=51, dead_share=51 / 64),
        "51 of 64 units of layer 'b' are zero on this batch: a unit that is zero for every sample "
        "gets no gradient, and seldom recovers",
        ADVICE + "; if units die again, use a lower learning rate or a leaky activation",
        of_layer(dead_units=50, dead_share=50 / 64),
        persistence=3,
    ),
    "saturated": Case(
        of_layer(saturated_share=0.51),
        "51% of the outputs of layer 'b' lie where the activation is flat and passes hardly any "
        "gradient",
        ADVICE,
        of_layer(saturated_share=0.49),
        persistence=3,
    ),
    "dead_output": Case(
        {"layers": {"head": {"dead_units": 64, "dead_share": 1.0}}},
        "all 64 outputs of layer 'head' are zero for all samples: a rectifier that is off for "
        "every sample passes no gradient, so that nothing learns",
        "use no activation: set activation=\"linear\" in layer 'head' and "
        "`model.compile(model.optimizer, model.loss)`; or, for targets that are never negative: "
        "set activation=\"softplus\" in layer 'head' and "
        "`model.compile(model.optimizer, model.loss)`",
        {"layers": {"head": {"dead_units": 63, "dead_share": 63 / 64}}},
        persistence=2,
        layer="head",
    ),
    "bad_initial_loss": Case(
        {"loss": 12.01},
        "the first loss is 12, 5.2 times the 2.3 of equal guesses: the untrained model is "
        "confident and wrong",
        "start the output layer from zeros: "
        '`keras_winit.reinitialize(model, "winit>zeros", layers="head")`',
        {"loss": 11.99},
        layer="loss",
    ),
    "constant_output": Case(
        {"layers": {"head": {"unit_stddev": 0.0004}}},
        "between samples, the outputs of layer 'head' vary 0.0008 times as much as their size: "
        "nothing that the model computes from a sample reaches its output",
        rule_named("constant_output").remedy,
        {"layers": {"head": {"unit_stddev": 0.0006}}},
        persistence=2,
        start=20,
        layer="head",
    ),
    "update_too_large": Case(
        of_variable(update_norm=1.61),
        "an update of 'b/kernel' has 0.2 times the norm of the kernel itself: one step changes a "
        "large part of the kernel",
        "lower the learning rate: `model.compile(keras.optimizers.Adam(1e-4), model.loss)`",
        of_variable(update_norm=1.59),
        persistence=3,
    ),
    "update_frozen": Case(
        of_variable(update_ratio=0.9e-7),
        "an update of 'b/kernel' has 9e-08 times its norm: the gradient that reaches the layer is "
        "too small",
        "draw dead and saturated layers between it and the loss anew: "
        "`keras_winit.reinitialize(model)`; or, if its gradient is stopped on purpose, freeze it: "
        "set trainable=False in 'b' and `model.compile(model.optimizer.from_config("
        "model.optimizer.get_config()), model.loss)`; to see where the gradient ends: "
        "`print(keras_winit.signal_report(model, x, y))`",
        of_variable(update_ratio=1.1e-7),
        persistence=3,
    ),
    "nothing_learns": Case(
        of_all_variables(update_norm=8 * 2.9e-5),
        "in 50 steps the loss has stayed at 2.3, because every update has at most 2.9e-05 times "
        "the norm of its weight: the learning rate is too low",
        "raise the learning rate, for example with `model.compile(optimizer="
        "keras.optimizers.Adam(1e-3), loss=model.loss)`",
        of_all_variables(update_norm=8 * 3.1e-5),
        start=50,
        layer="loss",
        earlier=6,
    ),
}


def test_every_rule_has_a_case_and_a_predicate():
    # The rules on the setup have their cases in `test_setup_rules.py`.
    planted = [rule.id for rule in RULES if type(rule).__module__ not in OF_SETUP]
    assert list(CASES) == planted
    assert {rule.predicate.partition(" ")[0] for rule in RULES} == {"has", "is"}


@pytest.mark.parametrize("rule_id", CASES)
def test_fires_outside_the_limit_after_as_many_steps_as_required(rule_id):
    case, facts = CASES[rule_id], make_facts(expected_loss=2.3, is_regression=True)
    count, start = case.persistence, case.start
    (finding,) = findings_in(case.records(count, case.outside), facts)
    assert (finding.rule, finding.layer, finding.first_step) == (rule_id, case.layer, start)
    assert (finding.hits, finding.step) == (count, start + count - 1)
    assert (finding.cause, finding.remedy) == (case.cause, case.remedy)
    # The severity of `exploding_backward` is that of its consequences.
    worst = "error" if rule_id == "exploding_backward" else "warning"
    assert finding.severity in (rule_named(rule_id).severity, worst)
    assert findings_in(case.records(count - 1, case.outside), facts) == ()
    assert findings_in(case.records(count, case.inside), facts) == ()


@pytest.mark.parametrize("rule_id", [name for name, case in CASES.items() if case.persistence > 1])
def test_a_healthy_step_resets_the_count(rule_id):
    case = CASES[rule_id]
    last, end = case.start + case.persistence - 1, case.start + 2 * case.persistence
    records = [
        make_record(step, **(case.inside if step == last else case.outside))
        for step in range(case.start, end)
    ]
    assert findings_in(records[:-1]) == ()
    assert findings_in(records)[0].rule == rule_id


def test_a_healthy_run_is_silent():
    assert findings_in(make_records(12), make_facts(expected_loss=2.3)) == ()


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        # The head is zero, a branch ends in zeros, or units repeat on purpose.
        ({"head": {"weight_norm": 0, "weight_repeated": 1}}, {}),
        ({"head": {"weight_repeated": 1, "gradient_repeated": 1}}, {}),
        (
            {"c": {"weight_norm": 0, "weight_repeated": 1}},
            {"c": {"branch": 0, "ends_branch": True}},
        ),
        (
            {"b": {"weight_repeated": 1, "gradient_repeated": 1}},
            {"b": {"kernels": (KernelInfo("b/kernel", 4096, repeats_units=True),)}},
        ),
        # A small kernel in a branch gets updates that would suit a larger kernel.
        ({"b": {"weight_norm": 0.1}}, {"b": {"branch": 0}}),
        ({"b": {"weight_norm": 0.1, "update_norm": 1.59}}, {"b": {"branch": 0}}),
        # A kernel that started at zero gets updates.
        ({"b": {"weight_norm": 0, "update_norm": 1.59}}, {"b": {"branch": 0}}),
        (
            {"b": {"weight_norm": 0, "update_ratio": 5}},
            {"b": {"kernels": (KernelInfo("b/kernel", 4096),)}},
        ),
        # A weight of unknown use gets small updates.
        (
            {"b": {"update_ratio": 1e-9}},
            {"b": {"kernels": (KernelInfo("b/kernel", 4096, "other"),)}},
        ),
    ],
)
def test_deliberate_choices_are_no_findings(variables, parts):
    assert findings_in(make_records(5, variables=variables), make_facts(parts)) == ()


def test_severity_depends_on_the_value_and_on_the_layer():
    dead = of_layer(dead_units=64, dead_share=1.0)
    (finding,) = findings_in(make_records(2, **dead))
    assert (finding.rule, finding.severity) == ("dead_units", "error")
    large = make_records(1, **of_variable(weight_norm=64 * (11 * 2 / 64) ** 0.5))
    assert findings_in(large)[0].severity == "warning"
    assert findings_in(large, make_facts({"b": {"normalized": True}})) == ()
    assert findings_in(large, make_facts({"b": {"branch": 0}}))[0].severity == "warning"
    large_head, small_head = (
        findings_in(make_records(1, variables={"head": {"weight_norm": 64 * (size / 64) ** 0.5}}))
        for size in (22, 1 / 11)
    )
    assert (large_head[0].severity, small_head) == ("warning", ())
    late = findings_in(make_records(3, 31, **of_layer(saturated_share=0.9)))
    assert late[0].severity == "info"


def test_zero_outputs_have_vanished_whatever_the_input():
    zero = {"mean": 0, "stddev": 0, "unit_stddev": 0}
    constant_input = {"unit_stddev": 0}
    zeros = make_records(2, layers={"b": zero, "c": zero}, inputs=constant_input)
    equal_samples = make_records(
        2, layers={name: {"unit_stddev": 0} for name in NAMES}, inputs=constant_input
    )
    rules = [rule_named("vanishing_forward")]
    facts = make_facts({"a": {"takes_raw_input": False}, "b": {"branch": 1}})
    (finding,) = findings_in(zeros, facts, rules)
    assert (finding.layer, finding.cause) == ("b", "all outputs of layer 'b' are zero")
    assert findings_in(equal_samples, facts, rules) == ()


def test_the_first_hidden_layer_is_compared_with_the_input():
    records = make_records(2, layers={"a": {"unit_stddev": 0.004}})
    (finding,) = findings_in(records, rules=[rule_named("vanishing_forward")])
    assert finding.cause.startswith(
        "between samples, the outputs of layer 'a' vary 0.008 times as much as the input: "
    )


def test_the_limit_of_dead_units_depends_on_the_width():
    # The numbers are those of scipy.stats.binom.ppf(.999, n, share).
    assert [most_dead(n, 0.35) for n in (16, 64, 128, 512)] == [12, 34, 62, 213]
    assert [most_dead(n, 0.6) for n in (16, 64, 128, 512)] == [15, 50, 94, 341]
    few = of_layer(dead_units=4, dead_share=0.8)
    assert findings_in(make_records(3, **few)) == ()


def test_the_limit_of_the_first_loss_depends_on_the_number_of_classes():
    # 6 times the loss of equal guesses is 4.2 for 2 classes. For 100 it is 27.6, but no clipped
    # loss exceeds 16.1. For very many classes even equal guesses are no better than 12.
    many = 250_000
    for classes, limit in ((2, 6 * np.log(2)), (100, 12.0), (many, 1.25 * np.log(many))):
        facts = make_facts(expected_loss=float(np.log(classes)))
        assert findings_in(make_records(1, loss=limit - 0.01), facts) == ()
        (finding,) = findings_in(make_records(1, loss=limit + 0.01), facts)
        assert finding.rule == "bad_initial_loss"


def test_an_update_of_half_a_kernel_is_too_large_at_once():
    below, above = (
        findings_in(make_records(1, **of_variable(update_norm=norm))) for norm in (3.99, 4.01)
    )
    assert below == ()
    assert [finding.rule for finding in above] == ["update_too_large"]


def test_an_update_of_a_small_kernel_is_compared_with_a_fitting_norm():
    small = of_variable(weight_norm=0.1, update_norm=1.61)
    (finding,) = findings_in(make_records(3, **small), make_facts({"b": {"branch": 0}}))
    assert finding.cause == (
        "an update of 'b/kernel' has 0.2 times the norm of a kernel of fitting size: one step "
        "changes a large part of the kernel"
    )


def test_no_gradient_vanishes_when_the_loss_is_learned():
    no_gradient = {name: {"gradient_norm": 0.0} for name in NAMES}
    small_gradient = {"a": {"gradient_norm": 1e-5}}

    def ids(first_loss, variables, loss):
        records = make_records(3, 1, variables=variables, loss=loss)
        records.insert(0, make_record(0, loss=first_loss))
        return [finding.rule for finding in findings_in(records)]

    assert ids(2.3, no_gradient, 1.2e-7) == []
    assert ids(1.2e-7, no_gradient, 1.2e-7) == []
    assert ids(2.3, small_gradient, 2.2e-4) == []
    # There is much to learn, or the loss does not tell how much.
    for first_loss, loss in ((2.3, 2.4e-4), (1e-4, 1e-4), (2.3, None), (None, 1e-7), (2.3, -4.0)):
        assert ids(first_loss, small_gradient, loss) == ["vanishing_backward"]
    assert ids(2.3, no_gradient, 2.3) == ["vanishing_backward"]


def test_gradients_that_are_all_zero_are_called_zero():
    no_gradient = {name: {"gradient_norm": 0.0} for name in NAMES}
    (finding,) = findings_in(make_records(3, variables=no_gradient))
    assert finding.cause == "the gradient of 'head/kernel' is zero, like all others"


def test_gradients_that_grow_over_time():
    grown = {name: {"gradient_norm": 11 * HEALTHY_VARIABLE["gradient_norm"]} for name in NAMES}
    records = [*make_records(9), *make_records(3, 9, variables=grown)]
    (finding,) = findings_in(records)
    assert (finding.rule, finding.layer) == ("exploding_backward", "a")
    assert finding.cause == (
        "the gradients have grown to 11 times their median over the last 11 records; that of "
        "'a/kernel' is the largest"
    )


@pytest.mark.parametrize("role", ["kernel", "recurrent", "embedding", "other"])
def test_a_weight_without_updates_is_frozen_whatever_its_role(role):
    facts = make_facts({"b": {"kernels": (KernelInfo("b/kernel", 4096, role),)}})
    no_update = {"update_norm": 0.0, "update_ratio": np.nan}
    (finding,) = findings_in(make_records(3, **of_variable(**no_update)), facts)
    assert (finding.rule, finding.layer) == ("update_frozen", "b")
    assert finding.cause == (
        "'b/kernel' is not updated while others are: no gradient reaches the layer"
    )
    # While gradients are accumulated, or with a learning rate of zero, no weight is updated.
    all_still = make_records(3, variables=dict.fromkeys(NAMES, no_update))
    assert findings_in(all_still, facts) == ()


def test_only_the_loss_is_not_finite():
    (finding,) = findings_in([make_record(0, loss=np.nan)])
    assert (finding.rule, finding.layer) == ("non_finite", "loss")
    assert finding.cause == "the loss is nan, although all layer outputs and weights are finite"
    assert findings_in([make_record(0, loss=None)], make_facts(expected_loss=2.3)) == ()


def test_gradients_may_overflow_while_the_loss_is_scaled():
    overflow = of_variable(gradient_nonfinite=3, gradient_norm=np.inf)
    assert findings_in(make_records(4, **overflow), make_facts(scaled_loss=True)) == ()
    # If other gradients are large as well, it is an overflow even without a loss scale.
    large = {"variables": {"c": {"gradient_norm": 1e30}, **overflow["variables"]}}
    rule = [rule_named("non_finite")]
    (finding,) = findings_in(make_records(1, **large), rules=rule)
    assert (finding.layer, finding.cause) == (
        "b",
        "the gradient of 'b/kernel' contains 3 NaN or infinite values, from the first recorded "
        "step on",
    )


def test_a_weight_that_is_not_finite_is_found_by_its_norm():
    records = make_records(1, **of_variable(weight_norm=np.inf))
    (finding,) = findings_in(records, rules=[rule_named("non_finite")])
    assert (finding.rule, finding.layer) == ("non_finite", "b")
    assert finding.cause == (
        "the norm of the weight 'b/kernel' is inf, from the first recorded step on"
    )


def test_the_first_layer_that_is_not_finite_is_named_with_the_ranges_before_it():
    layers = {"b": {"nonfinite": 2, "max": np.nan}, "c": {"nonfinite": 9}}
    (finding,) = findings_in(make_records(1, layers=layers))
    assert finding.layer == "b"
    assert finding.details == ("range of a: -2 .. 2", "range of b: -2 .. nan")


def test_a_large_update_explains_values_that_are_not_finite():
    records = [
        make_record(0, **of_variable(update_norm=4.8, update_ratio=0.6)),
        make_record(1, **of_layer(nonfinite=1)),
    ]
    (finding,) = findings_in(records, rules=[rule_named("non_finite")])
    assert finding.cause == (
        "the output of layer 'b' contains a NaN or infinite value; at step 0 an update was 0.6 "
        "times as large as its weight"
    )


def test_every_rule_has_texts():
    for rule in RULES:
        texts = (rule.statistic, rule.fires, rule.applies, rule.healthy, rule.cause, rule.remedy)
        assert all(texts), rule.id
        assert rule.origin


def test_weights_come_in_the_order_in_which_their_layers_first_run():
    parts = {name: make_part(name) for name in ("idle", *reversed(NAMES))}
    rows = ("a.pre", "a", "b.pre", "b", "a@2.pre", "a@2", "head")
    record = make_record()
    record = replace(
        record,
        layers=rows,
        values=np.zeros((len(rows), len(LAYER)), "float32"),
        variables=(*record.variables, "idle/kernel"),
        variable_values=np.ones((5, len(VARIABLE)), "float32"),
    )
    weights = View([record], ModelFacts(parts=parts)).weights
    orders = [(weight.layer, weight.order) for weight in weights]
    assert orders[:3] == [("a", 0), ("b", 2), ("head", 6)]
    # Layers without a row come last, in the order of their creation.
    assert [name for name, _ in orders[3:]] == ["idle", "c"]
