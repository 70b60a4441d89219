"""The sparse scheme: exact numbers of connections, uniformly distributed over all subsets."""

import itertools
import math

import keras
import numpy as np
import pytest
from support.laws import chi_square_score, deviations, normal, numpy

import keras_winit
from keras_winit.initializers import sparse, streams
from keras_winit.initializers.streams import Stream


@pytest.mark.parametrize(
    ("shape", "arguments", "inputs", "count"),
    [
        ((784, 300), {}, (0,), 10),
        ((784, 300), {"connections": 15}, (0,), 15),
        ((784, 300), {"connections": 700}, (0,), 700),
        ((784, 300), {"connections": 300}, (0,), 300),
        ((20_000, 30), {"sparsity": 0.5}, (0,), 10_000),
        ((784, 300), {"sparsity": 0.9}, (0,), 78),
        ((784, 300), {"sparsity": 0.0}, (0,), 784),
        ((784, 300), {"sparsity": 0.99999}, (0,), 1),
        ((4, 300), {}, (0,), 4),
        ((1, 1), {}, (0,), 1),
        ((3, 3, 16, 32), {}, (0, 1, 2), 10),
        ((5, 24, 32), {}, (0, 1), 10),
        ((2, 2, 2, 8, 16), {"connections": 60}, (0, 1, 2, 3), 60),
        ((64, 4, 16), {"input_axes": [0], "output_axes": [1, 2]}, (0,), 10),
        ((4, 16, 64), {"input_axes": [0, 1]}, (0, 1), 10),
        ((4, 16, 64), {"output_axes": [-1]}, (0, 1), 10),
        ((6, 64, 16), {"input_axes": [1], "output_axes": [2]}, (1,), 10),
        ((7, 5), {"output_axes": [0, 1]}, (), 1),
    ],
    ids=str,
)
def test_the_number_of_connections_is_exact(shape, arguments, inputs, count):
    weights = numpy(keras_winit.Sparse(**arguments, seed=0)(shape))
    assert weights.shape == shape
    assert set(np.unique((weights != 0).sum(inputs))) == {count}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("rows", "sparsity", "zeros"),
    # 0.07 * 100 and 0.57 * 100 are not whole in floating point.
    [
        (7, 0.5, 4),
        (3, 0.5, 2),
        (10, 0.25, 3),
        (10, 0.9, 9),
        (10, 0.91, 9),
        (100, 0.07, 7),
        (100, 0.57, 57),
        (1000, 0.0001, 1),
        (1, 0.5, 0),
    ],
)
def test_sparsity_rounds_the_zeros_up_and_keeps_one_connection(rows, sparsity, zeros):
    weights = numpy(keras_winit.Sparse(sparsity=sparsity, seed=0)((rows, 50)))
    assert set((weights == 0).sum(0)) == {zeros}


def test_values():
    weights = numpy(keras_winit.Sparse(seed=0)((3, 3, 64, 10_000)))
    assert deviations(weights[weights != 0], normal(0.01)) == []
    weights = numpy(keras_winit.Sparse(stddev=0.3, connections=40, seed=0)((500, 2500)))
    assert deviations(weights[weights != 0], normal(0.3)) == []


def test_gain_keeps_the_variance_of_unit_inputs():
    weights = numpy(keras_winit.Sparse(gain=2.0, seed=0)((500, 10_000)))
    assert deviations(weights[weights != 0], normal(2 / math.sqrt(10))) == []
    inputs = np.random.default_rng(0).standard_normal((400, 500))
    outputs = inputs @ weights.astype(np.float64)
    error = math.sqrt(2 / (10 * 10_000) + 2 / (400 * 500))
    assert abs((outputs**2).mean() / 4 - 1) < 5 * error
    # A unit with fewer inputs than connections uses the number of its inputs.
    few = numpy(keras_winit.Sparse(gain=2.0, seed=0)((4, 20_000)))
    assert deviations(few, normal(1.0)) == []


def test_gain_counts_the_connections_of_one_output_of_a_transposed_convolution():
    layer = keras.layers.Conv2DTranspose(256, 4, strides=2, padding="same", use_bias=False)
    sparse = keras_winit.Sparse(connections=64, gain=2.0, seed=0)
    layer.kernel_initializer = keras_winit.for_layer(sparse, layer)
    inputs = np.random.default_rng(0).standard_normal((16, 12, 12, 32)).astype("float32")
    outputs = numpy(layer(inputs)).astype(np.float64)[:, 2:-2, 2:-2]
    # A quarter of the window reaches each output: about 16 connections from N(0, 2**2 / 16).
    assert np.mean(outputs**2) / 4 == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("stddev", [0.01, 1e-6, 1e-30])
def test_no_connection_is_rounded_to_zero(dtype, stddev):
    weights = numpy(keras_winit.Sparse(stddev=stddev, seed=0)((50, 5000), dtype))
    assert set(np.unique((weights != 0).sum(0))) == {10}
    assert np.isfinite(weights.astype(np.float64)).all()
    chosen = weights[weights != 0].astype(np.float64)
    # Half of the weights are negative, because a rounded zero is replaced with its sign kept.
    assert abs((chosen > 0).mean() - 0.5) * 2 * math.sqrt(chosen.size) < 5


def test_attention_kernels_need_no_axes():
    layer = keras.layers.MultiHeadAttention(4, 16, kernel_initializer="winit>sparse")
    layer.build((2, 5, 64), (2, 5, 64))
    for weight in layer.weights:
        if weight.ndim == 3:
            inputs = (0, 1) if "attention_output" in weight.path else (0,)
            assert set(np.unique((numpy(weight) != 0).sum(inputs))) == {10}


# Samplers of `count` different rows out of `rows` for each column; all but the first are wrong.
def _ours(rows, count, columns):
    return Stream(11).subsets(rows, count, columns, 0)


def _sorted_offsets(rows, count, columns):
    drawn = np.random.default_rng(1).integers(0, rows - count + 1, (count, columns))
    return np.sort(drawn, 0) + np.arange(count)[:, None]


def _ties(rows, count, columns):
    keys = np.random.default_rng(2).integers(0, 16, (rows, columns))
    return np.argsort(keys, 0, kind="stable")[:count]


def _stratified(rows, count, columns):
    edges = np.arange(count + 1) * rows // count
    return np.random.default_rng(3).integers(edges[:-1, None], edges[1:, None], (count, columns))


def _smallest_uniques(rows, count, columns):
    generator = np.random.default_rng(4)
    drawn = generator.integers(0, rows, (6 * count, columns))
    unique = [np.unique(column)[:count] for column in drawn.T]
    return np.array([u for u in unique if len(u) == count]).T


def _stride(rows, count, columns):
    generator = np.random.default_rng(5)
    steps = np.array([s for s in range(1, rows) if math.gcd(s, rows) == 1])
    start = generator.integers(0, rows, columns)
    return (start + np.arange(count)[:, None] * generator.choice(steps, columns)) % rows


def _feistel(rows, count, columns):
    """Sample by four rounds of a Feistel network, repeated until the result is below `rows`."""
    half = -(-(rows - 1).bit_length() // 2)
    keys = np.random.default_rng(6).integers(0, 2**32, (4, columns), np.uint64)
    mask = np.uint64(2**half - 1)

    def permute(x):
        left, right = x >> np.uint64(half), x & mask
        for key in keys:
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            left, right = right, left ^ ((mixed >> np.uint64(40)) & mask)
        return (left << np.uint64(half)) | right

    out = np.broadcast_to(np.arange(count, dtype=np.uint64)[:, None], (count, columns))
    out = permute(out)
    while (out >= rows).any():
        out = np.where(out >= rows, permute(out), out)
    return out.astype(np.int64)


WRONG = [_sorted_offsets, _ties, _stratified, _smallest_uniques, _stride, _feistel]
COLUMNS = 120_000


def subset_score(chosen, rows, count):
    """Return the chi-square score of equal frequencies of all C(rows, count) subsets."""
    code = (1 << np.arange(rows))[chosen].sum(0)
    subsets = [sum(1 << i for i in s) for s in itertools.combinations(range(rows), count)]
    observed = np.array([np.count_nonzero(code == subset) for subset in subsets])
    assert observed.sum() == chosen.shape[1]
    return chi_square_score(observed, chosen.shape[1] / len(subsets))


def pair_score(chosen, rows, count):
    """Return the largest deviation of the frequency of a pair of rows, in standard errors."""
    table = np.zeros((rows, chosen.shape[1]), np.float32)
    np.put_along_axis(table, chosen, 1, axis=0)
    together = (table @ table.T)[np.triu_indices(rows, 1)]
    p = count * (count - 1) / (rows * (rows - 1))
    return np.abs((together - chosen.shape[1] * p) / math.sqrt(chosen.shape[1] * p * (1 - p))).max()


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize(("rows", "count"), [(8, 3), (7, 3), (12, 2), (9, 4), (7, 5), (6, 4)])
def test_all_subsets_are_equally_likely(rows, count, vectorized, monkeypatch):
    monkeypatch.setattr(streams, "VECTORIZED_SUBSET", 128 if vectorized else 0)
    assert abs(subset_score(_ours(rows, count, COLUMNS), rows, count)) < 5


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_samplers_are_found_by_their_subsets(wrong):
    assert subset_score(wrong(8, 3, COLUMNS), 8, 3) > 5


# The cases have 1,225 and 79,800 pairs, for which a bound of 6.5 standard errors gives one false
# alarm in 100,000. The subsets of the last two cases are drawn column by column.
@pytest.mark.parametrize(("rows", "count"), [(50, 10), (400, 150), (400, 250)])
def test_all_pairs_are_equally_likely(rows, count):
    assert pair_score(_ours(rows, count, 20_000), rows, count) < 6.5


@pytest.mark.parametrize("wrong", [_sorted_offsets, _ties, _stratified, _smallest_uniques, _stride])
def test_wrong_samplers_are_found_by_their_pairs(wrong):
    assert pair_score(wrong(50, 10, 20_000), 50, 10) > 6.5


def test_neighbouring_columns_are_independent():
    rows, count, columns = 60, 10, 40_000
    table = np.zeros((rows, columns), bool)
    np.put_along_axis(table, _ours(rows, count, columns), True, axis=0)
    shared = (table[:, 1:] & table[:, :-1]).sum(0)
    # The hypergeometric distribution has mean k^2/n and variance k^2 (n-k)^2 / (n^2 (n-1)).
    variance = (count * (rows - count) / rows) ** 2 / (rows - 1)
    assert abs(shared.mean() - count**2 / rows) * math.sqrt(columns / variance) < 5
    # The kurtosis of such counts is below 4.
    assert abs(shared.var() / variance - 1) * math.sqrt(columns / 3) < 5


def test_chunks_of_columns_differ(monkeypatch):
    monkeypatch.setattr(sparse, "subset_columns", lambda count: 5)
    weights = numpy(keras_winit.Sparse(seed=0)((50, 12)))
    assert set((weights != 0).sum(0)) == {10}
    assert len({column.tobytes() for column in weights.T}) == 12


MEMORY = """
import sys, keras, numpy as np, keras_winit

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(l.split()[1]) for l in lines if l.startswith(name)) * 1024

shape, dtype = eval(sys.argv[1]), sys.argv[2]
scheme = keras_winit.Sparse(seed=0)
scheme((1000, 128), dtype)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
kernel = scheme(shape, dtype)
size = np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize
print((status("VmHWM") - before) / size)
some = keras.ops.convert_to_numpy(kernel[:, :: shape[1] // 4])
print(sorted(set((some != 0).sum(0).tolist())), some.shape)
last = max(int(np.nonzero(column)[0][-1]) for column in some.T)
print(last)
"""


def _linux_memory():
    try:
        with open("/proc/meminfo") as lines:
            return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    except FileNotFoundError:
        return 0


@pytest.mark.skipif(_linux_memory() < 4e6, reason="needs Linux and 4 GB of free memory")
def test_a_million_inputs_take_no_more_memory_than_the_kernel(fresh_process):
    peak, counts, _ = fresh_process(MEMORY, (1_000_000, 128), "float32").split("\n")[:3]
    assert float(peak) < 1.2
    assert counts == "[10] (1000000, 4)"


@pytest.mark.skipif(_linux_memory() < 12e6, reason="needs Linux and 12 GB of free memory")
def test_kernels_of_more_than_2_to_the_31_entries(fresh_process):
    shape = (2_200_000, 1000)
    peak, counts, last = fresh_process(MEMORY, shape, "float16").split("\n")[:3]
    assert float(peak) < 1.2
    assert counts == "[10] (2200000, 4)"
    # Row numbers that were truncated to 31 bits would not reach the last rows.
    assert int(last) > 0.9 * shape[0]
