"""Rules whose limits depend on the batch, on several records, on the data or on the loss."""

import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
from support.planted import NAMES, findings_in, make_facts, make_record, make_records, rule_named

from keras_winit.models.layers import KernelInfo
from keras_winit.models.losses import is_regression
from keras_winit.models.setup import ModelSetup
from keras_winit.monitor.diagnosis.findings import describe_consequences
from keras_winit.monitor.diagnosis.rules.signal import records_needed

pytestmark = pytest.mark.backend_independent

GUESSING = {"expected_loss": 2.3}
REGRESSION = {"is_regression": True}


def rules_in(records, facts=None, rule=None):
    found = findings_in(records, facts, [rule_named(rule)] if rule else [])
    return [(finding.rule, finding.severity) for finding in found]


# Inputs


def input_records(*batches):
    """Return records of batches that are given as arrays."""
    return [
        make_record(
            step,
            inputs={
                **{"mean": np.mean(batch), "stddev": np.std(batch)},
                **{"min": np.min(batch), "max": np.max(batch)},
            },
        )
        for step, batch in enumerate(batches)
    ]


@pytest.mark.parametrize(
    "batches",
    [
        # Bright images, dark ones with few strokes, and images in -1 .. 1.
        [np.clip(np.random.default_rng(0).normal(0.95, 0.05, (8, 64)), 0, 1)] * 5,
        [np.array([0.0] * 4 + [0.2] * 60)] * 5,
        [np.full((8, 64), 1.0)] * 5,
        [np.random.default_rng(0).uniform(-1, -0.8, (8, 64))] * 5,
    ],
)
def test_images_in_the_unit_interval_are_no_fault(batches):
    assert rules_in(input_records(*batches), rule="input_scale") == []


@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_sorted_rows_of_standardized_data_are_no_fault(size, law):
    data = (
        np.linspace(-1, 1, 1000) if law == "uniform" else np.random.default_rng(0).normal(size=1000)
    )
    data = np.sort((data - data.mean()) / data.std())
    batches = [data[start : start + size] for start in range(0, 1000, size)]
    for chosen in (batches, batches[::-1], batches[:5], batches[-5:], batches[-1:]):
        assert rules_in(input_records(*chosen), rule="input_scale") == []


@pytest.mark.parametrize(
    ("batch", "severity"),
    [
        ([9.9], None),
        ([-10.1], "info"),
        ([29.0], "info"),
        ([31.0], "warning"),
        ([2000.0], "warning"),
    ],
)
def test_a_batch_of_one_sample_has_a_size(batch, severity):
    expected = [("input_scale", severity)] if severity else []
    assert rules_in(input_records(np.array(batch)), rule="input_scale") == expected


@pytest.mark.parametrize(
    ("peak", "severity"), [(0.11, None), (0.09, "info"), (0.03, "warning"), (0.0, "warning")]
)
def test_tiny_inputs_are_named_after_three_records(peak, severity):
    batch = np.linspace(-peak, peak / 2, 64)
    assert rules_in(input_records(batch, batch), rule="input_scale") == []
    expected = [("input_scale", severity)] if severity else []
    assert rules_in(input_records(batch, batch, batch), rule="input_scale") == expected


def test_large_inputs_are_named_without_their_extremes():
    (record,) = input_records(np.array([0.0, 700.0, 1400.0, 2100.0]))
    kept = [name not in ("min", "max") for name in record.statistics]
    record = replace(
        record,
        statistics=tuple(itertools.compress(record.statistics, kept)),
        values=record.values[:, kept],
        input_values=record.input_values[:, kept],
        target_values=record.target_values[:, kept],
    )
    assert rules_in([record], rule="input_scale") == [("input_scale", "warning")]


def test_inputs_that_are_small_in_one_batch_only_are_no_fault():
    batches = [np.full(8, 0.5), *[np.full(8, 0.001)] * 4]
    assert rules_in(input_records(*batches), rule="input_scale") == []


def test_differences_between_batches_count():
    batches = [np.full(8, -12.0), np.full(8, 12.0)]
    (finding,) = findings_in(input_records(*batches), rules=[rule_named("input_scale")])
    assert finding.value == pytest.approx(12)
    assert "mean 0 and standard deviation 12" in finding.cause


def test_inputs_that_are_normalized_first_have_no_scale():
    facts = make_facts({"a": {"takes_raw_input": False}})
    assert rules_in(input_records(np.full(8, 700.5)), facts, "input_scale") == []


def test_large_inputs_come_before_the_kernels():
    records = input_records(700 * np.random.default_rng(0).normal(size=(32, 8)))
    norms = {"b": {"weight_norm": 64 * (2.8 * 2 / 64) ** 0.5}}
    (record,) = (
        replace(one, variable_values=make_record(variables=norms).variable_values)
        for one in records
    )
    found = findings_in([record])
    assert (found[0].rule, found[0].severity) == ("input_scale", "warning")
    assert found[0].value == pytest.approx(700, rel=0.2)


def test_an_offset_must_be_there_in_three_records():
    batch = np.random.default_rng(0).normal(8, 0.5, 64)
    assert rules_in(input_records(batch, batch), rule="input_scale") == []
    assert rules_in(input_records(batch, batch, batch), rule="input_scale") == [
        ("input_scale", "info")
    ]


def test_indices_that_an_embedding_looks_up_have_no_scale():
    words = input_records(np.array([0.0, 7.0, 1999.0]))
    table = {"kernels": (KernelInfo("a/embeddings", 64, "embedding"),)}
    assert rules_in(words, make_facts({"a": table}), "input_scale") == []
    # A second branch takes numbers; only the values show which input feeds it.
    both = make_facts({"a": table, "b": {"takes_raw_input": True}})
    assert rules_in(words, both, "input_scale") == []
    numbers = input_records(np.array([0.5, 7.0, 1999.0]))
    assert rules_in(numbers, both, "input_scale") == [("input_scale", "warning")]


# Dead units


def dead_records(count, share, samples, units=256, positions=1):
    """Return records of a layer 'b' with a share of dead units, before a head without positions."""
    layers = {"b": {"dead_units": round(share * units), "dead_share": share}}
    entries = (samples * positions, samples * positions, samples, samples)
    return make_records(count, layers=layers, samples=entries)


@pytest.mark.parametrize(
    ("share", "samples", "units", "positions"),
    [
        # These shares occur in healthy models behind global pooling and layer normalization.
        (0.58, 64, 256, 1),
        (0.58, 32, 256, 1),
        (0.70, 32, 128, 1),
        (0.70, 256, 128, 1),
        # A unit that is active for 10 % of samples is off for all of 8 with probability .43.
        (0.80, 8, 256, 1),
        # The positions of 8 samples are not independent.
        (0.80, 8, 256, 1024),
    ],
)
def test_units_may_be_off_for_a_small_batch_by_chance(share, samples, units, positions):
    records = dead_records(20, share, samples, units, positions)
    assert rules_in(records, rule="dead_units") == []


@pytest.mark.parametrize(
    ("share", "samples", "severity", "persistence"),
    [
        # The 99.9 % quantile of Binomial(256, .6) is 177 units, a share of .691.
        (0.70, 1024, "warning", 3),
        (0.95, 8, "warning", 3),
        (1.0, 8, "error", 2),
        # For a single sample, the probability is .96 ** 256 = 3e-5.
        (1.0, 1, "error", 2),
    ],
)
def test_dead_units_are_found_in_any_batch(share, samples, severity, persistence):
    found = dead_records(persistence, share, samples)
    assert rules_in(found, rule="dead_units") == [("dead_units", severity)]
    assert rules_in(found[:-1], rule="dead_units") == []


def test_small_layers_must_be_dead_for_longer_in_small_batches():
    # Expects log(1e-3) / log(share ** units), for shares of .6 and of .6 + .4 * .9.
    assert [records_needed(units, 0.6) for units in (1, 2, 5, 64)] == [14, 7, 3, 1]
    assert [records_needed(units, 0.96) for units in (2, 64)] == [85, 3]
    records = dead_records(7, 1.0, 256, units=2)
    assert rules_in(records, rule="dead_units") == [("dead_units", "error")]
    assert rules_in(records[:-1], rule="dead_units") == []


# Constant outputs


def constant_records(head, targets=None, inputs=None, samples=(32, 32, 32, 32), start=20):
    layers = {"head": head}
    return make_records(4, start, layers=layers, targets=targets, inputs=inputs, samples=samples)


STUCK = {"mean": 0.1, "stddev": 0.3, "unit_stddev": 1e-6}


def test_a_stuck_model_has_constant_outputs():
    assert rules_in(constant_records(STUCK), rule="constant_output") == [
        ("constant_output", "warning")
    ]
    nothing_varies = {"mean": 0.25, "stddev": 0.0, "unit_stddev": 0.0}
    assert rules_in(constant_records(nothing_varies), rule="constant_output") != []


CONSTANT = {"mean": 3.0, "stddev": 0.0, "unit_stddev": 0.0}


@pytest.mark.parametrize(
    ("records", "facts"),
    [
        # The batch has 1 or 2 samples, or there is a single output for each batch.
        (constant_records(STUCK, samples=(1,) * 4), {}),
        (constant_records(STUCK, samples=(64, 64, 64, 1)), {}),
        (constant_records(STUCK, samples=(2,) * 4), {}),
        # The targets or the inputs do not vary.
        (constant_records(STUCK, targets=CONSTANT), {}),
        (constant_records(STUCK, inputs=CONSTANT), {}),
        # The targets of a regression vary as little as the outputs about a large mean.
        (
            constant_records(
                {"mean": 1e4, "stddev": 1.0, "unit_stddev": 1.0},
                targets={"mean": 1e4, "stddev": 2.0, "unit_stddev": 2.0},
            ),
            {"is_regression": True},
        ),
        # Other rules report an output of zeros; the first steps prove nothing.
        (constant_records({"mean": 0.0, "stddev": 0.0, "unit_stddev": 0.0}), {}),
        (constant_records(STUCK, start=0), {}),
        # Healthy models vary as little as this.
        (constant_records({"mean": 0.1, "stddev": 0.3, "unit_stddev": 0.002 * 0.32}), {}),
    ],
)
def test_outputs_may_be_constant_for_a_reason(records, facts):
    assert rules_in(records, make_facts(**facts), "constant_output") == []


def test_outputs_are_judged_with_what_an_activation_makes_of_them():
    def with_pre_activation(before, after):
        records = constant_records(after)
        rows = {"mean": 0.1, "stddev": 0.5, "unit_stddev": 0.5} | before
        extra = constant_records(rows)[0].values[3:]
        return [
            replace(
                record,
                layers=(*NAMES[:3], "head.pre", "head"),
                values=np.concatenate([record.values[:3], extra, record.values[3:]]),
                unit_samples=np.full(5, 32, "float32"),
            )
            for record in records
        ]

    flat = {"mean": 1.0, "stddev": 0.0, "unit_stddev": 0.0}
    for before, after, is_found in (
        ({"unit_stddev": 1e-6}, STUCK, True),
        # First, all probabilities are rounded to 1; then, they are small and differ.
        ({"mean": 40.0}, flat, True),
        ({"mean": -9.0}, {"mean": 0.5, "stddev": 0.5, "unit_stddev": 1e-4}, False),
    ):
        found = rules_in(with_pre_activation(before, after), rule="constant_output")
        assert bool(found) == is_found


# Targets


@pytest.mark.parametrize(
    ("targets", "output", "severity"),
    [
        ({"mean": 0.0, "stddev": 1e6}, {}, "warning"),
        ({"mean": 2000.0, "stddev": 10.0}, {}, "warning"),
        # These are the progression of diabetes, and house prices in thousands.
        ({"mean": 152.0, "stddev": 77.0}, {}, "info"),
        ({"mean": 22.5, "stddev": 9.2}, {}, None),
        # The model is trained.
        ({"mean": 0.0, "stddev": 1e6}, {"stddev": 9e5}, None),
        # Small outputs grow to 1 on their own.
        ({"mean": 0.0, "stddev": 29.0}, {"stddev": 0.01}, None),
    ],
)
def test_targets_are_compared_with_the_outputs(targets, output, severity):
    records = make_records(1, targets=targets, layers={"head": output})
    found = rules_in(records, make_facts(**REGRESSION), "target_scale")
    assert found == ([("target_scale", severity)] if severity else [])


@pytest.mark.parametrize(("step", "is_found"), [(12, True), (13, False)])
def test_targets_are_compared_only_while_outputs_have_their_first_size(step, is_found):
    records = make_records(1, start=step, targets={"mean": 0.0, "stddev": 1e6})
    assert bool(rules_in(records, make_facts(**REGRESSION), "target_scale")) == is_found


def test_numbers_of_classes_have_no_scale():
    records = make_records(1, targets={"mean": 5e3, "stddev": 3e3})
    assert rules_in(records, make_facts(), "target_scale") == []


def test_a_target_is_called_so_in_a_consequence():
    assert describe_consequences([("target_scale", "target")]) == (
        "target 'target' has values far larger than the outputs"
    )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", True),
        ("mean_absolute_error", True),
        (keras.losses.Huber(), True),
        (keras.losses.LogCosh(), True),
        (["mse", "mae"], True),
        ({"a": "mse", "b": "binary_crossentropy"}, False),
        ("mean_squared_logarithmic_error", False),
        ("sparse_categorical_crossentropy", False),
        (lambda y, output: 0.0, False),
        (None, False),
    ],
)
def test_regressions_are_known_by_their_losses(loss, expected):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    assert is_regression(model) is expected


def test_a_model_with_a_loss_of_its_own_is_no_regression():
    class Own(keras.Sequential):
        def compute_loss(self, *args, **kwargs):
            return 0.0

    model = Own([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert not is_regression(model)


# Learning rates that are too low


def slow_records(ratio=1e-6, loss=2.3, norm=8.0, steps=(0, 1, 2, 3, 5, 8, 30, 50), **statistics):
    """Return records in which every weight of norm 8 gets an update of the given relative norm."""
    return [
        make_record(
            step,
            variables={
                name: {
                    "update_norm": 8.0 * (ratio(step) if callable(ratio) else ratio),
                    "weight_norm": norm if step else 8.0,
                    **statistics,
                }
                for name in NAMES
            },
            loss=loss(step) if callable(loss) else loss,
        )
        for step in steps
    ]


@pytest.mark.parametrize(
    ("records", "facts"),
    [
        (slow_records(), GUESSING),
        # The rate is zero from the start on, or becomes zero by a schedule.
        (slow_records(0.0), GUESSING),
        (slow_records(lambda step: 1e-6 * (step < 8)), GUESSING),
        # The losses of batches differ; or the loss is near the variance .25 of the targets.
        (slow_records(loss=lambda step: 2.3 + 0.1 * (-1) ** step), GUESSING),
        (slow_records(loss=0.2), REGRESSION),
    ],
)
def test_a_rate_that_is_too_low_teaches_nothing(records, facts):
    assert rules_in(records, make_facts(**facts), "nothing_learns") == [
        ("nothing_learns", "warning")
    ]


def test_the_remedy_names_the_rate():
    setup = ModelSetup(learning_rates={0: 1e-3, 50: 1e-6, 100: 0.0})
    facts = make_facts(**GUESSING, setup=setup)
    (finding,) = findings_in(slow_records(), facts, [rule_named("nothing_learns")])
    assert finding.remedy.endswith("loss=model.loss)`; it was 1e-06")


@pytest.mark.parametrize(
    ("records", "facts"),
    [
        # Updates are small but not tiny, or are larger at one step.
        (slow_records(4e-5), GUESSING),
        (slow_records(lambda step: 1e-6 if step != 3 else 1e-3), GUESSING),
        # The rate is being warmed up.
        (slow_records(lambda step: 1e-7 * (1 + step)), GUESSING),
        # The model is learning, or has learned already.
        (slow_records(loss=lambda step: 2.3 - 0.01 * step), GUESSING),
        (slow_records(loss=0.3), GUESSING),
        (slow_records(loss=0.05), REGRESSION),
        # Keras accumulates gradients, or an optimizer does so without saying it.
        (slow_records(0.0), {**GUESSING, "accumulates": True}),
        (slow_records(0.0, norm=8.1), GUESSING),
        # The gradient is small, the monitor joined late, the run is short, or the loss is unknown.
        (slow_records(gradient_norm=1e-4), GUESSING),
        (slow_records(steps=(5, 6, 7, 8, 30, 50, 100)), GUESSING),
        (slow_records(steps=(0, 1, 2, 3, 5, 8, 30)), GUESSING),
        (slow_records(loss=None), GUESSING),
    ],
)
def test_small_updates_have_other_reasons(records, facts):
    assert rules_in(records, make_facts(**facts), "nothing_learns") == []


def test_a_kernel_of_zeros_is_measured_by_the_norm_that_fits():
    records = [
        make_record(
            step, variables={name: {"weight_norm": norm, "update_norm": 1e-5} for name in NAMES}
        )
        for step, norm in ((0, 0.0), (1, 1e-5), (2, 2e-5), (3, 3e-5), (5, 5e-5), (50, 5e-4))
    ]
    assert rules_in(records, make_facts(**GUESSING), "nothing_learns") != []


# Updates


@pytest.mark.parametrize(
    ("ratio", "role", "gates", "is_found"),
    [
        # These ratios occur in models that train: with batch normalization, SimpleRNN or LSTM.
        (0.155, "kernel", 1, False),
        (0.169, "recurrent", 1, False),
        (0.13, "recurrent", 4, False),
        (0.48, "recurrent", 4, False),
        (0.52, "recurrent", 4, True),
        # These ratios occur in models that do not train.
        (0.27, "kernel", 1, True),
        (0.28, "recurrent", 1, True),
    ],
)
def test_healthy_updates_of_some_kernels_are_larger(ratio, role, gates, is_found):
    kernel = KernelInfo("b/kernel", 64 * 64 * gates, role, (1,), (1 / 64, 1 / 64))
    part = {"kernels": (kernel,), "normalized": role == "kernel"}
    records = make_records(3, variables={"b": {"update_norm": 8 * gates**0.5 * ratio}})
    found = rules_in(records, make_facts({"b": part}), "update_too_large")
    assert found == ([("update_too_large", "warning")] if is_found else [])


def deaths(start_share, ratio, end_share=0.95):
    """Return records of a layer 'c' whose units die after an update of the kernel of 'b'."""
    before = {"c": {"dead_share": start_share, "dead_units": round(64 * start_share)}}
    after = {"c": {"dead_share": end_share, "dead_units": round(64 * end_share)}}
    return [
        *make_records(2, layers=before, variables={"b": {"update_norm": 8 * ratio}}),
        *make_records(2, 2, layers=after),
    ]


def test_an_update_that_kills_units_is_their_cause():
    (finding,) = findings_in(deaths(0.1, 0.05))
    assert (finding.rule, finding.layer, finding.first_step) == ("update_too_large", "b", 0)
    assert finding.cause == (
        "an update of 'b/kernel' had 0.05 times its norm, and by now 95% of the units of layer "
        "'c' have died"
    )
    # The units were dead before, the update was small, or many units are left.
    for records in (deaths(0.95, 0.05), deaths(0.1, 0.02), deaths(0.1, 0.05, 0.8)):
        assert rules_in(records, rule="update_too_large") == []
