"""`tf.distribute.MirroredStrategy` on two logical devices, against numpy on the whole batch."""

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has this strategy"
)

SETUP = """
import contextlib, numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, keras_winit as kw
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
Dense, X = keras.layers.Dense, np.random.default_rng(0).normal(size=(64, 6)).astype("float32")

def build(first="winit>he_normal", second="winit>he_normal"):
    one = Dense(9, "relu", kernel_initializer=first, name="one")
    two = Dense(3, "tanh", kernel_initializer=second, name="two")
    model = keras.Sequential([keras.Input((6,)), one, two])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model

def mirrored(*initializers):
    with strategy.scope():
        return build(*initializers)

def copies(model):
    values = [strategy.experimental_local_results(v.value) for v in model.weights]
    assert {len(of_replicas) for of_replicas in values} == {2}
    return [[np.asarray(of_replicas[i]) for of_replicas in values] for i in range(2)]

def assert_equal(*models):
    for several in zip(*models, strict=True):
        for value in several[1:]:
            np.testing.assert_array_equal(several[0], value)
"""

WEIGHTS = """
for make in (kw.HeNormal, lambda: kw.HeNormal(seed=3)):
    assert_equal(*copies(mirrored(make(), make())))
generator = keras.random.SeedGenerator(5)
from_generator = mirrored(*[kw.HeNormal(seed=generator)] * 2)
again = kw.HeNormal(seed=keras.random.SeedGenerator(5))
assert_equal(*copies(from_generator), [again((6, 9)), np.zeros(9), again((9, 3)), np.zeros(3)])

model, single = mirrored(), build()
starts = [
    lambda model: kw.reinitialize(model, seed=1),
    lambda model: kw.lsuv(model, X, seed=1),
    lambda model: kw.analytic_init(model, seed=1),
]
for start in starts:
    initial = single.get_weights()
    start(single)
    for scope in (contextlib.nullcontext, strategy.scope):
        model.set_weights(initial)
        with scope():
            start(model)
        assert_equal(*copies(model), single.get_weights())
before = copies(model)
try:
    kw.lsuv(model, X * np.nan)
except ValueError:
    pass
assert_equal(*before, *copies(model))
expected = kw.signal_report(single, X, X[:, :3])
for scope in (contextlib.nullcontext, strategy.scope):
    with scope():
        report = kw.signal_report(model, X, X[:, :3])
    np.testing.assert_array_equal(report.record.values, expected.record.values)
    np.testing.assert_array_equal(report.record.variable_values, expected.record.variable_values)
    assert report.record.loss == expected.record.loss

model.compile("sgd", "mse", steps_per_execution=2)
try:
    model.fit(X[:16], X[:16, :3], batch_size=8, verbose=0)
except tf.errors.InvalidArgumentError as error:
    print("refused")
"""


def test_replicas_start_equal_and_as_one_device_would(fresh_process):
    # If this fails, TensorFlow has begun to run several steps at once on logical devices, and
    # the monitor must record the last of them.
    assert fresh_process(SETUP + WEIGHTS) == "refused\n"


# In the first data set, the second batch has five samples: three for one replica and two for the
# other. In the second data set, it has one sample, so that one replica gets an empty batch.
NUMBERS = """
Y = np.random.default_rng(1).normal(size=(64, 9)).astype("float32")
with strategy.scope():
    model = keras.Sequential([keras.Input((6,)), Dense(9, "relu6", name="one")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
kernel = np.random.default_rng(2).normal(size=(6, 9)) * 2
model.set_weights([kernel, np.linspace(-1, 1, 9) - 50 * (np.arange(9) == 4)])
weights = [w.astype("float64") for w in model.get_weights()]
monitor = kw.ActivationMonitor(statistics="all", verbose=0)
options = {"batch_size": 8, "verbose": 0, "shuffle": False, "callbacks": [monitor]}
model.fit(X[:13], Y[:13], epochs=3, **options)
monitor.every = 1
model.fit(X[:9], Y[:9], **options)
records = {record.step: record for record in monitor.history.records}
# The default schedule leaves out step 4.
assert [*records] == [0, 1, 2, 3, 5, 6, 7]
assert monitor.history.unseen == {}

def step(x, y):
    kernel, bias = weights
    z = x @ kernel + bias
    a = np.clip(z, 0, 6)
    g = 2 * (a - y) / max(y.size, 1) * ((z > 0) & (z < 6))
    loss = np.mean((a - y) ** 2) if len(y) else 0
    return {"one.pre": z, "one": a}, [x.T @ g, g.sum(0)], loss

def check_row(measured, entries, parts, counts, edges):
    size = entries.size
    expected = {
        "mean": entries.mean(), "stddev": entries.std(), "unit_stddev": entries.std(0).mean(),
        "min": entries.min(), "max": entries.max(), "zero_share": np.mean(entries == 0),
        "nonfinite": 0, "norm": np.linalg.norm(entries),
        "dead_units": np.all(entries <= 0, 0).sum(), "dead_share": np.all(entries <= 0, 0).mean(),
    }
    # The quantiles of the replicas are averaged by the number of samples.
    for name, share in {"q01": .01, "q25": .25, "q50": .5, "q75": .75, "q99": .99}.items():
        expected[name] = sum(p.size / size * np.quantile(p, share) for p in parts if p.size)
    for name, value in measured.items():
        if name in expected and not np.isnan(value):
            np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    edges = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    assert np.abs(counts - np.histogram(entries, edges)[0]).sum() <= 2
    assert counts.sum() == size

batches = [slice(0, 8), slice(8, 13)] * 3 + [slice(0, 8), slice(8, 9)]
first_shares = {8: 4, 5: 3, 1: 1}
for number, batch in enumerate(batches):
    x, y = X[batch].astype("float64"), Y[batch].astype("float64")
    cut = first_shares[len(x)]
    outputs, _, _ = step(x, y)
    parts = [step(x[:cut], y[:cut]), step(x[cut:], y[cut:])]
    # Keras trains on the mean of the losses of the replicas, whatever their shares.
    gradients = [(a + b) / 2 for a, b in zip(parts[0][1], parts[1][1], strict=True)]
    if number in records:
        record = records[number]
        np.testing.assert_allclose(record.loss, (parts[0][2] + parts[1][2]) / 2, rtol=1e-5)
        assert record.layers == tuple(outputs)
        np.testing.assert_array_equal(record.unit_samples, len(x))
        for place, (name, entries) in enumerate(outputs.items()):
            measured = dict(zip(record.statistics, record.values[place], strict=True))
            assert np.isnan(measured["dead_units"]) == (name != "one")
            if name == "one":
                saturated = np.mean(outputs["one.pre"] >= 6)
                np.testing.assert_allclose(measured["saturated_share"], saturated, rtol=1e-6)
            of_replicas = [part[0][name] for part in parts]
            check_row(measured, entries, of_replicas, record.counts[place], record.edges)
        of_input = dict(zip(record.statistics, record.input_values[0], strict=True))
        np.testing.assert_allclose(of_input["norm"], np.linalg.norm(x), rtol=1e-5)
        columns = dict(zip(record.variable_statistics, record.variable_values.T, strict=True))
        norms = lambda arrays: [np.linalg.norm(array) for array in arrays]
        updates = [0.1 * gradient for gradient in gradients]
        np.testing.assert_allclose(columns["weight_norm"], norms(weights), rtol=1e-5)
        np.testing.assert_allclose(columns["gradient_norm"], norms(gradients), rtol=2e-5)
        np.testing.assert_allclose(columns["update_norm"], norms(updates), rtol=1e-3)
        assert (columns["gradient_nonfinite"] == 0).all()
    weights = [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]
assert_equal(*copies(model))

# A value of each replica that is not finite is counted once, and found in the data.
bad = X[:8].copy()
bad[1, 2], bad[6, 3] = np.nan, np.inf
model.fit(bad, Y[:8], **options)
record = monitor.history.records[-1]
assert record.step == 8
row = lambda values: dict(zip(record.statistics, values, strict=True))
assert row(record.input_values[0])["nonfinite"] == 2
assert row(record.values[0])["nonfinite"] == 18
found = {(finding.rule, finding.layer, finding.first_step) for finding in monitor.findings}
assert ("non_finite", "input", 8) in found, monitor.findings
"""


def test_records_are_those_of_numpy_on_the_whole_batch(fresh_process):
    fresh_process(SETUP + NUMBERS)
