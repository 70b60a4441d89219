"""The careful measure: exact records of steps for which the quick measure is not valid.

On JAX such a step runs a second time, from the state and with the batches of the first time.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.comparison import exact_graphs
from support.monitored import row, variable
from support.scenarios import BACKEND, numpy_of

from keras_winit import ActivationMonitor, statistics
from keras_winit.statistics import moments, tensor_norms

RNG = np.random.default_rng(0)
BATCH_SIZE = 8
X = RNG.normal(size=(4 * BATCH_SIZE, 6)).astype("float32")
Y = RNG.normal(size=(4 * BATCH_SIZE, 3)).astype("float32")


@pytest.fixture(scope="module", autouse=True)
def _exact_graphs():
    with exact_graphs():
        yield


class ReplaceLarge(layers.Layer):
    """Replaces NaN, infinite and large entries by zeros, so that weights stay finite."""

    def call(self, x):
        return ops.where(ops.abs(x) < 1e3, x, 0.0)


def build(model_class=keras.Model, **options):
    """Return a model that adds its second input to the output of a hidden layer."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    inputs, shift = keras.Input((6,), name="inputs"), keras.Input((1,), name="shift")
    hidden = layers.Dense(5, "tanh", name="hidden")(inputs)
    hidden = layers.BatchNormalization(name="normalized")(hidden)
    # The layer has a seed of its own, so that its masks do not depend on other models.
    hidden = layers.Dropout(0.4, seed=1, name="dropped")(hidden)
    hidden = layers.Add(name="shifted")([hidden, shift])
    outputs = layers.Dense(3, name="last")(ReplaceLarge(name="replaced")(hidden))
    model = model_class([inputs, shift], outputs)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", **options)
    return model


def inputs_with(value, step):
    """Return inputs of four steps; the second input is `value` for two samples of one step."""
    shift = np.zeros((len(X), 1), "float32")
    shift[[step * BATCH_SIZE + 1, step * BATCH_SIZE + 4]] = value
    return [X, shift]


def batches(inputs, start, stop):
    return [array[start * BATCH_SIZE : stop * BATCH_SIZE] for array in inputs]


def fit(model, inputs, *callbacks, start=0, stop=4):
    (targets,) = batches([Y], start, stop)
    options = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0}
    model.fit(batches(inputs, start, stop), targets, callbacks=list(callbacks), **options)


def variables_of(model):
    return [*model.variables, *model.optimizer.variables]


def train_without_monitor(model, inputs, step):
    """Train four steps; return the output of every layer at one of them."""
    if step:
        fit(model, inputs, stop=step)
    before = numpy_of(model.variables).values()
    layer_outputs = keras.Model(model.inputs, {part.name: part.output for part in model.layers})
    outputs = layer_outputs(batches(inputs, step, step + 1), training=True)
    for each, value in zip(model.variables, before, strict=True):
        each.assign(value)
    fit(model, inputs, start=step)
    return {name: ops.convert_to_numpy(output) for name, output in outputs.items()}


def expected_row(output):
    entries = output.astype(np.float64)
    is_finite = np.isfinite(entries)
    finite = entries[is_finite]
    return {
        "mean": finite.mean(),
        "stddev": finite.std(),
        "min": finite.min(),
        "zero_share": np.mean(finite == 0),
        "nonfinite": np.sum(~is_finite),
    }


CASES = {
    "NaN": (np.nan, 2, {}),
    "too large to square, at the first step": (1e30, 0, {}),
    "NaN, eager": (np.nan, 2, {"run_eagerly": True}),
}
if BACKEND != "torch":
    CASES["NaN, two steps at once"] = (np.nan, 3, {"steps_per_execution": 2})


@pytest.mark.parametrize("case", CASES)
def test_the_record_is_exact_and_training_is_the_same(case):
    value, step, options = CASES[case]
    inputs = inputs_with(value, step)
    monitors = [
        ActivationMonitor(
            every=lambda number: number == step,
            statistics=["mean", "stddev", "min", "zero_share", "nonfinite"],
            layers=chosen,
            verbose=0,
        )
        for chosen in (None, "shifted")
    ]
    without = build(**options)
    outputs = train_without_monitor(without, inputs, step)
    monitored = build(**options)
    fit(monitored, inputs, *monitors)
    np.testing.assert_equal(numpy_of(variables_of(monitored)), numpy_of(variables_of(without)))
    for monitor in monitors:
        assert monitor.history.unseen == {}
        (record,) = monitor.history.records
        assert record.step == step
        assert "shifted" in record.layers
        for name in set(record.layers) & set(outputs):
            expected = expected_row(outputs[name])
            tolerance = 1e-5 * expected["stddev"]
            assert row(record, name) == pytest.approx(expected, rel=1e-5, abs=tolerance)
    # Two samples of five units each.
    assert row(record, "shifted")["nonfinite"] == (0 if np.isfinite(value) else 10)


def test_gradients_that_are_not_finite_are_counted():
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(5, name="first"), ReplaceLarge(), layers.Dense(3, name="last")]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile("sgd", "mse")
    monitor = ActivationMonitor(every=1, statistics=["gradient_norm", "gradient_nonfinite"])
    x = X[:BATCH_SIZE].copy()
    x[3, 1] = np.nan
    model.fit(x, Y[:BATCH_SIZE], batch_size=BATCH_SIZE, verbose=0, callbacks=[monitor])
    (record,) = monitor.history.records
    # These are the weights from the second feature to the five units.
    assert variable(record, "first/kernel")["gradient_nonfinite"] == 5
    for name in ("first/bias", "last/kernel", "last/bias"):
        assert variable(record, name)["gradient_nonfinite"] == 0
        assert variable(record, name)["gradient_norm"] > 0


def test_the_quick_measure_gives_the_same_record_on_ordinary_data(monkeypatch):
    def record_step():
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        # The quick measure of norms is not valid for zeros.
        bias = {"bias_initializer": "ones"}
        parts = [layers.Conv2D(4, 3, activation="relu", **bias), layers.Flatten()]
        parts.append(layers.Dense(3, "tanh", **bias))
        model = keras.Sequential([keras.Input((6, 6, 2)), *parts])
        model.compile("sgd", "mse")
        monitor = ActivationMonitor(every=1, statistics="all", verbose=0)
        model.fit(images, Y[:8], verbose=0, callbacks=[monitor])
        assert monitor.history.unseen == {}
        (record,) = monitor.history.records
        return record

    images = RNG.normal(size=(8, 6, 6, 2)).astype("float32")
    quick = record_step()
    # With these bounds, every quick measure is rejected.
    monkeypatch.setitem(moments.BOUNDS, BACKEND, (np.inf, np.inf))
    monkeypatch.setattr(tensor_norms, "LEAST", np.inf)
    careful = record_step()
    assert quick.layers == careful.layers
    assert quick.variables == careful.variables
    assert quick.loss == pytest.approx(careful.loss, rel=1e-5)
    for name in quick.layers:
        expected = row(careful, name)
        tolerance = 1e-5 * float(expected["stddev"])
        measured = row(quick, name)
        assert measured == pytest.approx(expected, rel=1e-5, abs=tolerance, nan_ok=True)
    for name in quick.variables:
        expected = variable(careful, name)
        assert variable(quick, name) == pytest.approx(expected, rel=1e-5, nan_ok=True)
    np.testing.assert_array_equal(quick.counts, careful.counts)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX repeats a step")
def test_a_step_that_cannot_be_repeated_is_recorded_by_the_quick_measure():
    import jax

    class OnlyCompiled(keras.Model):
        def train_step(self, state, data):
            if not isinstance(jax.tree.leaves(data)[0], jax.core.Tracer):
                repeated.append(data)
                raise NotImplementedError("this step runs only compiled")
            return super().train_step(state, data)

    repeated, inputs = [], inputs_with(np.nan, step=2)
    without, monitored = build(OnlyCompiled), build(OnlyCompiled)
    monitor = ActivationMonitor(every=1, statistics=["mean", "nonfinite"], verbose=0)
    fit(without, inputs)
    fit(monitored, inputs, monitor)
    np.testing.assert_equal(numpy_of(variables_of(monitored)), numpy_of(variables_of(without)))
    # At the other steps, the quick measure is valid.
    assert len(repeated) == 1
    reason = "NotImplementedError: this step runs only compiled"
    assert monitor.history.unseen == {"careful measure": reason}
    assert [record.step for record in monitor.history.records] == [0, 1, 2, 3]
    # The quick measure knows only that each of the five units has an entry that is not finite.
    assert row(monitor.history.records[2], "shifted")["nonfinite"] == 5
    assert "non_finite" in [finding.rule for finding in monitor.findings]


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX repeats a step")
def test_a_careful_measure_that_fails_in_one_layer_costs_only_its_row(monkeypatch):
    reduce_units = statistics.reduce_units

    def failing(values, counts=None, per_row=1, careful=False):
        if careful and values.shape[1] == 3:
            raise MemoryError("too large")
        return reduce_units(values, counts, per_row, careful)

    monkeypatch.setattr(statistics, "reduce_units", failing)
    keras.utils.set_random_seed(0)
    parts = [keras.Input((6,)), layers.Dense(5, name="wide"), layers.Dense(3, name="narrow")]
    model = keras.Sequential(parts)
    model.compile("sgd", "mse")
    monitor = ActivationMonitor(every=1, statistics=["mean", "nonfinite"], verbose=0)
    x = X[:BATCH_SIZE].copy()
    x[1, 2] = np.nan
    model.fit(x, Y[:BATCH_SIZE], batch_size=BATCH_SIZE, verbose=0, callbacks=[monitor])
    (record,) = monitor.history.records
    assert record.layers == ("wide",)
    assert row(record, "wide")["nonfinite"] == 5
    reason = "MemoryError: too large"
    assert monitor.history.unseen == {"narrow": reason, "target": reason}
