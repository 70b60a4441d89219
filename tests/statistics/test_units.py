"""Unit statistics: the quick and the careful measure."""

import keras
import numpy as np
import pytest
from support.laws import numpy
from support.unit_statistics import join_exactly, on_host

from keras_winit import statistics

RNG = np.random.default_rng(0)


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
def test_samples_per_row(shape, unit_axis, count):
    assert statistics.samples_per_row(shape, unit_axis) == count


@pytest.mark.parametrize("unit_axis", [1, -1])
def test_several_samples_per_row_give_the_statistics_of_all_samples(unit_axis):
    values = RNG.normal(1 + np.arange(5), 0.1 + np.arange(5), (12, 6, 4, 5))
    values[..., 3] = np.maximum(values[..., 3] - 9, 0)
    values[..., 4] = 0
    tensor = keras.ops.convert_to_tensor(np.moveaxis(values, -1, unit_axis), "float32")
    per_row = statistics.samples_per_row(tensor.shape, unit_axis)
    assert per_row == 24
    measured = join_exactly([statistics.flatten(tensor, unit_axis=unit_axis)], per_row)
    units = values.astype("float32").astype(np.float64).reshape(-1, 5)
    assert numpy(measured.low) == pytest.approx(units.min(axis=0))
    assert numpy(measured.high) == pytest.approx(units.max(axis=0))
    assert mean_of(measured) == pytest.approx(units.mean(axis=0), rel=1e-5)
    assert numpy(measured.stddev) == pytest.approx(units.std(axis=0), rel=1e-5)
    assert numpy(measured.zeros) == np.sum(units == 0)
    assert numpy(measured.samples) == 288


def mean_of(units):
    return numpy(units.low + 2 * units.rise)


def test_sums_of_many_entries_are_precise():
    # Added up one by one, these would all be rounded in the same direction.
    values = np.where(RNG.random((32, 64, 64, 2)) < 0.5, 1.3, 2.9).astype("float32")
    tensor = keras.ops.convert_to_tensor(values)
    per_row = statistics.samples_per_row(tensor.shape)
    measured = join_exactly([statistics.flatten(tensor)], per_row)
    units = values.reshape(-1, 2).astype(np.float64)
    assert numpy(measured.stddev) == pytest.approx(units.std(axis=0), rel=1e-5)
    assert mean_of(measured) == pytest.approx(units.mean(axis=0), rel=1e-5)


ORDINARY = {
    "dense": RNG.normal(0.3, 2.0, (64, 20)),
    "a single sample": RNG.normal(size=(1, 20)),
    "rectified image": np.maximum(RNG.normal(-1.0, 1.0, (8, 6, 6, 12)), 0),
    "dead units": np.maximum(RNG.normal(size=(64, 20)) - 100 * (np.arange(20) % 2), 0),
}


@pytest.mark.parametrize("values", ORDINARY.values(), ids=ORDINARY)
def test_the_quick_measure_agrees_with_the_careful_measure(values):
    tensor = keras.ops.convert_to_tensor(values, "float32")
    matrix, per_row = statistics.flatten(tensor), statistics.samples_per_row(tensor.shape)
    quick = statistics.reduce_units(*matrix, per_row)
    careful = statistics.reduce_units(*matrix, per_row, careful=True)
    assert isinstance(quick, statistics.Moments)
    assert isinstance(careful, statistics.Units)
    of_quick, of_careful = (
        statistics.summary(on_host(statistics.join_units([units])[0])) for units in (quick, careful)
    )
    tolerance = 1e-5 * float(of_careful["stddev"][0])
    for name, value in of_careful.items():
        assert of_quick[name] == pytest.approx(value, rel=1e-5, abs=tolerance), name


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch knows all shapes")
def test_an_unknown_number_of_units_is_one_unit():
    values, _ = statistics.flatten(keras.KerasTensor((None, 4, None)))
    assert values.shape[1] == 1


def join(*layers):
    return statistics.join_units([statistics.reduce_units(values) for values in layers])


def norms(*kernels):
    return statistics.norms(lambda: kernels)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="measures what XLA allocates")
@pytest.mark.parametrize("function", [join, norms])
def test_the_quick_measure_keeps_no_copies(function):
    import jax

    # The eight tensors have 4 MiB each.
    tensors = [keras.ops.zeros((4096, 256), "float32")] * 8
    compiled = jax.jit(function).lower(*tensors).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 48 * 2**20
