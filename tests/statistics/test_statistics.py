"""Statistics are what numpy says they are."""

import math

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit import statistics
from keras_winit.statistics.distribution import _coprime

RNG = np.random.default_rng(0)
OUTPUTS = {
    "plain": RNG.normal(0.3, 2.0, (64, 20)),
    "large mean": RNG.normal(1e4, 1.0, (64, 20)),
    "image": RNG.normal(0, 1, (8, 5, 5, 12)),
    "tiny": RNG.normal(0.3e-30, 1e-30, (64, 20)),
    "huge": RNG.normal(0.3e30, 1e30, (64, 20)),
    # Of whose reciprocals backends make zero.
    "most": RNG.uniform(-3.3e38, 3.3e38, (64, 20)),
    "half": RNG.normal(0, 300.0, (64, 20)).astype("float16"),
}


# Where the slope is below 5 % of its largest, by hand from the derivatives.
SATURATED = {
    "tanh": lambda z: np.abs(np.tanh(z)) > 0.97468,
    "sigmoid": lambda z: (z < -4.3511) | (z > 4.3511),
    "softsign": lambda z: np.abs(z / (1 + np.abs(z))) > 0.77639,
    "softplus": lambda z: z < np.log(0.05 / 0.95),
    "relu": lambda z: np.zeros_like(z, bool),
    "relu6": lambda z: z >= 6,
    "leaky_relu": lambda z: np.zeros_like(z, bool),
    "elu": lambda z: z < np.log(0.05),
    "hard_sigmoid": lambda z: np.abs(z) >= 3,
    "hard_tanh": lambda z: np.abs(z) >= 1,
    "linear": lambda z: np.zeros_like(z, bool),
}


@pytest.mark.parametrize("name", SATURATED)
def test_saturated_share(name):
    z = np.linspace(-9, 9, 18_001).astype("float32")
    share = statistics.saturated_share(keras.ops.convert_to_tensor(z), keras.activations.get(name))
    # Within the two or three grid points at each of at most two ends.
    assert abs(float(share) - SATURATED[name](z.astype(np.float64)).mean()) < 25 / len(z)


def test_saturated_share_of_large_inputs():
    z = keras.ops.convert_to_tensor(np.array([1e4, -1e4, 0.0, 1e30], "float32"))
    assert float(statistics.saturated_share(z, keras.activations.tanh)) == 0.75
    assert float(statistics.saturated_share(z, keras.activations.relu)) == 0


def units(*layers, **options):
    """Of layers in a row, as float64 with a first axis of one lot."""
    tensors = [keras.ops.convert_to_tensor(values, "float32") for values in layers]
    flat = [statistics.flatten(tensor, **options) for tensor in tensors]
    return statistics.Units(*(numpy(f)[None].astype(np.float64) for f in exactly(flat)))


def exactly(flat, per_row=1):
    """Joined units, by the careful measure where the quick one does not hold."""
    for careful in (False, True):
        parts = [statistics.reduce_units(*pair, per_row, careful) for pair in flat]
        parts.sort(key=lambda part: not isinstance(part, statistics.Moments))
        joined, sound = statistics.join_units(parts)
        if sound:
            return joined
    raise AssertionError("the careful measure always holds")


def summary(values, **options):
    return together(units(values, **options))


def together(*lots):
    lots = statistics.Units(*map(np.concatenate, zip(*lots, strict=True)))
    return {name: float(value[0]) for name, value in statistics.summary(lots).items()}


@pytest.mark.parametrize("values", OUTPUTS.values(), ids=OUTPUTS)
def test_summary(values):
    exact = values.astype("float32").astype(np.float64)
    units = exact.reshape(-1, exact.shape[-1])
    got = summary(values)
    assert abs(got.pop("mean") - exact.mean()) < 1e-5 * max(exact.std(), abs(exact.mean()))
    right = {
        "stddev": exact.std(),
        "unit_stddev": units.std(axis=0).mean(),
        "min": exact.min(),
        "max": exact.max(),
        "zero_share": 0,
        "dead_share": 0,
        "dead_units": 0,
        "nonfinite": 0,
        "norm": np.sqrt(np.sum((exact / exact.max()) ** 2)) * exact.max(),
    }
    assert got == pytest.approx(right, rel=1e-5, abs=0)


def test_summary_of_the_least():
    # Backends take what is below 1.2e-38 for nothing.
    values = RNG.choice([2e-38, 1.8e-37], (64, 20))
    got = summary(values)
    assert got["mean"] == pytest.approx(values.mean(), abs=2e-38)
    assert got["stddev"] == pytest.approx(values.std(), rel=2e-3)
    assert (got["min"], got["max"]) == pytest.approx((2e-38, 1.8e-37), rel=1e-6)


def test_summary_of_units_that_differ_in_what_is_missing():
    values = np.array([[1, np.nan, 0, -2], [3, np.nan, 0, -4], [np.inf, np.nan, 0, 0.0]])
    got = summary(values)
    finite = np.array([1, 3, 0, 0, 0, -2, -4, 0.0])
    right = {
        "mean": finite.mean(),
        "stddev": finite.std(),
        "unit_stddev": np.mean([np.std([1, 3]), 0, np.std([-2, -4, 0])]),
        "min": -4,
        "max": 3,
        "zero_share": 4 / 8,
        "dead_share": 2 / 3,
        "dead_units": 2,
        "nonfinite": 4,
        "norm": np.linalg.norm(finite),
    }
    assert got == pytest.approx(right, rel=1e-6)


def test_summary_of_nothing_finite():
    got = summary(np.full((3, 2), np.nan))
    assert got.pop("nonfinite") == 6
    assert got.pop("dead_units") == 0
    assert all(np.isnan(value) for value in got.values())


def test_no_share_is_less_than_none():
    one = np.ones((1, 1))
    # As float32 may tell of 2**25 - 1 entries without a zero.
    found = statistics.summary(
        statistics.Units(-one, one, one / 2, one, 0 * one, -one, 0 * one, (2**25 - 1) * one)
    )
    assert found["zero_share"] == 0


def test_summary_of_masked_entries_and_another_unit_axis():
    values = RNG.normal(size=(4, 3, 5))
    mask = RNG.random((4, 3)) < 0.6
    mask[:, 0] = [True, True, False, True]
    values[:3, 0, :2] = 0, np.nan
    got = summary(values, mask=keras.ops.convert_to_tensor(mask))
    deviations = np.nanstd(values[mask], axis=0)
    assert got["unit_stddev"] == pytest.approx(deviations.mean(), rel=1e-5)
    assert got["zero_share"] == pytest.approx(2 / (5 * mask.sum() - 2))
    assert got["nonfinite"] == 2
    values = RNG.normal(size=(4, 3, 5))
    got = summary(values, unit_axis=1)
    assert got["unit_stddev"] == pytest.approx(values.std(axis=(0, 2)).mean(), rel=1e-5)


def test_parts_add_up_to_the_whole():
    values = RNG.normal(50, 1, (60, 7)) * np.arange(1, 8)
    values[:9, 2], values[5, 0], values[:, 6] = np.nan, np.inf, 0
    parts = np.split(values, [9, 10, 44])
    merged = together(*map(units, parts))
    assert merged == pytest.approx(summary(values), rel=1e-5)


def test_layers_in_a_row_are_told_apart():
    layers = [RNG.normal(n, 1 + n, (30 + n, n + 1)) for n in range(6)]
    # Sound, spread little, constant, with a hole, too large, too small.
    layers[1] = layers[1] / 1e2 + 7
    layers[2][:], layers[3][3, 1] = 0.1, np.inf
    layers[4], layers[5] = 1e30 * layers[4], 1e-30 * layers[5]
    got = statistics.summary(units(*layers), np.cumsum([0, 1, 2, 3, 4, 5]))
    for place, values in enumerate(layers):
        alone = {name: float(value[place]) for name, value in got.items()}
        right = summary(values)
        assert alone.pop("mean") == pytest.approx(
            right.pop("mean"), rel=1e-7, abs=1e-6 * max(right["stddev"], 1e-30)
        )
        assert alone == pytest.approx(right, rel=1e-5, nan_ok=True)
        exact = values.astype("float32").astype(np.float64)
        exact[~np.isfinite(exact)] = np.nan
        assert alone["stddev"] == pytest.approx(np.nanstd(exact), rel=1e-5, abs=0)
        assert alone["nonfinite"] == np.isnan(exact).sum()


@pytest.mark.parametrize(
    ("shape", "unit_axis", "count"),
    [
        ((None, 7), -1, 1),
        ((9,), -1, 1),
        ((None, None, 7), -1, 1),
        ((None, 5, None), -1, 1),
        ((None, 16, 16, 8), -1, 32),
        ((None, 16, 16, 500), 3, 16),
        ((None, 8, 16, 16), 1, 32),
        ((None, 13, 7), -1, 13),
        ((None, 22, 100), -1, 2),
        ((None, 1009, 9), -1, 1),
        ((None, 4, 0), -1, 4),
    ],
)
def test_side_by_side(shape, unit_axis, count):
    assert statistics.samples_per_row(shape, unit_axis) == count


@pytest.mark.parametrize("unit_axis", [1, -1])
def test_samples_side_by_side_count_alike(unit_axis):
    values = RNG.normal(1 + np.arange(5), 0.1 + np.arange(5), (12, 6, 4, 5))
    values[..., 3] = np.maximum(values[..., 3] - 9, 0)
    values[..., 4] = 0
    tensor = keras.ops.convert_to_tensor(np.moveaxis(values, -1, unit_axis), "float32")
    beside = statistics.samples_per_row(tensor.shape, unit_axis)
    assert beside == 24
    flat = statistics.flatten(tensor, unit_axis=unit_axis)
    found = exactly([flat], beside)
    units = values.astype("float32").astype(np.float64).reshape(-1, 5)
    assert numpy(found.low) == pytest.approx(units.min(axis=0))
    assert numpy(found.high) == pytest.approx(units.max(axis=0))
    assert numpy(found.low + 2 * found.rise) == pytest.approx(units.mean(axis=0), rel=1e-5)
    assert numpy(found.stddev) == pytest.approx(units.std(axis=0), rel=1e-5)
    assert numpy(found.zeros) == np.sum(units == 0)
    assert numpy(found.samples) == 288


def test_many_entries_that_are_alike_are_added_up_well():
    # One by one, each addition would round in the same direction.
    values = np.where(RNG.random((32, 64, 64, 2)) < 0.5, 1.3, 2.9).astype("float32")
    tensor = keras.ops.convert_to_tensor(values)
    flat = statistics.flatten(tensor)
    found = exactly([flat], statistics.samples_per_row(tensor.shape))
    units = values.reshape(-1, 2).astype(np.float64)
    assert numpy(found.stddev) == pytest.approx(units.std(axis=0), rel=1e-5)
    assert numpy(found.low + 2 * found.rise) == pytest.approx(units.mean(axis=0), rel=1e-5)


def norms(kernels):
    for careful in (False, True):
        lengths, nonfinite, sound = statistics.norms(lambda: kernels, careful)
        if sound:
            return numpy(lengths), numpy(nonfinite)
    raise AssertionError("the careful measure always holds")


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of XLA")
def test_a_closer_look_that_is_not_taken_takes_little_memory():
    import jax

    def of_layers(*layers):
        return statistics.join_units([statistics.reduce_units(values) for values in layers])

    def of_kernels(*kernels):
        return statistics.norms(lambda: kernels)

    # Eight of 4 MiB.
    tensors = [keras.ops.zeros((4096, 256), "float32")] * 8
    for function in (of_layers, of_kernels):
        compiled = jax.jit(function).lower(*tensors).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 48 * 2**20


def in_a_graph(function):
    """The same, compiled where there is a compiler."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def test_quantiles_of_nothing():
    nothing = keras.ops.zeros((0, 4), "float32")
    found = in_a_graph(lambda values: statistics.quantiles(values, None, (0, 0.5, 1)))(nothing)
    assert np.isnan(numpy(found)).all()


@pytest.mark.parametrize("size", [3e38, -3e38, 1e30, 0.1])
def test_a_constant_of_any_size(size):
    # Their sum is infinite.
    found = together(units(np.full((64, 3), size)))
    assert (found["stddev"], found["unit_stddev"], found["nonfinite"]) == (0, 0, 0)
    assert found["mean"] == found["min"] == found["max"] == np.float32(size)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="knows all shapes")
def test_the_number_of_units_may_be_unknown():
    tensor = keras.KerasTensor((None, 4, None))
    values, _ = statistics.flatten(tensor)
    assert values.shape[1] == 1


STEEPEST = {"gelu": 1.128904145, "silu": 1.09983932, "mish": 1.088498161, "sigmoid": 0.25}
STEEPEST |= {"selu": 1.0507009873554805 * 1.6732632423543772, "hard_sigmoid": 1 / 6}


@pytest.mark.parametrize("name", statistics.BANDS)
def test_flat_where_the_slope_is_small(name):
    # The slope by central differences in float64, of numpy's own formulas.
    functions = {
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "softsign": lambda z: z / (1 + np.abs(z)),
        "softplus": lambda z: np.log1p(np.exp(z)),
        "gelu": lambda z: z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2,
        "silu": lambda z: z / (1 + np.exp(-z)),
        "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
        "elu": lambda z: np.where(z > 0, z, np.expm1(z)),
        "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z)),
        "relu6": lambda z: np.clip(z, 0, 6),
        "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
        "hard_tanh": lambda z: np.clip(z, -1, 1),
    }
    z = np.linspace(-9, 9, 18_000).astype("float32")
    exact, step = z.astype(np.float64), 1e-6
    slope = (functions[name](exact + step) - functions[name](exact - step)) / (2 * step)
    flat = np.abs(slope) < 0.05 * STEEPEST.get(name, 1)
    if name == "relu6":
        flat &= exact > 0  # Below zero it is off, not saturated.
    tensor = keras.ops.convert_to_tensor(z[:, None])
    count, number = flats(tensor, getattr(keras.activations, name))
    assert number == len(z)
    # Each of at most three ends lies between two points.
    assert abs(count - flat.sum()) <= 3


def flats(z, activation, counts=None):
    return [float(number) for number in statistics.flat(z, counts, activation)]


def test_flat_at_its_very_ends():
    z = keras.ops.convert_to_tensor(np.array([[3, -3, 2.9999998, -2.9999998]], "float32"))
    assert flats(z, keras.activations.hard_sigmoid) == [2, 4]


@pytest.mark.parametrize("activation", [keras.activations.tanh, lambda x: keras.ops.tanh(x) + 1])
def test_flat_where_entries_do_not_count(activation):
    z = keras.ops.convert_to_tensor(np.array([[-9.0, -1, 0, 1, 9, np.nan]], "float32"))
    assert flats(z[:, :5], activation) == [2, 5]
    assert flats(z, activation, z > -5) == [1, 4]
    assert np.isnan(flats(z, activation)[0])


@pytest.mark.parametrize(
    ("activation", "alone"), [("tanh", True), ("softmax", False), ("log_softmax", False)]
)
def test_elementwise(activation, alone):
    assert statistics.elementwise(keras.activations.get(activation)) is alone


def test_histogram():
    values = np.concatenate([RNG.normal(size=500) * 10.0 ** RNG.integers(-6, 6, 500), [0, 1, -1]])
    values = np.append(values, [np.nan, np.inf]).astype("float32")[:, None]
    tensor = keras.ops.convert_to_tensor(values)
    counts = keras.ops.convert_to_numpy(statistics.histogram(*statistics.flatten(tensor)))
    edges = statistics.EDGES.astype("float32")
    inner = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    right = np.histogram(values[np.isfinite(values)], inner)[0]
    np.testing.assert_array_equal(counts, right)
    np.testing.assert_allclose(statistics.EDGES, -statistics.EDGES[::-1])


def test_strides_have_no_divisor_in_common_with_the_units():
    for width in range(1, 40):
        for rest, found in enumerate(_coprime(width)):
            right = [k for k in range(rest + 1) if math.gcd(k, width) == 1]
            assert found == max(right, default=-1)
    # As fast for a vocabulary.
    assert _coprime(50_000)[-1] == 49_999


@pytest.mark.parametrize("shape", [(3, 4), (400, 16), (5000, 3), (7, 1024)])
def test_quantiles(shape):
    values, shares = RNG.normal(size=shape).astype("float32"), (0, 0.1, 0.5, 0.99, 1)
    values[1, 1] = np.nan
    tensor = keras.ops.convert_to_tensor(values)
    found = statistics.quantiles(*statistics.flatten(tensor), shares)
    strides = [s for s in range(1, max(values.size // 512, 1) + 1) if math.gcd(s, shape[1]) == 1]
    chosen = values.reshape(-1)[:: strides[-1]]
    assert len(chosen) >= min(512, values.size)
    right = np.quantile(chosen[np.isfinite(chosen)], shares)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), right, rtol=1e-5)


def test_norms_of_any_size_and_what_is_not_finite():
    sizes = [1.0, 0.0, 1e-30, 1e30]
    for chosen in (sizes[:1], [1.0, 1e-30], sizes):
        tensors = [keras.ops.convert_to_tensor(s * np.arange(5.0), "float32") for s in chosen]
        lengths, nonfinite = norms(tensors)
        np.testing.assert_allclose(lengths, np.array(chosen) * 30**0.5, rtol=1e-6)
        np.testing.assert_array_equal(nonfinite, 0)
    broken = keras.ops.convert_to_tensor([1.0, np.nan, np.inf, -np.inf])
    lengths, nonfinite = norms([tensors[0], broken])
    np.testing.assert_array_equal(nonfinite, [0, 3])
    assert lengths[0] == pytest.approx(30**0.5)
    assert not np.isfinite(lengths[1])


@pytest.mark.parametrize(
    ("kernel", "count"),
    [
        (np.zeros((5, 8)), 1),
        (np.full((5, 8), 0.1), 1),
        (np.eye(8), 8),
        (np.tile(np.arange(5.0)[:, None], (1, 8)), 1),
        (np.tile(RNG.normal(size=(5, 2)), (1, 4)), 2),
        (np.tile(RNG.normal(size=(3, 3, 4, 3)), (1, 1, 1, 2)), 3),
        (RNG.normal(size=(5, 1)) * np.ones(8) * (1 + 1e-8 * np.arange(8)), 1),
        (RNG.normal(size=(5, 1)) * np.ones(8) * (1 + 1e-3 * np.arange(8)), 8),
        (np.full((5, 8), np.nan), 1),
        (np.array([[np.nan, np.nan, np.inf, np.inf, 1.0]]), 3),
    ],
)
def test_distinct_units(kernel, count):
    assert statistics.distinct_units(keras.ops.convert_to_tensor(kernel)) == count


def test_repeated_share():
    kernel = np.random.default_rng(0).normal(size=(3, 8, 6)).astype("float32")
    kernel[..., 3] = kernel[..., 1]
    kernel[..., 4] = kernel[..., 1]

    def share(values, axes):
        sums = numpy(statistics.unit_sums(values, axes))
        norm = np.linalg.norm(numpy(values).astype(np.float64))
        # Between two others, the first of one unit.
        sums = np.concatenate([[7.0], sums, [3.0, 1.0, 2.0, 1.0]])
        starts, norms = np.array([0, 1, len(sums) - 4]), np.array([1.0, norm, 1.0])
        before, found, after = statistics.repeated_share(sums, starts, norms)
        assert np.isnan(before)
        assert after == pytest.approx(1 / 3)
        return float(found)

    assert share(keras.ops.convert_to_tensor(kernel), (2,)) == pytest.approx(1 - 3 / 5)
    # Its rows are all different, and so are they in pairs with a column.
    assert share(keras.ops.convert_to_tensor(kernel), (1,)) == 0
    assert share(keras.ops.zeros((4, 5)), (1,)) == share(keras.ops.ones((4, 5)), (0, 1)) == 1
    assert np.isnan(share(keras.ops.ones((4, 1)), (1,)))
    kernel[0, 0, 0] = np.inf
    assert np.isnan(share(keras.ops.convert_to_tensor(kernel), (2,)))
