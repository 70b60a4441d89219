"""`keras.distribution` on JAX with eight devices: values, layouts and statistics."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers
from support.laws import numpy
from support.monitored import row, variable

import keras_winit

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX has this")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6)).astype("float32")
Y = RNG.normal(size=(16, 8)).astype("float32")
FEW = ("mean", "stddev", "min", "max", "dead_units", "nonfinite", "norm")
OF_VARIABLES = ("weight_norm", "gradient_norm", "update_norm")

# For each distribution, the mesh and the number of different shards of the kernel of layer `one`.
MESHES = {"data": ((8,), 1), "model": ((2, 4), 4)}


@pytest.fixture(params=MESHES)
def distributed(request):
    """Distribute over eight devices; return the number of shards of a kernel."""
    shape, shards = MESHES[request.param]
    devices = keras.distribution.list_devices()[:8]
    if len(shape) == 1:
        parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh(shape, ["batch", "model"], devices)
        layout = keras.distribution.LayoutMap(mesh)
        layout[".*one/kernel"] = (None, "model")
        layout[".*one/bias"] = ("model",)
        layout[".*two/kernel"] = ("model", None)
        parallel = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    with parallel.scope():
        yield shards


def build():
    one = layers.Dense(16, "relu", kernel_initializer=keras_winit.HeNormal(seed=1), name="one")
    two = layers.Dense(8, kernel_initializer=keras_winit.HeUniform(seed=2), name="two")
    model = keras.Sequential([keras.Input((6,)), one, two])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


@pytest.fixture(scope="module")
def single():
    """Return the weights of a model on one device: as built, and after each start."""
    found = {"built": [numpy(w) for w in build().weights]}
    for name, start in STARTS.items():
        model = build()
        start(model)
        found[name] = [numpy(w) for w in model.weights]
    return found


STARTS = {
    "reinitialize": lambda model: keras_winit.reinitialize(model, seed=3),
    "lsuv": lambda model: keras_winit.lsuv(model, X, seed=3),
    "lsuv by unit": lambda model: keras_winit.lsuv(
        model, X, seed=3, per_channel=True, center=True, orthogonal=False
    ),
    "analytic_init": lambda model: keras_winit.analytic_init(model, seed=3),
}


def shardings(model):
    return [w.value.sharding for w in model.weights]


def test_values_do_not_depend_on_the_mesh_and_every_start_keeps_it(distributed, single):
    model = build()
    kernel = model.layers[0].kernel.value
    assert {shard.data.size for shard in kernel.addressable_shards} == {6 * 16 // distributed}
    assert len(kernel.addressable_shards) == 8
    for weight, expected in zip(model.weights, single["built"], strict=True):
        np.testing.assert_array_equal(numpy(weight), expected)
    before = shardings(model)
    report = keras_winit.signal_report(model, X, Y)
    assert report.unseen == {}
    outputs = np.maximum(X.astype("float64") @ single["built"][0], 0)
    assert row(report.record, "one")["stddev"] == pytest.approx(outputs.std(), rel=1e-5)
    assert shardings(model) == before
    for name, start in STARTS.items():
        model = build()
        start(model)
        assert shardings(model) == before, name
        for weight, expected in zip(model.weights, single[name], strict=True):
            # A sum over several devices may be rounded differently.
            np.testing.assert_allclose(numpy(weight), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_start_that_fails_restores_values_and_layouts(distributed):
    model = build()
    values, before = [numpy(w) for w in model.weights], shardings(model)
    with contextlib.suppress(ValueError):
        keras_winit.lsuv(model, np.full_like(X, np.nan))
    assert shardings(model) == before
    for weight, expected in zip(model.weights, values, strict=True):
        np.testing.assert_array_equal(numpy(weight), expected)


def test_records_are_those_of_numpy_on_the_whole_batch(distributed, single):
    model = build()
    before = shardings(model)
    monitor = keras_winit.ActivationMonitor(every=1, statistics=(*FEW, *OF_VARIABLES), verbose=0)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[monitor])
    assert shardings(model) == before
    assert monitor.history.unseen == {}
    weights = [w.astype("float64") for w in single["built"]]
    assert [record.step for record in monitor.history.records] == [0, 1]
    for record in monitor.history.records:
        batch = slice(8 * record.step, 8 * record.step + 8)
        weights = check(record, weights, X[batch].astype("float64"), Y[batch])


def check(record, weights, x, y):
    """Compare a record with numpy, and return the weights after the step."""
    k1, b1, k2, b2 = weights
    z = x @ k1 + b1
    a = np.maximum(z, 0)
    error = a @ k2 + b2 - y
    g2 = 2 * error / y.size
    g1 = (g2 @ k2.T) * (z > 0)
    gradients = [x.T @ g1, g1.sum(0), a.T @ g2, g2.sum(0)]
    assert record.loss == pytest.approx(np.mean(error**2), rel=1e-5)
    for name, entries in {"one.pre": z, "one": a, "two": error + y}.items():
        expected = {
            "mean": entries.mean(),
            "stddev": entries.std(),
            "min": entries.min(),
            "max": entries.max(),
            "dead_units": np.all(a <= 0, axis=0).sum() if name == "one" else np.nan,
            "nonfinite": 0,
            "norm": np.linalg.norm(entries),
        }
        assert row(record, name) == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
    for name, weight, gradient in zip(record.variables, weights, gradients, strict=True):
        norm = np.linalg.norm(gradient)
        expected = (np.linalg.norm(weight), norm, 0.1 * norm)
        measured = variable(record, name)
        assert [measured[key] for key in OF_VARIABLES] == pytest.approx(expected, rel=1e-4)
    return [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]
