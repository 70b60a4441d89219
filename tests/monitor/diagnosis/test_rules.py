"""Each rule on planted samples: it fires, is silent just inside, and persists."""

from dataclasses import replace

import numpy as np
import pytest
from support.planted import FINE, NAMES, found, model, part, rule, run, sample

from keras_winit.models.layers import KernelInfo
from keras_winit.monitor import RULES, Offence, Rule, View
from keras_winit.monitor.capture.plan import LAYER, VARIABLE
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.rules import Model
from keras_winit.monitor.diagnosis.rules.signal import most_dead

ALL = dict.fromkeys(NAMES)
# By rule: what is planted, just outside; the same just inside; steps needed; first step; layer.
CASES = {
    "non_finite": ({"layers": {"b": {"nonfinite": 1}}}, {}, 1, 0, "b"),
    "constant_units": (
        {"variables": {"b": {"weight_repeated": 0.3}}},
        {"variables": {"b": {"weight_repeated": 0.29}}},
        1,
        0,
        "b",
    ),
    "symmetric_units": (
        {"variables": {"b": {"weight_repeated": 0.6, "gradient_repeated": 0.3}}},
        {"variables": {"b": {"weight_repeated": 1.0, "gradient_repeated": 0.29}}},
        3,
        1,
        "b",
    ),
    "input_scale": ({"fed": {"stddev": 10.1}}, {"fed": {"stddev": 9.9}}, 1, 0, "input"),
    "wrong_init_for_activation": (
        {"variables": {"b": {"weight_norm": 64 * (2.8 * 2 / 64) ** 0.5}}},
        {"variables": {"b": {"weight_norm": 64 * (2.6 * 2 / 64) ** 0.5}}},
        1,
        0,
        "b",
    ),
    "vanishing_forward": (
        {"layers": {"b": {"unit_stddev": 0.0049}}},
        {"layers": {"b": {"unit_stddev": 0.0051}}},
        2,
        0,
        "b",
    ),
    "exploding_forward": (
        {"layers": {"b": {"stddev": 25.1}}},
        {"layers": {"b": {"stddev": 24.9}}},
        1,
        0,
        "b",
    ),
    "vanishing_backward": (
        {"variables": {"b": {"gradient_norm": 0.9e-4}}},
        {"variables": {"b": {"gradient_norm": 1.1e-4}}},
        3,
        0,
        "b",
    ),
    "exploding_backward": (
        {"variables": {"b": {"gradient_norm": 101}}},
        {"variables": {"b": {"gradient_norm": 99}}},
        3,
        0,
        "b",
    ),
    "dead_units": (
        {"layers": {"b": {"dead_units": 35, "dead_share": 35 / 64}}},
        {"layers": {"b": {"dead_units": 34, "dead_share": 34 / 64}}},
        3,
        0,
        "b",
    ),
    "saturated": (
        {"layers": {"b": {"saturated_share": 0.51}}},
        {"layers": {"b": {"saturated_share": 0.49}}},
        3,
        0,
        "b",
    ),
    "bad_initial_loss": ({"loss": 12.01}, {"loss": 11.99}, 1, 0, "loss"),
    "update_too_large": (
        {"variables": {"b": {"update_norm": 0.81}}},
        {"variables": {"b": {"update_norm": 0.79}}},
        3,
        0,
        "b",
    ),
    "update_frozen": (
        {"variables": {"b": {"update_ratio": 0.9e-7}}},
        {"variables": {"b": {"update_ratio": 1.1e-7}}},
        3,
        0,
        "b",
    ),
}


def test_every_rule_has_a_case():
    assert list(CASES) == [one.id for one in RULES]


@pytest.mark.parametrize("name", CASES)
def test_fires_just_outside_after_so_many_steps_and_not_inside(name):
    bad, good, needed, start, layer = CASES[name]
    known = model(expected_loss=2.3)
    (finding,) = found(run(needed, start, **bad), known)
    assert (finding.rule, finding.layer, finding.first_step) == (name, layer, start)
    assert (finding.hits, finding.step) == (needed, start + needed - 1)
    worse = "error" if name == "exploding_backward" else "warning"  # By what it explains.
    assert finding.severity in (rule(name).severity, worse)
    assert finding.cause
    assert finding.remedy
    assert found(run(needed - 1, start, **bad), known) == ()
    assert found(run(needed, start, **good), known) == ()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] > 1])
def test_a_pause_starts_the_count_anew(name):
    bad, good, needed, start, _ = CASES[name]
    steps = range(start, start + 2 * needed)
    pause = [
        sample(step, **(good if place == needed - 1 else bad)) for place, step in enumerate(steps)
    ]
    assert found(pause[: 2 * needed - 1]) == ()
    assert found(pause)[0].rule == name


def test_a_healthy_run_is_silent():
    assert found(run(12), model(expected_loss=2.3)) == ()
    assert str(found(run(12))) == "nothing was found"


@pytest.mark.parametrize(
    ("planted", "parts"),
    [
        # A zero head, a zero end of a branch, and what repeats on purpose.
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
        # Small on purpose, within a branch; updates as they would be of a larger kernel.
        ({"b": {"weight_norm": 0.1}}, {"b": {"branch": 0}}),
        ({"b": {"weight_norm": 0.1, "update_norm": 0.79}}, {"b": {"branch": 0}}),
        # Updates of what started at zero.
        ({"b": {"weight_norm": 0, "update_norm": 0.79}}, {"b": {"branch": 0}}),
        (
            {"b": {"weight_norm": 0, "update_ratio": 5}},
            {"b": {"kernels": (KernelInfo("b/kernel", 4096),)}},
        ),
        # Of a weight of unknown use only no update at all is too little.
        (
            {"b": {"update_ratio": 1e-9}},
            {"b": {"kernels": (KernelInfo("b/kernel", 4096, "other"),)}},
        ),
    ],
)
def test_rules_know_what_is_meant(planted, parts):
    assert found(run(5, variables=planted), model(parts)) == ()


def test_severity_grows():
    dead = {"layers": {"b": {"dead_units": 64, "dead_share": 1.0}}}
    (finding,) = found(run(2, **dead))
    assert (finding.rule, finding.severity) == ("dead_units", "error")
    far = {"variables": {"b": {"weight_norm": 64 * (11 * 2 / 64) ** 0.5}}}
    assert found(run(1, **far))[0].severity == "warning"
    assert found(run(1, **far), model({"b": {"normalized": True}}))[0].severity == "info"
    assert found(run(1, **far), model({"b": {"branch": 0}}))[0].severity == "warning"
    norms = [64 * (size / 64) ** 0.5 for size in (22, 1 / 11)]
    heads = [found(run(1, variables={"head": {"weight_norm": norm}})) for norm in norms]
    assert [head[0].severity for head in heads] == ["warning", "info"]
    # 3 of the steps from 30 on.
    late = found(run(3, 31, layers={"b": {"saturated_share": 0.9}}))
    assert late[0].severity == "info"


@pytest.mark.parametrize(("samples", "names"), [(8, []), (9, ["dead_units"])])
def test_of_few_samples_a_unit_may_be_zero_by_chance(samples, names):
    dead = {"b": {"dead_units": 40, "dead_share": 40 / 64}}
    steps = [replace(one, unit_samples=np.full(4, samples)) for one in run(3, layers=dead)]
    assert [finding.rule for finding in found(steps)] == names


def test_zeros_have_vanished_whatever_came_in():
    zero = {"mean": 0, "stddev": 0, "unit_stddev": 0}
    steps = run(2, layers={"b": zero, "c": zero}, fed={"unit_stddev": 0})
    constant = run(2, layers={n: {"unit_stddev": 0} for n in NAMES}, fed={"unit_stddev": 0})
    only = [rule("vanishing_forward")]
    apart = model({"a": {"takes_raw_input": False}, "b": {"branch": 1}})
    assert [finding.layer for finding in found(steps, apart, only)] == ["b"]
    assert found(constant, apart, only) == ()


def test_rules_look_back_however_few_samples_are_kept():
    zero = {"b": {"weight_norm": 0, "update_ratio": np.nan}}
    grown = {n: {"gradient_norm": 11 * FINE["gradient_norm"]} for n in NAMES}
    steps = [sample(variables=zero), *run(200, 1), *run(3, 201, variables=grown)]
    diagnosis, known = Diagnosis(keep=1), model()
    for one in steps:
        diagnosis(one, known)
    assert [finding.rule for finding in diagnosis.findings] == ["exploding_backward"]
    assert len(diagnosis.records) == 65
    view = View(diagnosis.records, known)
    assert [weight.layer for weight in view.weights if weight.started_at_zero] == ["b"]


def test_bounds_of_dead_units_by_width():
    # Of the binomial distribution with share .35, by scipy.stats.binom.ppf(.999, n, .35).
    assert [most_dead(n, 0.35) for n in (16, 64, 128, 512)] == [12, 34, 62, 213]
    few = {"dead_units": 4, "dead_share": 0.8}
    assert found(run(3, layers={"b": few})) == ()


def test_most_of_a_loss_of_probabilities_by_the_number_of_classes():
    # Six guesses of 2 are 4.2; of 100 they are 27.6, but no clipped loss is above 16.1.
    # Of very many classes a guess is itself no better than 12.
    many = 250_000
    for classes, limit in ((2, 6 * np.log(2)), (100, 12.0), (many, 1.25 * np.log(many))):
        known = model(expected_loss=float(np.log(classes)))
        assert found(run(1, loss=limit - 0.01), known) == ()
        assert found(run(1, loss=limit + 0.01), known)[0].rule == "bad_initial_loss"


def test_an_update_of_half_a_kernel_is_too_large_at_once():
    half = [run(1, variables={"b": {"update_norm": norm}}) for norm in (3.99, 4.01)]
    assert [len(found(samples)) for samples in half] == [0, 1]
    assert found(half[1])[0].rule == "update_too_large"


def test_nothing_vanishes_where_all_has_been_learned():
    still = {name: {"gradient_norm": 0.0} for name in NAMES}
    one_less = {"a": {"gradient_norm": 1e-5}}

    def rules(first, variables, **options):
        samples = [sample(0, loss=first), *run(3, 1, variables=variables, **options)]
        return [finding.rule for finding in found(samples)]

    assert rules(2.3, still, loss=1.2e-7) == []
    assert rules(1.2e-7, still, loss=1.2e-7) == []
    assert rules(2.3, one_less, loss=2.2e-4) == []
    # Much is left, or nobody knows.
    for first, loss in ((2.3, 2.4e-4), (1e-4, 1e-4), (2.3, None), (None, 1e-7), (2.3, -4.0)):
        assert rules(first, one_less, loss=loss) == ["vanishing_backward"]
    assert rules(2.3, still, loss=2.3) == ["vanishing_backward"]


def test_what_moves_a_kernel_too_little_is_not_called_no_gradient():
    causes = [
        found(run(3, variables={"b": {"update_norm": norm, "update_ratio": ratio}}))[0].cause
        for norm, ratio in ((0.0, np.nan), (1e-8, 1e-9))
    ]
    assert causes == [
        "no gradient reaches the layer",
        "what reaches the layer is too little to move it",
    ]


def test_a_layer_that_is_called_as_the_data_are():
    class Both(Rule):
        id = "both"

        def check(self, view):
            yield Offence("input", 1.0, -1, cause="the data")
            yield Offence("input", 2.0, 0, cause="the layer")

    (finding,) = found(run(1), rules=[Both()])
    assert finding.cause == "the data"


@pytest.mark.parametrize("role", ["kernel", "recurrent", "embedding", "other"])
def test_any_weight_that_does_not_move_is_frozen(role):
    known = model({"b": {"kernels": (KernelInfo("b/kernel", 4096, role),)}})
    still = {"variables": {"b": {"update_norm": 0.0, "update_ratio": np.nan}}}
    (finding,) = found(run(3, **still), known)
    assert (finding.rule, finding.layer) == ("update_frozen", "b")
    # Not while gradients are gathered, or with a rate of zero.
    assert found(run(3, variables=dict.fromkeys(NAMES, still["variables"]["b"])), known) == ()


def test_a_loss_that_is_no_number_from_the_start():
    (finding,) = found([sample(0, loss=np.nan)])
    assert (finding.rule, finding.layer) == ("non_finite", "loss")
    assert found([sample(0, loss=None)], model(expected_loss=2.3)) == ()


def test_gradients_that_overflow_under_a_scaled_loss_are_usual():
    bad = {"variables": {"b": {"gradient_nonfinite": 3, "gradient_norm": np.inf}}}
    assert found(run(4, **bad), model(scaled_loss=True)) == ()
    assert found(run(1, **bad))[0].layer == "b"


def test_not_finite_names_the_first_layer_and_the_ranges_before_it():
    bad = {"b": {"nonfinite": 2, "max": np.nan}, "c": {"nonfinite": 9}}
    (finding,) = found(run(1, layers=bad))
    assert finding.layer == "b"
    assert finding.details == ("a -2 .. 2", "b -2 .. nan")


def test_consequences_fold_under_their_cause():
    worse = {
        "variables": {
            **{
                n: {
                    "weight_norm": 0,
                    "weight_repeated": 1,
                    "gradient_repeated": 1,
                    "gradient_norm": 0,
                }
                for n in "abc"
            },
        },
        "layers": {n: {"unit_stddev": 0, "dead_units": 64, "dead_share": 1} for n in "abc"},
    }
    (finding,) = found(run(4, **worse))
    assert (finding.rule, finding.layer) == ("symmetric_units", "a")
    rules = [one.rule for one in finding.consequences]
    assert {"symmetric_units", "vanishing_forward"} == set(rules)


def test_the_input_comes_before_what_it_saturates():
    layers = {"a": {"saturated_share": 0.9}, "c": {"saturated_share": 0.9}}
    (finding,) = found(run(3, layers=layers, fed={"stddev": 300}))
    assert (finding.rule, finding.severity) == ("input_scale", "warning")
    assert [one.layer for one in finding.consequences] == ["a", "c"]


def test_causes_apart_stay_apart():
    variables = {"a": {"gradient_norm": 1e-5}, "c": {"update_norm": 1.6}}
    both = found(run(6, variables=variables))
    assert [finding.rule for finding in both] == ["vanishing_backward", "update_too_large"]


def test_every_rule_says_what_it_is():
    for one in RULES:
        texts = (one.statistic, one.fires, one.applies, one.healthy, one.cause, one.remedy)
        assert all(texts), one.id
        assert one.origin


def test_kernels_come_in_the_order_in_which_their_layers_first_run():
    parts = {name: part(name) for name in ("idle", *reversed(NAMES))}
    ran = ("a.pre", "a", "b.pre", "b", "a@2.pre", "a@2", "head")
    one = sample()
    one = replace(
        one,
        layers=ran,
        values=np.zeros((len(ran), len(LAYER)), "float32"),
        variables=(*one.variables, "idle/kernel"),
        variable_values=np.ones((5, len(VARIABLE)), "float32"),
    )
    weights = View([one], Model(parts=parts)).weights
    orders = [(weight.layer, weight.order) for weight in weights]
    assert orders[:3] == [("a", 0), ("b", 2), ("head", 6)]
    # What has no row comes last, as it was made.
    assert [name for name, _ in orders[3:]] == ["idle", "c"]
