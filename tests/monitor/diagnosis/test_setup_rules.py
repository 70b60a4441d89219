"""Rules on facts known before training: each fires on its fault, and not after the repair."""

import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.planted import findings_in, make_facts, make_record, make_records, rule_named
from support.setups import found, setup_of, stack

from keras_winit.models import equal_kernels
from keras_winit.models.losses import LossSetup
from keras_winit.models.setup import ModelSetup, OutputSetup
from keras_winit.monitor import ActivationMonitor, check

Dense, losses = layers.Dense, keras.losses
BINARY, CLASSES = losses.BinaryCrossentropy, losses.CategoricalCrossentropy
SPARSE = losses.SparseCategoricalCrossentropy

# Units and activation of the last layer, its loss, and the severity of `loss_mismatch`.
OUTPUTS = {
    "softmax": (3, "softmax", CLASSES(), None),
    "softmax by name": (3, "softmax", "sparse_categorical_crossentropy", None),
    "logits": (3, None, SPARSE(from_logits=True), None),
    "log softmax with logits": (3, "log_softmax", SPARSE(from_logits=True), None),
    "exponential, which Keras normalizes": (3, "exponential", SPARSE(), None),
    "sigmoid": (1, "sigmoid", BINARY(), None),
    "hard sigmoid": (1, "hard_sigmoid", "binary_crossentropy", None),
    "several sigmoids": (3, "sigmoid", BINARY(), None),
    "binary logits": (1, None, BINARY(from_logits=True), None),
    "bounded logits": (1, "tanh", BINARY(from_logits=True), None),
    "regression": (1, None, "mse", None),
    "squared error of a softmax": (3, "softmax", "mse", None),
    "hinge": (1, "tanh", "hinge", None),
    "softmax with logits": (3, "softmax", CLASSES(from_logits=True), "warning"),
    "sigmoid with logits": (1, "sigmoid", BINARY(from_logits=True), "warning"),
    "sigmoid with logits of classes": (3, "sigmoid", SPARSE(from_logits=True), "warning"),
    "no activation": (3, None, "sparse_categorical_crossentropy", "error"),
    "no activation, one-hot": (3, None, CLASSES(), "error"),
    "no activation, binary": (1, None, "binary_crossentropy", "warning"),
    "sigmoid of classes": (3, "sigmoid", "categorical_crossentropy", "warning"),
    "one sigmoid of classes": (1, "sigmoid", "categorical_crossentropy", "error"),
    "one logit of classes": (1, None, SPARSE(from_logits=True), "error"),
    "binary of a softmax": (2, "softmax", "binary_crossentropy", "warning"),
    "relu of classes": (3, "relu", "sparse_categorical_crossentropy", "error"),
    "relu, binary": (1, "relu", "binary_crossentropy", "error"),
    "relu with logits": (3, "relu", SPARSE(from_logits=True), "warning"),
    "tanh of classes": (3, "tanh", "categorical_crossentropy", "error"),
    "tanh, binary": (1, "tanh", "binary_crossentropy", "warning"),
    "log softmax": (3, "log_softmax", SPARSE(), "error"),
    "divergence of a softmax": (3, "softmax", "kl_divergence", None),
    "divergence without activation": (3, None, "kl_divergence", "error"),
    "own activation": (3, lambda z: ops.softmax(z), CLASSES(from_logits=True), None),
    "own loss": (3, "softmax", lambda y, p: ops.mean(p - y), None),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", OUTPUTS)
def test_loss_mismatch(name):
    units, activation, loss, severity = OUTPUTS[name]
    model = stack(Dense(16, "relu"), Dense(units, activation, name="end"))
    model.compile("sgd", loss)
    findings = found(setup_of(model))
    assert set(findings) == ({"loss_mismatch"} if severity else set())
    if severity:
        finding = findings["loss_mismatch"]
        assert (finding.severity, finding.layer, finding.step) == (severity, "end", 0)
        assert "`" in finding.remedy


@pytest.mark.backend_independent
def test_loss_mismatch_of_the_second_output():
    inputs = keras.Input((8,))
    ends = [Dense(2, "softmax", name="right")(inputs), Dense(2, name="wrong")(inputs)]
    model = keras.Model(inputs, ends)
    model.compile("sgd", {"right": "categorical_crossentropy", "wrong": CLASSES()})
    assert found(setup_of(model))["loss_mismatch"].layer == "wrong"


@pytest.mark.backend_independent
def test_loss_mismatch_of_an_activation_by_itself_in_mixed_precision():
    last = layers.Activation("softmax", dtype="float32", name="end")
    model = stack(Dense(3, dtype="mixed_float16"), last)
    model.compile("sgd", SPARSE(from_logits=True))
    assert found(setup_of(model))["loss_mismatch"].layer == "end"


@pytest.mark.backend_independent
def test_no_mismatch_if_the_training_step_computes_no_loss_of_keras():
    model = stack(Dense(3))
    model.compile("sgd", CLASSES())
    assert found(setup_of(model), make_record(loss=None)) == {}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "last", [[Dense(1, "softmax")], [Dense(1), layers.Softmax()]], ids=["dense", "layer"]
)
@pytest.mark.parametrize("loss", ["binary_crossentropy", "categorical_crossentropy", "mse"])
def test_one_unit_softmax(last, loss):
    model = stack(*last)
    model.compile("sgd", loss)
    findings = found(setup_of(model))
    assert list(findings) == ["one_unit_softmax"]
    assert findings["one_unit_softmax"].severity == "error"
    assert "sigmoid" in findings["one_unit_softmax"].remedy


@pytest.mark.backend_independent
def test_one_unit_softmax_in_a_hidden_layer_is_a_warning():
    inputs = keras.Input((5, 8))
    weights = Dense(1, "softmax", name="scores")(inputs)
    outputs = Dense(2)(ops.sum(inputs * weights, 1))
    finding = found(setup_of(keras.Model(inputs, outputs)))["one_unit_softmax"]
    assert (finding.severity, finding.layer) == ("warning", "scores")


@pytest.mark.backend_independent
def test_softmax_of_one_unit_over_time_is_healthy():
    inputs = keras.Input((5, 8))
    weights = layers.Softmax(axis=1)(Dense(1)(inputs))
    assert found(setup_of(keras.Model(inputs, Dense(2)(ops.sum(inputs * weights, 1))))) == {}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "last",
    [layers.Softmax(name="end"), layers.Activation("softmax", name="end")],
    ids=["layer", "activation"],
)
def test_double_softmax(last):
    model = stack(Dense(3, "softmax"), last)
    model.compile("sgd", CLASSES())
    findings = found(setup_of(model))
    assert list(findings) == ["double_softmax"]
    assert findings["double_softmax"].layer == "end"


@pytest.mark.backend_independent
def test_softmaxes_over_two_axes_are_not_one_after_the_other():
    model = stack(layers.Softmax(axis=1), layers.Softmax(axis=2), inputs=(5, 8))
    model.compile("sgd", "mse")
    assert found(setup_of(model)) == {}


@pytest.mark.backend_independent
def test_no_activation():
    model = stack(Dense(16, name="first"), Dense(3, name="second"))
    finding = found(setup_of(model))["no_activation"]
    assert (finding.severity, finding.layer) == ("warning", "first")


@pytest.mark.backend_independent
@pytest.mark.parametrize(("rate", "is_found"), [(0.79, False), (0.8, True), (0.99, True)])
def test_high_dropout(rate, is_found):
    findings = found(setup_of(stack(Dense(16, "relu"), layers.Dropout(rate), Dense(1))))
    assert list(findings) == ["high_dropout"] * is_found


@pytest.mark.backend_independent
def test_nothing_trainable():
    model = stack(Dense(16, "relu"), Dense(1))
    model.trainable = False
    findings = found(setup_of(model))
    assert list(findings) == ["nothing_trainable"]
    assert findings["nothing_trainable"].severity == "error"
    model.layers[-1].trainable = True
    model.trainable = True
    model.layers[0].trainable = False
    assert found(setup_of(model)) == {}


@pytest.mark.backend_independent
def test_a_model_without_weights_has_nothing_to_train():
    assert found(setup_of(stack(layers.ReLU()))) == {}


def schedule(*values):
    """Return a schedule with a value for each of the first steps; the last one stays."""
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        list(range(len(values) - 1)), list(map(float, values))
    )


RATES = {
    "usual": (0.01, False),
    "negative": (-1000.0, True),
    "warm-up": (schedule(0, 0, 0.1), False),
    "negative later": (schedule(0.1, 0.1, -0.1), True),
    "zero everywhere": (schedule(0, 0), True),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", RATES)
def test_learning_rate(name):
    rate, is_found = RATES[name]
    model = stack(Dense(1))
    model.compile(keras.optimizers.SGD(rate), "mse")
    still = {name: {"update_norm": 0.0} for name in ("a", "b", "c", "head")}
    findings = found(setup_of(model), make_record(variables=still))
    assert list(findings) == ["learning_rate"] * is_found
    assert all(finding.severity == "error" for finding in findings.values())


@pytest.mark.backend_independent
def test_a_learning_rate_of_zero_is_found_if_nothing_is_updated_for_two_records():
    model = stack(Dense(1))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    setup = setup_of(model)
    still = {name: {"update_norm": 0.0} for name in ("a", "b", "c", "head")}
    records = [make_record(step, variables=still) for step in (0, 1)]
    assert found(setup, records[0]) == {}
    assert list(found(setup, *records)) == ["learning_rate"]
    # A callback has raised the rate.
    assert found(setup, records[0], make_record(1)) == {}


def made_of(loss, units=1, activation="sigmoid"):
    return ModelSetup((OutputSetup("end", "Dense", activation, units, loss, "target"),))


def with_targets(least, most, mean=0.0, stddev=0.0):
    record = make_record()
    known = {"min": least, "max": most, "mean": mean, "stddev": stddev}
    values = [[known.get(name, 0.0) for name in record.statistics]]
    return replace(record, targets=("target",), target_values=np.array(values, "float32"))


TARGETS = {
    "binary": ("binary_crossentropy", 1, (0, 1), False),
    "smoothed": ("binary_crossentropy", 1, (0.05, 0.95), False),
    "classes in a binary loss": ("binary_crossentropy", 1, (0, 9), True),
    "signs in a binary loss": ("binary_crossentropy", 1, (-1, 1), True),
    "classes": ("sparse_categorical_crossentropy", 10, (0, 9), False),
    "classes from one": ("sparse_categorical_crossentropy", 10, (1, 10), True),
    "negative class": ("sparse_categorical_crossentropy", 10, (-1, 9), True),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", TARGETS)
def test_target_range(name):
    loss, units, (least, most), is_found = TARGETS[name]
    activation = "sigmoid" if units == 1 else "softmax"
    findings = found(made_of(LossSetup(loss), units, activation), with_targets(least, most))
    assert list(findings) == ["target_range"] * is_found
    for finding in findings.values():
        assert (finding.severity, finding.layer) == ("error", "target")


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("activation", "moments", "severity"),
    [
        (None, (30, 9), None),
        ("sigmoid", (0.5, 0.29), None),
        ("sigmoid", (30, 9), "error"),
        # The targets are standardized, so that half of them are out of reach.
        ("sigmoid", (0.01, 1), "warning"),
        ("tanh", (0, 1), "warning"),
        ("tanh", (0, 0.5), None),
        ("relu", (5, 2), None),
        ("relu", (-5, 2), "error"),
    ],
)
def test_targets_of_a_regression_out_of_reach(activation, moments, severity):
    mean, stddev = moments
    # The range is two standard deviations around the mean, as in a uniform or a normal batch.
    targets = with_targets(mean - 2 * stddev, mean + 2 * stddev, mean, stddev)
    if activation == "sigmoid" and severity is None:
        targets = with_targets(0, 1, mean, stddev)
    if activation == "relu" and severity is None:
        targets = with_targets(-1, 9, mean, stddev)
    findings = found(made_of(LossSetup("mean_squared_error"), 1, activation), targets)
    assert [one.severity for one in findings.values()] == ([severity] if severity else [])
    assert set(findings) <= {"target_range"}


@pytest.mark.backend_independent
def test_an_ignored_class_may_lie_outside():
    loss = LossSetup("sparse_categorical_crossentropy", ignored_class=-1)
    assert found(made_of(loss, 10, "softmax"), with_targets(-1, 9)) == {}
    assert "target_range" in found(made_of(loss, 10, "softmax"), with_targets(-2, 9))


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("never_negative", "plain_loss", "is_found"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_a_loss_below_zero(never_negative, plain_loss, is_found):
    setup = ModelSetup(never_negative=never_negative)
    record = make_record(loss=-200.0)
    findings = found(setup, record, plain_loss=plain_loss)
    assert list(findings) == ["target_range"] * is_found
    assert found(setup, make_record(loss=0.0), plain_loss=plain_loss) == {}


@pytest.mark.backend_independent
@pytest.mark.parametrize("loss", ["mse", "poisson", "own"])
def test_which_losses_are_never_negative(loss):
    model = stack(Dense(1))
    model.compile("sgd", (lambda y, p: ops.mean(p)) if loss == "own" else loss)
    assert setup_of(model).never_negative == (loss == "mse")


Normal, Generator = keras.initializers.RandomNormal, keras.random.SeedGenerator
SHARED = Normal()
KERNELS = {
    "by name": ("he_normal", "he_normal", False),
    "seeds that differ": (Normal(seed=1), Normal(seed=2), False),
    "two without a seed": (Normal(), Normal(), False),
    "one that advances": (*[Normal(seed=Generator(1))] * 2, False),
    "constants": ("ones", "ones", False),
    "identity": ("identity", "identity", False),
    "no spread": (Normal(stddev=0.0, seed=1), Normal(stddev=0.0, seed=1), False),
    "one seed": (Normal(seed=1), Normal(seed=1), True),
    "one instance": (SHARED, SHARED, True),
    "a scheme of this package": (*["winit>he_normal"] * 2, False),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", KERNELS)
def test_equal_kernels(name):
    one, other, is_found = KERNELS[name]
    first = Dense(8, "relu", kernel_initializer=one, name="first")
    second = Dense(8, "relu", kernel_initializer=other, name="second")
    findings = found(setup_of(stack(first, second, Dense(1, name="end"))))
    assert list(findings) == ["equal_kernels"] * is_found
    if is_found:
        assert findings["equal_kernels"].layer == "second"
        assert "'first'" in findings["equal_kernels"].cause


@pytest.mark.backend_independent
def test_each_of_many_equal_kernels_is_looked_at_once(monkeypatch):
    shared = Normal(seed=1)
    equal = [Dense(6, "relu", kernel_initializer=shared, name=f"d{i}") for i in range(5)]
    model = keras.Sequential([keras.Input((6,)), *equal])
    digests = []
    content = equal_kernels._content
    monkeypatch.setattr(equal_kernels, "_content", lambda k: digests.append(k) or content(k))
    pairs = equal_kernels.equal_kernels(model.layers)
    expected = [("d0", f"d{number}") for number in range(1, 5)]
    assert [(one.name, other.name) for one, other in pairs] == expected
    assert len(digests) == 5


@pytest.mark.backend_independent
@pytest.mark.parametrize(("count", "severity"), [(12, "info"), (13, "warning")])
def test_many_equal_kernels_are_a_warning(count, severity):
    equal = (Dense(8, "relu", kernel_initializer=Normal(seed=1)) for _ in range(count))
    finding = found(setup_of(stack(*equal, Dense(1))))["equal_kernels"]
    assert (finding.severity, len(finding.consequences)) == (severity, count - 2)


@pytest.mark.backend_independent
def test_equal_kernels_are_reported_of_the_start_only():
    equal = (Dense(8, "relu", kernel_initializer=Normal(seed=1)) for _ in range(2))
    facts = make_facts(setup=setup_of(stack(*equal, Dense(1))))
    (finding,) = findings_in(make_records(5), facts, [rule_named("equal_kernels")])
    assert finding.hits == 1


@pytest.mark.backend_independent
def test_kernels_that_only_share_a_seed_are_not_equal():
    one, other = (Dense(8, "relu", kernel_initializer=Normal(seed=1)) for _ in range(2))
    model = stack(one, other, Dense(1))
    other.kernel.assign(other.kernel * 2.0)
    assert found(setup_of(model)) == {}


def test_check_names_what_is_wrong_before_training():
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    y = np.arange(32, dtype="float32")[:, None] % 10
    model = stack(Dense(16, "relu"), Dense(1, name="end"))
    # Without logits torch refuses such targets itself.
    model.compile("adam", BINARY(from_logits=True))
    assert "target_range" in {finding.rule for finding in check(model, x, y)}
    model.compile(keras.optimizers.Adam(-1.0), "binary_crossentropy")
    rules = {finding.rule: finding.first_step for finding in check(model, x, y > 4, steps=1)}
    assert rules["loss_mismatch"] == rules["learning_rate"] == 0


def test_a_resumed_fit_is_judged_by_what_it_was_compiled_with():
    x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    monitor = ActivationMonitor(verbose=0, every=1)
    model = stack(Dense(16, "relu"), Dense(1, "sigmoid", name="end"))
    model.compile("adam", "binary_crossentropy")
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
    assert "loss_mismatch" not in {finding.rule for finding in monitor.findings}
    model.compile(model.optimizer, BINARY(from_logits=True))
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
    mismatch = next(one for one in monitor.findings if one.rule == "loss_mismatch")
    assert mismatch.first_step == 2


def test_nothing_trainable_is_found_in_training():
    x = np.ones((4, 8), "float32")
    model = stack(Dense(1))
    model.trainable = False
    model.compile("sgd", "mse")
    with warnings.catch_warnings():
        # TensorFlow and torch warn of this themselves.
        warnings.simplefilter("ignore")
        rules = {finding.rule for finding in check(model, x, x[:, :1])}
    assert "nothing_trainable" in rules
