"""Layer statistics against numpy."""

import keras
import numpy as np
import pytest
from support.unit_statistics import summary_of, summary_of_parts, units_of

from keras_winit import statistics

RNG = np.random.default_rng(0)
OUTPUTS = {
    "ordinary": RNG.normal(0.3, 2.0, (64, 20)),
    "large mean": RNG.normal(1e4, 1.0, (64, 20)),
    "image": RNG.normal(0, 1, (8, 5, 5, 12)),
    "small": RNG.normal(0.3e-30, 1e-30, (64, 20)),
    "large": RNG.normal(0.3e30, 1e30, (64, 20)),
    # Backends round the reciprocals of these entries to zero.
    "largest": RNG.uniform(-3.3e38, 3.3e38, (64, 20)),
    "float16": RNG.normal(0, 300.0, (64, 20)).astype("float16"),
}


@pytest.mark.parametrize("values", OUTPUTS.values(), ids=OUTPUTS)
def test_summary(values):
    exact = values.astype("float32").astype(np.float64)
    units = exact.reshape(-1, exact.shape[-1])
    measured = summary_of(values)
    assert abs(measured.pop("mean") - exact.mean()) < 1e-5 * max(exact.std(), abs(exact.mean()))
    expected = {
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
    assert measured == pytest.approx(expected, rel=1e-5, abs=0)


def test_summary_of_the_smallest_entries():
    # Backends round numbers below 1.2e-38 to zero.
    values = RNG.choice([2e-38, 1.8e-37], (64, 20))
    measured = summary_of(values)
    assert measured["mean"] == pytest.approx(values.mean(), abs=2e-38)
    assert measured["stddev"] == pytest.approx(values.std(), rel=2e-3)
    assert (measured["min"], measured["max"]) == pytest.approx((2e-38, 1.8e-37), rel=1e-6)


@pytest.mark.parametrize("size", [3e38, -3e38, 1e30, 0.1])
def test_summary_of_a_constant(size):
    # The sum of the large entries is infinite.
    measured = summary_of(np.full((64, 3), size))
    assert (measured["stddev"], measured["unit_stddev"], measured["nonfinite"]) == (0, 0, 0)
    assert measured["mean"] == measured["min"] == measured["max"] == np.float32(size)


def test_summary_of_units_with_different_numbers_of_finite_entries():
    values = np.array([[1, np.nan, 0, -2], [3, np.nan, 0, -4], [np.inf, np.nan, 0, 0.0]])
    finite = np.array([1, 3, 0, 0, 0, -2, -4, 0.0])
    expected = {
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
    assert summary_of(values) == pytest.approx(expected, rel=1e-6)


def test_summary_without_a_finite_entry():
    measured = summary_of(np.full((3, 2), np.nan))
    assert measured.pop("nonfinite") == 6
    assert measured.pop("dead_units") == 0
    assert all(np.isnan(value) for value in measured.values())


def test_the_zero_share_is_never_negative():
    one = np.ones((1, 1))
    # Without a zero among 2**25 - 1 entries, the float32 number of zeros is -1.
    units = statistics.Units(
        low=-one,
        high=one,
        rise=one / 2,
        stddev=one,
        missing=0 * one,
        zeros=-one,
        nonfinite=0 * one,
        samples=(2**25 - 1) * one,
    )
    assert statistics.summary(units)["zero_share"] == 0


def test_masked_entries_do_not_count():
    values = RNG.normal(size=(4, 3, 5))
    mask = RNG.random((4, 3)) < 0.6
    mask[:, 0] = [True, True, False, True]
    values[:3, 0, :2] = 0, np.nan
    measured = summary_of(values, mask=keras.ops.convert_to_tensor(mask))
    unit_stddevs = np.nanstd(values[mask], axis=0)
    assert measured["unit_stddev"] == pytest.approx(unit_stddevs.mean(), rel=1e-5)
    assert measured["zero_share"] == pytest.approx(2 / (5 * mask.sum() - 2))
    assert measured["nonfinite"] == 2


def test_units_may_lie_on_another_axis():
    values = RNG.normal(size=(4, 3, 5))
    measured = summary_of(values, unit_axis=1)
    assert measured["unit_stddev"] == pytest.approx(values.std(axis=(0, 2)).mean(), rel=1e-5)


def test_the_parts_of_a_batch_give_the_statistics_of_the_whole_batch():
    values = RNG.normal(50, 1, (60, 7)) * np.arange(1, 8)
    values[:9, 2], values[5, 0], values[:, 6] = np.nan, np.inf, 0
    parts = np.split(values, [9, 10, 44])
    merged = summary_of_parts(*map(units_of, parts))
    assert merged == pytest.approx(summary_of(values), rel=1e-5)


def test_joined_layers_have_the_statistics_of_each_layer_alone():
    ordinary, nearly_constant, constant, infinite, large, small = (
        RNG.normal(n, 1 + n, (30 + n, n + 1)) for n in range(6)
    )
    nearly_constant = nearly_constant / 1e2 + 7
    constant[:], infinite[3, 1] = 0.1, np.inf
    large, small = 1e30 * large, 1e-30 * small
    layers = [ordinary, nearly_constant, constant, infinite, large, small]
    joined = statistics.summary(units_of(*layers), np.cumsum([0, 1, 2, 3, 4, 5]))
    for index, values in enumerate(layers):
        measured = {name: float(value[index]) for name, value in joined.items()}
        alone = summary_of(values)
        assert measured.pop("mean") == pytest.approx(
            alone.pop("mean"), rel=1e-7, abs=1e-6 * max(alone["stddev"], 1e-30)
        )
        assert measured == pytest.approx(alone, rel=1e-5, nan_ok=True)
        exact = values.astype("float32").astype(np.float64)
        exact[~np.isfinite(exact)] = np.nan
        assert measured["stddev"] == pytest.approx(np.nanstd(exact), rel=1e-5, abs=0)
        assert measured["nonfinite"] == np.isnan(exact).sum()
