"""Every statistic of a record equals the one that numpy computes."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import RNG, dense_pair, fit, row, variable
from support.scenarios import X, Y, compiled

from keras_winit import ActivationMonitor

QUANTILES = {"q01": 0.01, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q99": 0.99}


def expected_row(entries):
    """Return every statistic of a layer output without NaN or infinite entries."""
    entries = np.asarray(entries, np.float64)
    units = entries.reshape(-1, entries.shape[-1])
    return {
        "mean": entries.mean(),
        "stddev": entries.std(),
        "unit_stddev": units.std(axis=0).mean(),
        "min": entries.min(),
        "max": entries.max(),
        "zero_share": np.mean(entries == 0),
        "nonfinite": 0,
        "norm": np.linalg.norm(entries),
        "dead_units": np.all(units <= 0, axis=0).sum(),
        "dead_share": np.all(units <= 0, axis=0).mean(),
        **{q: np.quantile(entries, v) for q, v in QUANTILES.items()},
    }


@pytest.fixture(scope="module")
def recorded():
    """Return the records of two steps of gradient descent, and the weights before them."""
    model = dense_pair()
    weights = [w.astype(np.float64) for w in model.get_weights()]
    monitor = ActivationMonitor(every=1, statistics="all")
    fit(model, monitor)
    return monitor.history.records, weights


def step_in_numpy(weights, x, y):
    """Return the outputs by row name, the gradients and the loss of `dense_pair`."""
    k1, b1, k2, b2 = weights
    z1 = x @ k1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ k2 + b2
    a2 = np.tanh(z2)
    g2 = 2 * (a2 - y) / y.size * (1 - a2**2)
    g1 = (g2 @ k2.T) * (z1 > 0)
    gradients = [x.T @ g1, g1.sum(axis=0), a1.T @ g2, g2.sum(axis=0)]
    return {"one.pre": z1, "one": a1, "two.pre": z2, "two": a2}, gradients, np.mean((a2 - y) ** 2)


def repeated_share(kernel):
    if kernel.ndim < 2:
        return np.nan
    columns = np.round(kernel / np.abs(kernel).max(), 6)
    return 1 - (np.unique(columns, axis=1).shape[1] - 1) / (kernel.shape[1] - 1)


def test_every_statistic_is_that_of_numpy(recorded):
    records, weights = recorded
    for record, start in zip(records, (0, 8), strict=True):
        x, y = (array[start : start + 8].astype(np.float64) for array in (X, Y))
        outputs, gradients, loss = step_in_numpy(weights, x, y)
        np.testing.assert_allclose(record.loss, loss, rtol=1e-5)
        check_layers(record, outputs)
        check_variables(record, weights, gradients)
        check_inputs(record, x)
        weights = [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]


def check_layers(record, outputs):
    assert list(record.layers) == list(outputs)
    for name, output in outputs.items():
        measured, expected = row(record, name), expected_row(output)
        if name != "one":  # Only this layer is a rectifier.
            assert np.isnan(measured.pop("dead_units"))
            assert np.isnan(measured.pop("dead_share"))
        saturated = measured.pop("saturated_share")
        if name == "two":
            is_flat = np.abs(outputs["two.pre"]) > np.arctanh(np.sqrt(0.95))
            assert saturated == pytest.approx(is_flat.mean(), rel=1e-6)
        else:
            assert np.isnan(saturated)
        for statistic, value in measured.items():
            # A mean or a quantile near zero is compared with the standard deviation.
            tolerance = 1e-5 * output.std()
            assert value == pytest.approx(expected[statistic], rel=1e-5, abs=tolerance)
        counts = record.counts[record.layers.index(name)]
        assert counts.sum() == output.size
        if name != "two":  # An output of tanh may be rounded to 1, which is an edge.
            edges = np.concatenate([[-np.inf], record.edges[1:-1], [np.inf]])
            np.testing.assert_array_equal(counts, np.histogram(output, edges)[0])


def check_variables(record, weights, gradients):
    names = ["one/kernel", "one/bias", "two/kernel", "two/bias"]
    assert list(record.variables) == names
    for name, weight, gradient in zip(names, weights, gradients, strict=True):
        weight_norm, gradient_norm = np.linalg.norm(weight), np.linalg.norm(gradient)
        expected = {
            "weight_norm": weight_norm,
            "gradient_norm": gradient_norm,
            "update_norm": 0.1 * gradient_norm,
            "update_ratio": 0.1 * gradient_norm / weight_norm,
            "gradient_nonfinite": 0,
            "weight_repeated": repeated_share(weight),
            "gradient_repeated": repeated_share(gradient),
        }
        assert variable(record, name) == pytest.approx(expected, rel=1e-5, nan_ok=True)


def check_inputs(record, x):
    assert record.inputs == ("input",)
    expected = expected_row(x)
    for statistic, value in zip(record.statistics, record.input_values[0], strict=True):
        if statistic not in ("dead_units", "dead_share", "saturated_share"):
            assert value == pytest.approx(expected[statistic], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("eager", [True, False])
def test_inputs_are_recorded_in_graphs_and_eagerly(eager):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    model.compile("sgd", "mse", run_eagerly=eager)
    monitor = ActivationMonitor(every=1)
    fit(model, monitor, batch_size=len(X))
    (record,) = monitor.history.records
    assert record.inputs == ("input",)
    unit_stddev = record.input_values[0, record.statistics.index("unit_stddev")]
    assert unit_stddev == pytest.approx(X.std(axis=0).mean(), rel=1e-5)


def test_only_the_first_samples_of_a_batch_are_measured():
    model = dense_pair()
    weights = [w.astype(np.float64) for w in model.get_weights()]
    monitor = ActivationMonitor(every=1, samples=3, statistics=["mean", "norm"])
    fit(model, monitor)
    (first, _) = monitor.history.records
    outputs, _, _ = step_in_numpy(weights, X[:3].astype(np.float64), Y[:3].astype(np.float64))
    expected = {"mean": outputs["one"].mean(), "norm": np.linalg.norm(outputs["one"])}
    assert row(first, "one") == pytest.approx(expected, rel=1e-5)
    assert first.variables == ()
    assert first.variable_values.shape == (0, 0)


class Identity(layers.Layer):
    """A layer that returns its inputs, with a trainable weight that changes nothing."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def build(self, shape):
        self.unused = self.add_weight(shape=(), initializer="zeros", name="unused")

    def call(self, x):
        return x + 0 * self.unused


def recorded_row(x, masked=False):
    """Return what the monitor records of a layer whose output is `x`."""
    inputs, monitor = keras.Input(x.shape[1:]), ActivationMonitor(every=1, layers=Identity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns that `Reshape` drops the mask.
        values = Identity()(layers.Masking(-7.0)(inputs) if masked else inputs)
        outputs = layers.GlobalAveragePooling1D()(layers.Reshape((1, -1))(values))
        model = compiled(keras.Model(inputs, outputs), "sgd")
        fit(model, monitor, x=x, y=np.zeros((len(x), x[0].size), "float32"), batch_size=len(x))
    (record,) = monitor.history.records
    assert monitor.history.unseen == {}
    return dict(zip(record.statistics, record.values[0], strict=True))


def check(measured, expected, abs=0.0):
    """Compare only the statistics that `expected` names."""
    measured = {name: measured[name] for name in expected}
    assert measured == pytest.approx(expected, rel=1e-5, abs=abs)


def test_entries_that_are_not_finite_are_left_out():
    x = RNG.normal(size=(6, 5)).astype("float32")
    x[0, 0], x[1, 1], x[2, 1] = np.nan, np.inf, -np.inf
    finite = x[np.isfinite(x)].astype(np.float64)
    units = [unit[np.isfinite(unit)].astype(np.float64) for unit in x.T]
    expected = {
        "nonfinite": 3,
        "mean": finite.mean(),
        "stddev": finite.std(),
        "norm": np.linalg.norm(finite),
        "min": finite.min(),
        "max": finite.max(),
        "zero_share": 0,
        "unit_stddev": np.mean([unit.std() for unit in units]),
    }
    check(recorded_row(x), expected)


# The quick measure is valid for a constant unit, whose least and largest entry are equal, too.
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_unit_that_is_infinite_throughout_is_not_finite(value):
    x = RNG.normal(size=(6, 5)).astype("float32")
    x[:, 3] = value
    finite = np.delete(x, 3, axis=1).astype(np.float64)
    check(recorded_row(x), {"nonfinite": 6, "mean": finite.mean(), "stddev": finite.std()})


SPREAD = ("mean", "stddev", "unit_stddev", "norm")


def expected_spread(entries):
    expected = expected_row(entries)
    return {name: expected[name] for name in SPREAD}


def test_masked_timesteps_do_not_count():
    x = RNG.normal(size=(4, 5, 3)).astype("float32")
    x[1, 2:], x[3] = -7, -7
    is_masked = np.all(x == -7, axis=-1)
    check(recorded_row(x, masked=True), expected_spread(x[~is_masked]), abs=1e-6)


def test_masked_timesteps_do_not_count_in_pre_activations():
    x = RNG.normal(size=(4, 5, 3)).astype("float32")
    x[1, 2:], x[3, 1:] = 0, 0
    dense = layers.Dense(4, "tanh", bias_initializer="ones", name="dense")
    parts = [keras.Input((5, 3)), layers.Masking(), dense, layers.GlobalAveragePooling1D()]
    model = compiled(keras.Sequential(parts, name="m"), "sgd")
    kernel, monitor = np.array(dense.kernel), ActivationMonitor(every=1)
    fit(model, monitor, x=x, y=np.zeros((4, 4)))
    z = x[np.any(x != 0, axis=-1)] @ kernel + 1.0
    check(row(monitor.history.records[0], "dense.pre"), expected_spread(z), abs=1e-6)


def test_samples_of_each_unit_are_counted():
    parts = [layers.Conv2D(3, 1), layers.Flatten(), layers.Dense(2)]
    model = compiled(keras.Sequential([keras.Input((4, 5, 2)), *parts]), "sgd")
    x, y = np.ones((6, 4, 5, 2), "float32"), np.ones((6, 2), "float32")
    for samples, counts in ((None, [120, 6]), (3, [60, 3])):
        monitor = ActivationMonitor(every=1, samples=samples, layers=(layers.Conv2D, layers.Dense))
        fit(model, monitor, x=x, y=y)
        assert monitor.history.records[0].unit_samples.tolist() == counts


def test_rows_stay_in_execution_order_if_only_some_are_masked():
    x = RNG.normal(3, 1, (8, 5, 3)).astype("float32")
    x[2, 1:] = 0
    inputs = keras.Input((5, 3))
    pooled = layers.GlobalAveragePooling1D(name="pool")(layers.Masking(name="masked")(inputs))
    model = compiled(keras.Model(inputs, layers.Dense(2, name="last")(-pooled)), "sgd")
    monitor = ActivationMonitor(every=1, statistics=["mean", "min"])
    fit(model, monitor, x=x, y=np.zeros((8, 2)))
    record = monitor.history.records[0]
    assert [name for name in record.layers if name != "negative"] == ["masked", "pool", "last"]
    counts = np.any(x != 0, axis=-1)
    pool = np.array([series[kept].mean(axis=0) for series, kept in zip(x, counts, strict=True)])
    for name, entries in (("masked", x[counts]), ("pool", pool)):
        check(row(record, name), {"mean": entries.mean(), "min": entries.min()})


def test_small_gradients_that_differ_are_not_repeated():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="one")], name="m")
    monitor = ActivationMonitor(every=1)
    x, y = RNG.normal(size=(8, 6)), RNG.normal(size=(8, 3))
    fit(compiled(model, "sgd"), monitor, x=1e-8 * x.astype("float32"), y=y.astype("float32"))
    measured = variable(monitor.history.records[0], "one/kernel")
    assert measured["gradient_norm"] < 1e-6 < measured["weight_norm"]
    assert measured["gradient_repeated"] == measured["weight_repeated"] == 0


@pytest.fixture
def channels_first():
    usual = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(usual)


# The three units of the first axis after the batch are constant.
IMAGES = np.broadcast_to(np.arange(3.0)[:, None, None], (2, 3, 4, 5)).astype("float32")


def test_units_lie_on_the_last_axis():
    assert recorded_row(IMAGES)["unit_stddev"] > 0.5


@pytest.mark.usefixtures("channels_first")
def test_units_of_channels_first_lie_on_the_first_axis():
    assert recorded_row(IMAGES)["unit_stddev"] == 0


@pytest.mark.usefixtures("channels_first")
def test_units_of_dense_layers_always_lie_on_the_last_axis():
    dense = layers.Dense(6, "relu", name="dense")
    parts = [keras.Input((4, 5, 3)), dense, layers.Flatten(), layers.Dense(3)]
    model = compiled(keras.Sequential(parts), "sgd")
    kernel, bias = dense.get_weights()
    bias[2] = -100
    dense.set_weights([kernel, bias])
    monitor = ActivationMonitor(every=1, statistics="dead_units")
    model.fit(RNG.normal(size=(16, 4, 5, 3)), Y, verbose=0, callbacks=[monitor])
    assert row(monitor.history.records[0], "dense")["dead_units"] == 1


def test_gradient_norms_do_not_depend_on_the_scale_of_the_loss():
    norms = []
    for scaled in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3, "tanh")])
        optimizer = keras.optimizers.SGD()
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
        monitor = ActivationMonitor(every=1, statistics="gradient_norm")
        fit(compiled(model, optimizer), monitor)
        record = monitor.history.records[1]
        assert record.layers == ()
        norms.append(record.variable_values)
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_gradients_of_a_repeated_word_add_up():
    words = keras.Input((4,), dtype="int32")
    model = keras.Model(words, layers.Flatten()(layers.Embedding(5, 2, name="e")(words)))
    compiled(model, keras.optimizers.SGD(1.0), "mse")
    monitor, before = ActivationMonitor(every=1), model.get_weights()[0]
    x, y = np.array([[1, 1, 1, 2]] * 8), np.ones((8, 8), "float32")
    fit(model, monitor, x=x, y=y)
    update_norm = np.linalg.norm((before - model.get_weights()[0]).astype(np.float64))
    # The learning rate is 1.
    expected = {"gradient_norm": update_norm, "update_norm": update_norm}
    check(variable(monitor.history.records[0], "e/embeddings"), expected)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 by default")
def test_updates_below_the_resolution_of_float32():
    dense = layers.Dense(3, dtype="float64", name="dense")
    model = compiled(keras.Sequential([keras.Input((6,), dtype="float64"), dense]))
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    before = dense.get_weights()[0]
    monitor = ActivationMonitor(every=1, statistics="update_norm")
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[monitor])
    update_norm = np.linalg.norm(dense.get_weights()[0] - before)
    assert 0 < update_norm < 1e-7
    check(variable(monitor.history.records[0], "dense/kernel"), {"update_norm": update_norm})


class TwoUpdates(keras.Model):
    """A model that calls its optimizer twice in a step, with gradients that are known."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, use_bias=False)
        self.build((None, 6))

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, x):
        return self.dense(x)

    def train_step(self, *arguments):
        if keras.backend.backend() != "jax":
            for value in (1.0, 2.0):
                gradients = [value * keras.ops.ones((6, 3))]
                self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": 0.0}
        (trainable, others, optimizer, metrics), _ = arguments
        for value in (1.0, 2.0):
            gradients = [value * keras.ops.ones((6, 3))]
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"loss": 0.0}, (trainable, others, optimizer, metrics)


def test_two_calls_of_the_optimizer_are_one_update():
    model, monitor = compiled(TwoUpdates(), keras.optimizers.SGD(0.5)), ActivationMonitor(every=1)
    weight_norm = np.linalg.norm(keras.ops.convert_to_numpy(model.dense.kernel))
    fit(model, monitor, batch_size=16)
    (record,) = monitor.history.records
    (name,) = record.variables
    measured = variable(record, name)
    expected = {"weight_norm": weight_norm, "gradient_norm": 3 * 18**0.5}
    expected |= {"update_norm": 1.5 * 18**0.5, "update_ratio": 1.5 * 18**0.5 / weight_norm}
    check(measured, expected)
