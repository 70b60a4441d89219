"""The monitor's numbers against plain numpy."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.monitored import RNG, dense_pair, fit, row, variable
from support.scenarios import X, Y, compiled

from keras_winit import ActivationMonitor


def expected(a):
    """Every statistic of a layer's finite entries, in float64 and with numpy's own words."""
    a = np.asarray(a, np.float64)
    units = a.reshape(-1, a.shape[-1])
    return {
        "mean": a.mean(),
        "stddev": a.std(),
        "unit_stddev": units.std(axis=0).mean(),
        "min": a.min(),
        "max": a.max(),
        "zero_share": np.mean(a == 0),
        "nonfinite": 0,
        "norm": np.linalg.norm(a),
        "dead_units": np.all(units <= 0, axis=0).sum(),
        "dead_share": np.all(units <= 0, axis=0).mean(),
        **{q: np.quantile(a, v) for q, v in QUANTILES.items()},
    }


QUANTILES = {"q01": 0.01, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q99": 0.99}


@pytest.fixture(scope="module")
def watched():
    """Two steps of plain gradient descent, and the same computed by hand."""
    model = dense_pair()
    weights = [w.astype(np.float64) for w in model.get_weights()]
    monitor = ActivationMonitor(every=1, statistics="all")
    fit(model, monitor)
    return monitor.history.records, weights


def by_hand(weights, x, y):
    k1, b1, k2, b2 = weights
    z1 = x @ k1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ k2 + b2
    a2 = np.tanh(z2)
    g2 = 2 * (a2 - y) / y.size * (1 - a2**2)
    g1 = (g2 @ k2.T) * (z1 > 0)
    gradients = [x.T @ g1, g1.sum(axis=0), a1.T @ g2, g2.sum(axis=0)]
    return {"one.pre": z1, "one": a1, "two.pre": z2, "two": a2}, gradients, np.mean((a2 - y) ** 2)


def repeated(kernel):
    if kernel.ndim < 2:
        return np.nan
    columns = np.round(kernel / np.abs(kernel).max(), 6)
    return 1 - (np.unique(columns, axis=1).shape[1] - 1) / (kernel.shape[1] - 1)


def test_every_statistic_is_what_numpy_says(watched):
    samples, weights = watched
    for sample, start in zip(samples, (0, 8), strict=True):
        batch = X[start : start + 8].astype(np.float64), Y[start : start + 8].astype(np.float64)
        activations, gradients, loss = by_hand(weights, *batch)
        np.testing.assert_allclose(sample.loss, loss, rtol=1e-5)
        assert list(sample.layers) == list(activations)
        for name, a in activations.items():
            got, right = row(sample, name), expected(a)
            if name != "one":
                assert np.isnan(got.pop("dead_units"))
                assert np.isnan(got.pop("dead_share"))
            saturated = got.pop("saturated_share")
            if name == "two":
                flat = np.abs(activations["two.pre"]) > np.arctanh(np.sqrt(0.95))
                assert saturated == pytest.approx(flat.mean(), rel=1e-6)
            else:
                assert np.isnan(saturated)
            for statistic, value in got.items():
                # A mean and a quantile near zero have the spread for a scale.
                assert value == pytest.approx(right[statistic], rel=1e-5, abs=1e-5 * a.std())
            counts = sample.counts[sample.layers.index(name)]
            assert counts.sum() == a.size
            if name != "two":  # Which may round to 1, an end of a bin.
                inner = np.concatenate([[-np.inf], sample.edges[1:-1], [np.inf]])
                np.testing.assert_array_equal(counts, np.histogram(a, inner)[0])
        paths = ["one/kernel", "one/bias", "two/kernel", "two/bias"]
        assert list(sample.variables) == paths
        for path, w, g in zip(paths, weights, gradients, strict=True):
            norm, size = np.linalg.norm(g), np.linalg.norm(w)
            assert variable(sample, path) == pytest.approx(
                {
                    "weight_norm": size,
                    "gradient_norm": norm,
                    "update_norm": 0.1 * norm,
                    "update_ratio": 0.1 * norm / size,
                    "gradient_nonfinite": 0,
                    "weight_repeated": repeated(w),
                    "gradient_repeated": repeated(g),
                },
                rel=1e-5,
                nan_ok=True,
            )
        assert sample.inputs == ("input",)
        right = expected(batch[0])
        for statistic, value in zip(sample.statistics, sample.input_values[0], strict=True):
            if statistic not in ("dead_units", "dead_share", "saturated_share"):
                assert value == pytest.approx(right[statistic], rel=1e-5, abs=1e-5)
        weights = [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]


@pytest.mark.parametrize("eager", [True, False])
def test_inputs_whatever_the_batch_is_made_of(eager):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    model.compile("sgd", "mse", run_eagerly=eager)
    monitor = ActivationMonitor(every=1)
    fit(model, monitor, batch_size=len(X))
    (sample,) = monitor.history.records
    assert sample.inputs == ("input",)
    spread = sample.input_values[0, sample.statistics.index("unit_stddev")]
    assert spread == pytest.approx(X.std(axis=0).mean(), rel=1e-5)


def test_only_the_first_samples_of_a_batch():
    model = dense_pair()
    weights = [w.astype(np.float64) for w in model.get_weights()]
    monitor = ActivationMonitor(every=1, samples=3, statistics=["mean", "norm"])
    fit(model, monitor)
    (first, _) = monitor.history.records
    a = by_hand(weights, X[:3].astype(np.float64), Y[:3].astype(np.float64))[0]["one"]
    assert row(first, "one") == pytest.approx(
        {"mean": a.mean(), "norm": np.linalg.norm(a)}, rel=1e-5
    )
    assert first.variables == ()
    assert first.variable_values.shape == (0, 0)


class Give(layers.Layer):
    """Gives what it was given, with a weight to train that changes nothing."""

    def __init__(self, **options):
        super().__init__(**options)
        self.supports_masking = True

    def build(self, shape):
        self.idle = self.add_weight(shape=(), initializer="zeros", name="idle")

    def call(self, x):
        return x + 0 * self.idle


def given(x, mask=None, **options):
    """What the monitor says of these values as a layer's output."""
    inputs = [keras.Input(x.shape[1:])]
    values = layers.Masking(-7.0)(inputs[0]) if mask == "masking" else inputs[0]
    values = Give(**options)(values)
    outputs = layers.GlobalAveragePooling1D()(layers.Reshape((1, -1))(values))
    model = compiled(keras.Model(inputs, outputs), "sgd")
    monitor = ActivationMonitor(every=1, layers=Give)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of masks that are not used further down.
        fit(model, monitor, x=x, y=np.zeros((len(x), x[0].size), "float32"), batch_size=len(x))
    (sample,) = monitor.history.records
    assert monitor.history.unseen == {}
    return dict(zip(sample.statistics, sample.values[0], strict=True))


def test_one_nan_does_not_blank_a_row():
    x = RNG.normal(size=(6, 5)).astype("float32")
    x[0, 0], x[1, 1], x[2, 1] = np.nan, np.inf, -np.inf
    got, finite = given(x), x[np.isfinite(x)].astype(np.float64)
    assert got["nonfinite"] == 3
    right = {"mean": finite.mean(), "stddev": finite.std(), "norm": np.linalg.norm(finite)}
    right |= {"min": finite.min(), "max": finite.max(), "zero_share": 0}
    columns = [column[np.isfinite(column)].astype(np.float64).std() for column in x.T]
    right["unit_stddev"] = np.mean(columns)
    assert {name: got[name] for name in right} == pytest.approx(right, rel=1e-5)


def test_masked_timesteps_do_not_count():
    x = RNG.normal(size=(4, 5, 3)).astype("float32")
    x[1, 2:], x[3] = -7, -7
    got, seen = given(x, "masking"), x[~np.all(x == -7, axis=-1)].astype(np.float64)
    # Keras gives zeros for them.
    right = {name: expected(seen)[name] for name in ("mean", "stddev", "unit_stddev", "norm")}
    assert {name: got[name] for name in right} == pytest.approx(right, rel=1e-5, abs=1e-6)


def test_masked_timesteps_do_not_count_before_the_activation_either():
    x = RNG.normal(size=(4, 5, 3)).astype("float32")
    x[1, 2:], x[3, 1:] = 0, 0
    dense = layers.Dense(4, "tanh", bias_initializer="ones", name="dense")
    rows = [keras.Input((5, 3)), layers.Masking(), dense, layers.GlobalAveragePooling1D()]
    model = compiled(keras.Sequential(rows, name="m"), "sgd")
    kernel, monitor = np.array(dense.kernel), ActivationMonitor(every=1)
    fit(model, monitor, x=x, y=np.zeros((4, 4)))
    z = x[np.any(x != 0, axis=-1)] @ kernel + 1.0
    got = row(monitor.history.records[0], "dense.pre")
    right = {name: expected(z)[name] for name in ("mean", "stddev", "unit_stddev", "norm")}
    assert {name: got[name] for name in right} == pytest.approx(right, rel=1e-5, abs=1e-6)


# All of a unit, so that it looks like a constant.
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_units_that_are_infinite_throughout_are_not_finite(value):
    x = RNG.normal(size=(6, 5)).astype("float32")
    x[:, 3] = value
    got, finite = given(x), np.delete(x, 3, axis=1).astype(np.float64)
    assert got["nonfinite"] == 6
    assert got["mean"] == pytest.approx(finite.mean(), rel=1e-5)
    assert got["stddev"] == pytest.approx(finite.std(), rel=1e-5)


def test_samples_of_each_unit_are_counted():
    rows = [layers.Conv2D(3, 1), layers.Flatten(), layers.Dense(2)]
    model = compiled(keras.Sequential([keras.Input((4, 5, 2)), *rows]), "sgd")
    x, y = np.ones((6, 4, 5, 2), "float32"), np.ones((6, 2), "float32")
    for samples, counts in ((None, [120, 6]), (3, [60, 3])):
        monitor = ActivationMonitor(every=1, samples=samples, layers=(layers.Conv2D, layers.Dense))
        fit(model, monitor, x=x, y=y)
        assert monitor.history.records[0].unit_samples.tolist() == counts


def test_rows_stay_in_order_where_only_some_are_masked():
    x = RNG.normal(3, 1, (8, 5, 3)).astype("float32")
    x[2, 1:] = 0
    series = keras.Input((5, 3))
    pooled = layers.GlobalAveragePooling1D(name="pool")(layers.Masking(name="masked")(series))
    model = compiled(keras.Model(series, layers.Dense(2, name="last")(-pooled)), "sgd")
    monitor = ActivationMonitor(every=1, statistics=["mean", "min"])
    fit(model, monitor, x=x, y=np.zeros((8, 2)))
    sample = monitor.history.records[0]
    assert [name for name in sample.layers if name != "negative"] == ["masked", "pool", "last"]
    seen = np.any(x != 0, axis=-1)
    pool = np.array([series[here].mean(axis=0) for series, here in zip(x, seen, strict=True)])
    for name, right in (("masked", x[seen]), ("pool", pool)):
        want = {"mean": right.mean(), "min": right.min()}
        assert row(sample, name) == pytest.approx(want, rel=1e-5)


def test_gradients_are_alike_by_their_own_size():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="one")], name="m")
    monitor = ActivationMonitor(every=1)
    x, y = RNG.normal(size=(8, 6)), RNG.normal(size=(8, 3))
    fit(compiled(model, "sgd"), monitor, x=1e-8 * x.astype("float32"), y=y.astype("float32"))
    got = variable(monitor.history.records[0], "one/kernel")
    assert got["gradient_norm"] < 1e-6 < got["weight_norm"]
    assert got["gradient_repeated"] == got["weight_repeated"] == 0


def test_units_of_channels_first():
    x = np.broadcast_to(np.arange(3.0)[:, None, None], (2, 3, 4, 5)).astype("float32").copy()
    before = keras.config.image_data_format()
    assert given(x)["unit_stddev"] > 0.5
    keras.config.set_image_data_format("channels_first")
    try:
        assert given(x)["unit_stddev"] == 0
    finally:
        keras.config.set_image_data_format(before)


def test_norms_are_free_of_the_scale_of_the_loss():
    found = []
    for scaled in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3, "tanh")])
        optimizer = keras.optimizers.SGD()
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
        monitor = ActivationMonitor(every=1, statistics="gradient_norm")
        fit(compiled(model, optimizer), monitor)
        found.append(monitor.history.records[1].variable_values)
        assert monitor.history.records[1].layers == ()
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_gradients_of_repeated_words_add_up():
    words = keras.Input((4,), dtype="int32")
    model = keras.Model(words, layers.Flatten()(layers.Embedding(5, 2, name="e")(words)))
    compiled(model, keras.optimizers.SGD(1.0), "mse")
    monitor, before = ActivationMonitor(every=1), model.get_weights()[0]
    x, y = np.array([[1, 1, 1, 2]] * 8), np.ones((8, 8), "float32")
    fit(model, monitor, x=x, y=y)
    update = np.linalg.norm((before - model.get_weights()[0]).astype(np.float64))
    got = variable(monitor.history.records[0], "e/embeddings")
    assert got["gradient_norm"] == pytest.approx(update, rel=1e-5)
    assert got["update_norm"] == pytest.approx(update, rel=1e-5)


@pytest.fixture
def channels_first():
    usual = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(usual)


def test_dense_layers_have_their_units_last_whatever_images_have(channels_first):
    dense = layers.Dense(6, "relu", name="dense")
    parts = [keras.Input((4, 5, 3)), dense, layers.Flatten(), layers.Dense(3)]
    model = compiled(keras.Sequential(parts), "sgd")
    kernel, bias = dense.get_weights()
    bias[2] = -100
    dense.set_weights([kernel, bias])
    monitor = ActivationMonitor(every=1, statistics="dead_units")
    model.fit(RNG.normal(size=(16, 4, 5, 3)), Y, verbose=0, callbacks=[monitor])
    assert row(monitor.history.records[0], "dense")["dead_units"] == 1


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="has no float64 by itself")
def test_updates_that_float32_cannot_tell_apart():
    dense = layers.Dense(3, dtype="float64", name="dense")
    model = compiled(keras.Sequential([keras.Input((6,), dtype="float64"), dense]))
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    before = dense.get_weights()[0]
    monitor = ActivationMonitor(every=1, statistics="update_norm")
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[monitor])
    moved = np.linalg.norm(dense.get_weights()[0] - before)
    found = variable(monitor.history.records[0], "dense/kernel")["update_norm"]
    assert 0 < moved < 1e-7
    assert found == pytest.approx(moved, rel=1e-5)
