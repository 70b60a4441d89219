"""Findings in real training: planted faults are found, and healthy models have no findings."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.scenarios import numpy_of

import keras_winit
from keras_winit.monitor import FindingError, check
from keras_winit.monitor.records import Record

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 128)
DATA = (RNG.normal(size=(4, 16))[LABELS] + RNG.normal(size=(128, 16))).astype("float32")

NEGATIVE = keras.initializers.RandomNormal(-0.3, 0.05)


def mlp(init="winit>he_normal", activation="relu", head="glorot_uniform", rate=1e-3, special=None):
    """A classifier with layers `d0` to `d2`, of which `special` gives some other kernels."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    kernels = [(special or {}).get(i, init) for i in range(3)]
    model = keras.Sequential(
        [
            keras.Input((16,)),
            *(
                layers.Dense(32, activation, kernel_initializer=kernel, name=f"d{i}")
                for i, kernel in enumerate(kernels)
            ),
            layers.Dense(4, "softmax", kernel_initializer=head, name="head"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def train(model, x=DATA, **options):
    # Recording every step needs a single train function, which is compiled only once.
    monitor = keras_winit.ActivationMonitor(**{"verbose": 0, "every": 1, **options})
    model.fit(x, LABELS, batch_size=16, verbose=0, shuffle=False, callbacks=[monitor])
    return monitor


FAULTS = {
    "zeros": ("symmetric_units", "d0", lambda: mlp("zeros")),
    "one constant": ("constant_units", "d1", lambda: mlp(special={1: "ones"})),
    "one small": (
        "wrong_init_for_activation",
        "d1",
        lambda: mlp(special={1: "winit>small_normal"}),
    ),
    "negative": ("dead_units", "d1", lambda: mlp(special={1: NEGATIVE})),
    "learning rate": ("update_too_large", "d0", lambda: mlp(rate=30.0)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_the_first_finding(name):
    rule, layer, build = FAULTS[name]
    finding = train(build()).findings[0]
    assert (finding.rule, finding.layer.split("/")[-1]) == (rule, layer)
    assert finding.severity in ("warning", "error")


def test_the_scale_of_the_inputs_is_the_cause_of_saturation():
    monitor = train(mlp("winit>xavier_uniform", "tanh"), 300 * DATA)
    assert [finding.rule for finding in monitor.findings] == ["input_scale"]
    assert "saturated" in [other.rule for other in monitor.findings[0].consequences]


@pytest.mark.parametrize(
    "build",
    [mlp, lambda: mlp("winit>xavier_uniform", "tanh"), lambda: mlp(head="zeros")],
    ids=["relu", "tanh", "zero head"],
)
def test_healthy_training_is_silent(build, capsys):
    monitor = train(build(), verbose="auto", every=None)
    assert monitor.findings == ()
    assert capsys.readouterr() == ("", "")


def test_a_finding_is_printed_once_and_kept(capsys):
    monitor = train(mlp("zeros"), verbose="auto")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("symmetric_units  ") == 1
    assert monitor.history.findings == monitor.findings
    assert str(monitor).endswith(str(monitor.findings))
    assert monitor.findings._repr_html_() in monitor._repr_html_()


def test_writers_get_plain_values():
    class Collector:
        received = ()

        def write(self, record):
            assert isinstance(record, Record)

        def write_findings(self, step, findings):
            self.received = (step, findings)

        def flush(self):
            pass

    writer = Collector()
    train(mlp(special={1: "ones"}), writers=[writer])
    _, rows = writer.received
    assert rows[0]["rule"] == "constant_units"
    assert isinstance(rows[0]["consequences"], tuple)


def test_stop_ends_the_fit():
    monitor = train(mlp("zeros"), on_finding="stop")
    assert [record.step for record in monitor.history.records] == [0, 1]
    assert monitor.history.findings[0].rule == "symmetric_units"


def test_raise_names_the_layer_and_leaves_the_model_usable():
    model = mlp("zeros")
    with pytest.raises(
        FindingError, match=r"found symmetric_units in '.*d0' at step 1: "
    ) as caught:
        train(model, on_finding="raise")
    assert caught.value.finding.rule == "symmetric_units"
    assert all(np.isfinite(value).all() for value in model.get_weights())
    train(model)


def test_a_function_gets_each_finding():
    received = []
    train(mlp(special={1: "ones"}), on_finding=received.append)
    assert received[0].rule == "constant_units"


def test_an_unknown_action():
    with pytest.raises(ValueError, match="on_finding") as caught:
        keras_winit.ActivationMonitor(on_finding="shout")
    assert str(caught.value) == (
        "`ActivationMonitor(on_finding=...)` must be 'warn', 'raise', 'stop' or a function. "
        "Received: on_finding='shout'."
    )


@pytest.mark.parametrize(
    ("options", "batch_size"),
    [
        ({}, 1),
        ({"samples": 1}, 16),
        ({"statistics": ["stddev", "dead_units", "gradient_norm"]}, 16),
    ],
)
def test_too_few_samples_or_statistics_give_no_findings(options, batch_size):
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0, **options)
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(DATA[:32], LABELS[:32], batch_size=batch_size, verbose=0, callbacks=[monitor])
    assert monitor.findings == ()


def test_a_dead_layer_is_found_in_batches_of_one():
    model = mlp(special={1: NEGATIVE})
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0)
    model.fit(DATA[:8], LABELS[:8], batch_size=1, verbose=0, callbacks=[monitor])
    finding = monitor.findings[0]
    assert (finding.rule, finding.layer, finding.severity) == ("dead_units", "d1", "error")


def test_a_model_that_its_first_step_builds_has_findings_too():
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(32, "relu", kernel_initializer="ones", name="d0")
    model = keras.Sequential([hidden, layers.Dense(4), layers.Softmax()])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert "constant_units" in {finding.rule for finding in train(model, 0.01 * DATA).findings}


# With a penalty or with sample weights, the loss does not tell what the model knows.
@pytest.mark.parametrize("extra", ["regularizer", "add_loss", "sample_weight", None])
def test_the_first_loss_is_judged_only_without_penalties_and_sample_weights(extra):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)

    class AddsLoss(layers.Layer):
        def call(self, x):
            if extra == "add_loss":
                self.add_loss(keras.ops.convert_to_tensor(100.0))
            return x

    penalty = keras.regularizers.L2(0.5) if extra == "regularizer" else None
    hidden = layers.Dense(512, "relu", kernel_initializer="he_normal", kernel_regularizer=penalty)
    # Large logits make the model confident and wrong.
    scale = [] if extra else [layers.Rescaling(100.0)]
    stack = [hidden, AddsLoss(), layers.Dense(4), *scale, layers.Softmax()]
    model = keras.Sequential([keras.Input((16,)), *stack])
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0)
    weights = np.full(16, 100.0) if extra == "sample_weight" else None
    model.fit(DATA[:16], LABELS[:16], sample_weight=weights, verbose=0, callbacks=[monitor])
    assert monitor.history.records[0].loss > 12
    reported = "bad_initial_loss" in {finding.rule for finding in monitor.findings}
    assert reported == (extra is None)


def test_check_finds_before_training_and_changes_nothing():
    model = mlp("zeros")
    model.optimizer.build(model.trainable_variables)
    before = numpy_of([*model.variables, *model.optimizer.variables])
    assert check(model, DATA[:32], LABELS[:32])[0].rule == "symmetric_units"
    after = numpy_of([*model.variables, *model.optimizer.variables])
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert check(mlp(), DATA[:32], LABELS[:32]) == ()


def test_arguments_that_check_rejects():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)], name="m")
    with pytest.raises(ValueError, match="compiled") as caught:
        check(model, DATA)
    assert str(caught.value) == (
        "`check` needs a compiled model. Received: 'm', not compiled. Call "
        "`model.compile(optimizer, loss)`."
    )
    with pytest.raises(ValueError, match="steps") as caught:
        check(mlp(), DATA, LABELS, steps=0)
    assert str(caught.value) == "`check(steps=...)` must be an integer >= 1. Received: steps=0."
