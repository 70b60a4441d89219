"""The monitor's numbers against plain numpy, its schedule, its manners."""

import csv
import json
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from scenarios import BACKEND, X, Y, compiled

import keras_winit
from keras_winit import ActivationMonitor
from keras_winit.monitor import STATISTICS
from keras_winit.monitor.taps import Once

CALL = keras.layers.Layer.__call__
RNG = np.random.default_rng(0)


def fit(model, *callbacks, x=X, y=Y, **options):
    options = {"batch_size": 8, "epochs": 1, "verbose": 0, "shuffle": False, **options}
    return model.fit(x, y, callbacks=list(callbacks), **options)


def row(sample, name):
    return dict(zip(sample.statistics, sample.values[sample.layers.index(name)], strict=True))


def variable(sample, name):
    values = sample.variable_values[sample.variables.index(name)]
    return dict(zip(sample.variable_statistics, values, strict=True))


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


def tiny():
    return compiled(keras.Sequential([keras.Input((6,)), layers.Dense(3, "relu")]), "sgd")


def dense_pair():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, "relu", kernel_initializer="winit>large_normal", name="one"),
            layers.Dense(3, "tanh", kernel_initializer="winit>large_normal", name="two"),
        ],
        name="m",
    )
    model.layers[0].set_weights([RNG.normal(size=(6, 9)), RNG.normal(size=9) - 2])
    model.layers[1].set_weights([RNG.normal(size=(9, 3)), RNG.normal(size=3)])
    return compiled(model, keras.optimizers.SGD(0.1))


@pytest.fixture(scope="module")
def watched():
    """Two steps of plain gradient descent, and the same computed by hand."""
    model = dense_pair()
    weights = [w.astype(np.float64) for w in model.get_weights()]
    monitor = ActivationMonitor(every=1, statistics="all")
    fit(model, monitor)
    return monitor.history.samples, weights


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
        assert [name.removeprefix("m/") for name in sample.layers] == list(activations)
        for name, a in activations.items():
            got, right = row(sample, f"m/{name}"), expected(a)
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
            counts = sample.counts[sample.layers.index(f"m/{name}")]
            assert counts.sum() == a.size
            if name != "two":  # Which may round to 1, an end of a bin.
                inner = np.concatenate([[-np.inf], sample.edges[1:-1], [np.inf]])
                np.testing.assert_array_equal(counts, np.histogram(a, inner)[0])
        paths = ["m/one/kernel", "m/one/bias", "m/two/kernel", "m/two/bias"]
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


def test_only_the_first_samples_of_a_batch():
    model = dense_pair()
    weights = [w.astype(np.float64) for w in model.get_weights()]
    monitor = ActivationMonitor(every=1, samples=3, statistics=["mean", "norm"])
    fit(model, monitor)
    (first, _) = monitor.history.samples
    a = by_hand(weights, X[:3].astype(np.float64), Y[:3].astype(np.float64))[0]["one"]
    assert row(first, "m/one") == pytest.approx(
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
    (sample,) = monitor.history.samples
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
    assert {name: got[name] for name in right} == pytest.approx(right, rel=1e-5)


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
        found.append(monitor.history.samples[1].variable_values)
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_gradients_of_repeated_words_add_up():
    words = keras.Input((4,), dtype="int32")
    model = keras.Model(words, layers.Flatten()(layers.Embedding(5, 2, name="e")(words)))
    compiled(model, keras.optimizers.SGD(1.0), "mse")
    monitor, before = ActivationMonitor(every=1), model.get_weights()[0]
    x, y = np.array([[1, 1, 1, 2]] * 8), np.ones((8, 8), "float32")
    fit(model, monitor, x=x, y=y)
    update = np.linalg.norm((before - model.get_weights()[0]).astype(np.float64))
    got = variable(monitor.history.samples[0], "e/embeddings")
    assert got["gradient_norm"] == pytest.approx(update, rel=1e-5)
    assert got["update_norm"] == pytest.approx(update, rel=1e-5)


def test_the_default_schedule():
    monitor = ActivationMonitor(statistics="mean")
    fit(tiny(), monitor, x=np.tile(X, (7, 1)), y=np.tile(Y, (7, 1)), batch_size=1)
    steps = [sample.step for sample in monitor.history.samples]
    assert steps == [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100]


@pytest.mark.parametrize(
    ("every", "steps"), [(3, [0, 3, 6]), (lambda step: step in (1, 6), [1, 6]), (100, [0])]
)
def test_steps_go_on_over_fits_and_resumed_runs(every, steps):
    model, monitor = tiny(), ActivationMonitor(every=every, statistics=["mean"])
    fit(model, monitor)
    fit(model, monitor, epochs=2)
    fit(model, monitor)
    assert [sample.step for sample in monitor.history.samples] == steps
    later = ActivationMonitor(every=every, statistics=["mean"])
    fit(model, later)
    assert [sample.step for sample in later.history.samples] == [s for s in (8, 9) if s % 3 == 0][
        : every == 3
    ]


def test_a_model_compiled_anew_trains_with_its_new_optimizer():
    finals = []
    for callbacks in ([], [ActivationMonitor(every=1, statistics="mean")]):
        keras.utils.set_random_seed(0)
        model = tiny()
        fit(model, *callbacks)
        compiled(model, keras.optimizers.SGD(1.0))
        fit(model, *callbacks)
        finals.append(model.get_weights())
    for one, other in zip(*finals, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    assert [sample.step for sample in callbacks[0].history.samples] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("layers_", "names"),
    [
        (None, ["one.pre", "one", "two.pre", "two"]),
        ("one", ["one.pre", "one"]),
        ("m/t*", ["two.pre", "two"]),
        (layers.Dense, ["one.pre", "one", "two.pre", "two"]),
        (lambda layer: layer.units == 3, ["two.pre", "two"]),
        (["two", layers.Conv2D], ["two.pre", "two"]),
    ],
)
def test_layers_are_chosen(layers_, names):
    monitor = ActivationMonitor(layers=layers_, statistics="mean")
    fit(dense_pair(), monitor)
    assert [n.removeprefix("m/") for n in monitor.history.samples[0].layers] == names


class Fragile(layers.Layer):
    fails = False

    def call(self, x):
        if self.fails:
            raise ValueError("broken layer")
        return x


class AtEachBatch(keras.callbacks.Callback):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def on_train_batch_begin(self, batch, logs=None):
        self.act()


def test_nothing_is_left_after_an_exception():
    fragile = Fragile()
    model = compiled(keras.Sequential([keras.Input((6,)), layers.Dense(3, "relu"), fragile]))
    activation, monitor = model.layers[0].activation, ActivationMonitor(every=1, statistics="mean")
    breaks = AtEachBatch(lambda: setattr(fragile, "fails", True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="broken layer"):
            fit(model, monitor, breaks)
    assert keras.layers.Layer.__call__ is CALL
    assert model.layers[0].activation is activation
    for part in (model, model.optimizer):
        assert not {"train_step", "compute_loss", "apply", "stateless_apply"} & set(vars(part))


def test_nothing_is_left_after_an_interrupt():
    model, monitor = tiny(), ActivationMonitor(every=1, statistics="mean")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, monitor, AtEachBatch(stop))
    assert keras.layers.Layer.__call__ is CALL
    monitor.on_train_begin()
    assert not isinstance(model.train_function, Once)
    fit(model, monitor)
    assert not isinstance(model.train_function, Once)
    assert [sample.step for sample in monitor.history.samples] == [0, 1]


def test_a_schedule_that_fails_ends_the_watch():
    message = "`ActivationMonitor` watches no more, training goes on. Received: KeyError: 1"
    monitor, model = (
        ActivationMonitor(every=lambda step: {0: True}[step], statistics="mean"),
        tiny(),
    )
    with pytest.warns(RuntimeWarning) as caught:
        fit(model, monitor)
    assert [str(one.message) for one in caught if one.category is RuntimeWarning] == [message]
    assert [sample.step for sample in monitor.history.samples] == [0]
    assert int(model.optimizer.iterations) == 2


class OwnFunction(keras.Model):
    def make_train_function(self, force=False):
        return super().make_train_function(force)


def test_a_model_with_its_own_train_function():
    inputs = keras.Input((6,))
    model = compiled(OwnFunction(inputs, layers.Dense(3)(inputs)))
    monitor = ActivationMonitor()
    message = (
        "`ActivationMonitor` watches no more, training goes on. "
        "Received: TypeError: OwnFunction makes its own train function"
    )
    with pytest.warns(RuntimeWarning) as caught:
        fit(model, monitor)
    assert [str(one.message) for one in caught if one.category is RuntimeWarning] == [message]
    assert str(monitor) == "nothing was measured yet"


class Remat(layers.Layer):
    """Calls its layer where a tap cannot look."""

    def build(self, shape):
        self.dense = layers.Dense(6, "relu", name="inner")
        self.dense.build(shape)

    def call(self, x):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            loop = tf.while_loop(lambda i, _: i < 1, lambda i, x: (i + 1, self.dense(x)), [0, x])
            return loop[1]
        # A new function each time: JAX remembers how it traced the last one.
        return keras.remat(lambda x: self.dense(x))(x)


@pytest.mark.skipif(BACKEND == "torch", reason="torch runs everything in the open")
def test_what_cannot_be_seen_is_said_once():
    model = compiled(keras.Sequential([keras.Input((6,)), Remat(name="loop"), layers.Dense(3)]))
    monitor = ActivationMonitor(every=1, statistics="mean")
    fit(model, monitor, epochs=2)
    assert len(monitor.history.samples) == 4
    (name,) = monitor.history.unseen
    assert name.endswith("inner")
    assert str(monitor).endswith(
        f"{name}: not seen, runs inside a scan, a loop, a checkpoint or a nested function"
    )


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_a_step_that_cannot_be_traced_with_taps_trains_untapped():
    import jax

    class Micro(keras.Model):
        def train_step(self, state, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            split = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), (x, y))

            def one(state, part):
                logs, state = super(Micro, self).train_step(state, part)
                return state, logs

            state, logs = jax.lax.scan(one, tuple(map(list, state)), split)
            return jax.tree.map(lambda a: a[-1], logs), state

    finals = []
    for callbacks in ([], [ActivationMonitor(every=1, statistics="mean")]):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        model = compiled(Micro(inputs, layers.Dense(3)(inputs)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(model, *callbacks)
        assert int(model.optimizer.iterations) == 4
        finals.append(model.get_weights())
    for one, other in zip(*finals, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_callbacks_have_their_way(tmp_path):
    monitor, folder = ActivationMonitor(every=1, statistics="mean"), tmp_path / "backup"
    model = compiled(tiny(), metrics=["mae"])
    others = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", save_freq=1),
        keras.callbacks.BackupAndRestore(folder),
        keras.callbacks.EarlyStopping(patience=5),
    ]
    history = fit(model, *others, monitor, validation_data=(X, Y), epochs=2)
    assert set(history.history) == {"loss", "mae", "val_loss", "val_mae"}
    assert [sample.step for sample in monitor.history.samples] == [0, 1, 2, 3]
    again = keras.models.load_model(tmp_path / "2.keras")
    np.testing.assert_allclose(again.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)


def test_history_as_rows_and_files(watched, tmp_path):
    monitor = ActivationMonitor()
    monitor.history.samples = watched[0]
    rows = list(monitor.history)
    assert len(rows) == len(monitor.history)
    assert rows[0] == {
        "step": 0,
        "layer": "loss",
        "call": 0,
        "statistic": "loss",
        "value": watched[0][0].loss,
    }
    assert [r["layer"] for r in rows if r["step"] == 0 and r["statistic"] == "dead_share"] == [
        "m/one"
    ]
    monitor.history.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = [{**r, "value": float(r["value"])} for r in csv.DictReader(file)]
    assert [(r["layer"], r["value"]) for r in read] == [(r["layer"], r["value"]) for r in rows]
    monitor.history.to_jsonl(tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    steps, values = monitor.history.curve("m/two/kernel", "gradient_norm")
    assert steps.tolist() == [0, 1]
    place = watched[0][1].variable_values[2, 1]
    assert values[1] == pytest.approx(float(place))
    with pytest.raises(KeyError, match="no step has 'mean' of 'm/three'"):
        monitor.history.curve("m/three", "mean")


def test_the_table_has_a_line_for_each_layer(watched, capsys):
    monitor = ActivationMonitor(verbose=1)
    monitor.history.samples = watched[0]
    title, heads, *lines = str(monitor).splitlines()
    assert title == f"step 1, loss {watched[0][1].loss:.4g}"
    assert heads.split() == [
        *("layer", "mean", "stddev", "unit", "stddev", "zero", "dead", "saturated"),
        *("gradient", "update/weight"),
    ]
    assert [line.split()[0] for line in lines] == ["m/one", "m/two"]
    assert {len(line) for line in (heads, *lines)} == {len(heads)}
    assert lines[1].split()[5] == "-"
    monitor.on_epoch_end(0)
    assert capsys.readouterr().out == f"{monitor}\n"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"every": 0},
            ValueError,
            "`ActivationMonitor(every=...)` must be an integer >= 1. Received: every=0.",
        ),
        (
            {"every": 1.5},
            TypeError,
            "`ActivationMonitor(every=...)` must be an integer >= 1. Received: every=1.5.",
        ),
        (
            {"samples": 0},
            ValueError,
            "`ActivationMonitor(samples=...)` must be an integer >= 1. Received: samples=0.",
        ),
        (
            {"statistics": ["mean", "median"]},
            ValueError,
            "`ActivationMonitor(statistics=...)` must be names out of "
            f"{', '.join(STATISTICS)}. Received: statistics=['mean', 'median'].",
        ),
        (
            {"layers": 3},
            TypeError,
            "`ActivationMonitor(layers=...)` must be a pattern, a layer class, a predicate or "
            "several of them. Received: layers=3.",
        ),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error) as caught:
        ActivationMonitor(**options)
    assert str(caught.value) == message


def test_the_picture(watched, tmp_path):
    monitor = ActivationMonitor()
    message = (
        "`plots.layers(samples=...)` needs samples with `unit_stddev`. Received: 0 samples without."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        monitor.plot()
    monitor.history.samples = watched[0]
    picture = monitor.plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    profile, ratio, dead, *_ = picture.axes
    stddevs = [row(watched[0][1], name)["unit_stddev"] for name in ("m/one", "m/two")]
    np.testing.assert_allclose(profile.lines[-1].get_xdata(), stddevs, rtol=1e-6)
    first = [row(watched[0][0], name)["unit_stddev"] for name in ("m/one", "m/two")]
    np.testing.assert_allclose(
        ratio.images[0].get_array()[:, 1], np.log10(np.divide(stddevs, first)), rtol=1e-4
    )
    assert dead.images[0].get_array().mask.tolist() == [[False, False], [True, True]]


def test_public_names():
    assert keras_winit.ActivationMonitor is ActivationMonitor
