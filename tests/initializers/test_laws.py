"""Draws of each scheme, compared with the distribution in its paper, written out here."""

import json
import math

import keras
import numpy as np
import pytest
from support.laws import cut_normal, deviations, negative_half_normal, normal, numpy, uniform

import keras_winit
from keras_winit.initializers import REGISTRY, unit_distributions

# Shapes and their true fans, worked out by hand. The fans differ, so that swapping them fails.
FANS = {(256, 384): (256, 384), (3, 3, 64, 128): (576, 1152)}
CUT = 0.87962566103423978  # Standard deviation of N(0, 1) cut at -2 and 2.

# Scheme, arguments, and the distribution as a function of fan_in and fan_out.
PAPER = [
    ("small_normal", {}, lambda i, o: normal(0.01)),
    ("small_normal", {"stddev": 0.3}, lambda i, o: normal(0.3)),
    ("large_normal", {}, lambda i, o: normal(1.0)),
    ("negative_normal", {}, lambda i, o: negative_half_normal(0.05)),
    ("small_uniform", {}, lambda i, o: uniform(0.01)),
    ("truncated_normal", {}, lambda i, o: cut_normal(0.05 / CUT)),
    ("truncated_normal", {"corrected": False, "stddev": 2.0}, lambda i, o: cut_normal(2.0)),
    ("fan_in_uniform", {}, lambda i, o: uniform(1 / math.sqrt(i))),
    ("fan_in_uniform", {"gain": 2.0}, lambda i, o: uniform(2 / math.sqrt(i))),
    ("lecun_normal", {}, lambda i, o: normal(math.sqrt(1 / i))),
    ("lecun_normal", {"gain": 2.0}, lambda i, o: normal(2 / math.sqrt(i))),
    ("lecun_uniform", {}, lambda i, o: uniform(math.sqrt(3 / i))),
    ("lecun_uniform", {"gain": 2.0}, lambda i, o: uniform(2 * math.sqrt(3 / i))),
    ("xavier_normal", {}, lambda i, o: normal(math.sqrt(2 / (i + o)))),
    ("xavier_normal", {"gain": 2.0}, lambda i, o: normal(2 * math.sqrt(2 / (i + o)))),
    ("xavier_uniform", {}, lambda i, o: uniform(math.sqrt(6 / (i + o)))),
    ("xavier_uniform", {"gain": 2.0}, lambda i, o: uniform(2 * math.sqrt(6 / (i + o)))),
    ("he_normal", {}, lambda i, o: normal(math.sqrt(2 / i))),
    ("he_normal", {"mode": "fan_out"}, lambda i, o: normal(math.sqrt(2 / o))),
    ("he_normal", {"negative_slope": 0.5}, lambda i, o: normal(math.sqrt(2 / (1.25 * i)))),
    ("he_uniform", {}, lambda i, o: uniform(math.sqrt(6 / i))),
    ("he_uniform", {"mode": "fan_out"}, lambda i, o: uniform(math.sqrt(6 / o))),
    ("he_uniform", {"negative_slope": 0.5}, lambda i, o: uniform(math.sqrt(6 / (1.25 * i)))),
    ("variance_scaling", {}, lambda i, o: normal(math.sqrt(1 / i))),
    ("variance_scaling", {"scale": 3.0, "mode": "fan_out"}, lambda i, o: normal(math.sqrt(3 / o))),
    (
        "variance_scaling",
        {"mode": "fan_avg", "distribution": "uniform"},
        lambda i, o: uniform(math.sqrt(3 * 2 / (i + o))),
    ),
    (
        "variance_scaling",
        {"mode": "fan_geo_avg", "distribution": "truncated_normal"},
        lambda i, o: cut_normal((i * o) ** -0.25 / CUT),
    ),
    ("siren", {}, lambda i, o: uniform(math.sqrt(6 / i) / 30)),
    ("siren", {"omega": 5.0}, lambda i, o: uniform(math.sqrt(6 / i) / 5)),
    ("siren", {"first": True}, lambda i, o: uniform(1 / i)),
    ("fan_in_bias", {"fan_in": 64}, lambda i, o: uniform(1 / 8)),
]
# Schemes that are tested below exactly, or in other files.
ELSEWHERE = {"zeros", "ones", "constant", "sparse"}  # test_sparse.py
ELSEWHERE |= {"identity", "noisy_identity", "hadamard", "irnn", "dirac"}  # test_identity.py
ELSEWHERE |= {"icnr", "bilinear"}  # test_upsampling.py
ELSEWHERE |= {"prior_bias", "convolution_aware"}  # test_bias.py, test_convolution.py
ELSEWHERE |= {"orthogonal", "delta_orthogonal", "scaled_orthogonal"}  # test_orthogonal.py
ELSEWHERE |= {"looks_linear", "near_linear_orthogonal"}  # test_chains.py
ELSEWHERE |= {"per_gate", "forget_bias", "chrono"}  # test_recurrent.py
ELSEWHERE |= {"depth_scaled", "small_init", "embedding_normal"}  # test_depth.py
ELSEWHERE |= {"scaled", "masked", "blocks"}  # test_combinators.py


def test_every_scheme_has_a_law():
    assert {name for name, _, _ in PAPER} | ELSEWHERE == set(REGISTRY)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shape", FANS, ids=str)
@pytest.mark.parametrize(("name", "arguments", "law"), PAPER, ids=lambda v: str(v)[:60])
def test_law(name, arguments, law, shape, seed):
    weights = numpy(REGISTRY[name](**arguments, seed=seed)(shape, "float32"))
    assert weights.shape == shape
    assert deviations(weights, law(*FANS[shape])) == []


@pytest.mark.parametrize(
    ("name", "value"), [("zeros", 0.0), ("ones", 1.0), ("constant", np.float32(0.01))]
)
def test_constant(name, value):
    np.testing.assert_array_equal(numpy(REGISTRY[name]()((3, 4), "float32")), value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["lecun_normal", "lecun_uniform", "truncated_normal"])
def test_law_in_other_dtypes(name, dtype):
    laws = {
        "lecun_normal": normal(1 / 16),
        "lecun_uniform": uniform(math.sqrt(3) / 16),
        "truncated_normal": cut_normal(0.05 / CUT),
    }
    weights = numpy(REGISTRY[name](seed=0)((256, 384), dtype)).astype(np.float64)
    assert deviations(weights, laws[name]) == []


# Some of these bounds are far from zero, open, or so close that the closed form would cancel.
BOUNDS = [(-2, 2), (-1, 3), (0, math.inf), (2, 3), (-0.01, 0.01), (-math.inf, -1), (4, math.inf)]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_truncated_normal(bounds, dtype):
    scheme = keras_winit.TruncatedNormal(0.1, bounds, corrected=False, seed=1)
    weights = numpy(scheme((300, 400), dtype)).astype(np.float64)
    assert deviations(weights, cut_normal(0.1, *bounds)) == []
    assert weights.min() >= 0.1 * bounds[0]
    assert weights.max() <= 0.1 * bounds[1]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_truncated_normal_without_spread(bounds):
    assert not numpy(keras_winit.TruncatedNormal(0.0, bounds)((3, 4))).any()


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_truncated_normal_has_the_stddev_of_the_argument(bounds):
    weights = numpy(keras_winit.TruncatedNormal(0.1, bounds, seed=1)((300, 400)))
    kurtosis = cut_normal(1, *bounds).kurtosis
    ratio = (weights.astype(np.float64).std() / 0.1) ** 2
    assert abs(ratio - 1) * math.sqrt(weights.size / (kurtosis - 1)) < 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_moves_no_weight_beyond_a_bound(dtype, monkeypatch):
    # All draws lie on the bound, where rounding could exceed it: 2 * 0.1 in float32 is above 0.2.
    monkeypatch.setattr(unit_distributions, "fill_normal", lambda generator, out: out.fill(2.0))
    scheme = keras_winit.TruncatedNormal(0.1, corrected=False)
    weights = numpy(scheme((3, 4), dtype)).astype(np.float64)
    assert (weights <= 0.2).all()
    np.testing.assert_allclose(weights, 0.2, rtol=1e-7)


def test_no_uniform_weight_lies_on_a_bound_or_at_zero():
    weights = numpy(keras_winit.SmallUniform(1.0, seed=0)((3000, 1000)))
    assert np.abs(weights).max() < 1
    assert np.abs(weights).min() > 0


@pytest.mark.parametrize(
    ("wrong", "law"),
    {
        "fans swapped": (lambda z: z * (1 / 384) ** 0.5, normal((1 / 256) ** 0.5)),
        "gain not squared": (lambda z: z * (2**0.5 / 256) ** 0.5, normal((2 / 256) ** 0.5)),
        "variance for stddev": (lambda z: z / 256, normal(1 / 16)),
        "stddev 2 % off": (lambda z: z * 1.02, normal(1.0)),
        "mean off": (lambda z: z + 0.02, normal(1.0)),
        "truncation dropped": (lambda z: z * 0.05, cut_normal(0.05 / CUT)),
        "cut for normal": (lambda z: z[abs(z) < 2] / CUT, normal(1.0)),
        "truncation not corrected": (lambda z: z[abs(z) < 2] * 0.05, cut_normal(0.05 / CUT)),
        "sign forgotten": (lambda z: z * 0.05, negative_half_normal(0.05)),
        "normal for uniform": (lambda z: z / 3**0.5, uniform(1.0)),
        "clipped for truncated": (lambda z: np.clip(z, -2, 2), cut_normal(1.0)),
    }.values(),
    ids=lambda v: None,
)
def test_wrong_distributions_are_found(wrong, law):
    z = np.random.default_rng(0).standard_normal(256 * 384)
    assert deviations(wrong(z), law)


# Layers with the true fan_in: inputs of variance 1 give pre-activations of variance gain**2.
def _dense():
    return keras.layers.Dense(384, kernel_initializer="winit>he_normal"), (512, 256), 256


def _conv():
    layer = keras.layers.Conv2D(128, 3, kernel_initializer="winit>he_normal")
    return layer, (4, 12, 12, 32), 288


def _conv1d():
    return keras.layers.Conv1D(96, 5, kernel_initializer="winit>he_uniform"), (16, 40, 48), 240


def _conv3d():
    return keras.layers.Conv3D(64, 2, kernel_initializer="winit>he_normal"), (4, 8, 8, 8, 24), 192


def _einsum():
    layer = keras.layers.EinsumDense(
        "abc,cde->abde", (10, 8, 48), kernel_initializer="winit>he_normal"
    )
    return layer, (64, 10, 256), 256


def _einsum_two_inputs():
    layer = keras.layers.EinsumDense(
        "abcd,cde->abe", (10, 256), kernel_initializer="winit>he_uniform"
    )
    return layer, (64, 10, 8, 32), 256


@pytest.mark.parametrize("make", [_dense, _conv, _conv1d, _conv3d, _einsum, _einsum_two_inputs])
def test_signal_keeps_its_variance(make):
    keras.utils.set_random_seed(0)
    layer, shape, fan_in = make()
    inputs = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    outputs = numpy(layer(inputs))
    kernel = layer.kernel.shape
    units = math.prod(kernel) // fan_in
    # Both terms count: outputs vary with the weights of each unit and with the samples.
    error = math.sqrt(2 / (fan_in * units) + 2 / (shape[0] * units))
    assert abs((outputs.astype(np.float64) ** 2).mean() / 2 - 1) < 5 * error


def test_attention_projections_get_their_true_fans():
    layer = keras.layers.MultiHeadAttention(8, 32, kernel_initializer="winit>lecun_normal")
    layer.build((2, 5, 384), (2, 5, 384))
    kernels = {path.path.split("/")[-2]: numpy(path) for path in layer.weights if path.ndim == 3}
    for name in ("query", "key", "value"):
        assert kernels[name].shape == (384, 8, 32)
        assert deviations(kernels[name], normal(384**-0.5)) == []
    assert deviations(kernels["attention_output"], normal(256**-0.5)) == []
    assert not np.array_equal(kernels["query"], kernels["key"])


def test_axes():
    scheme = keras_winit.XavierNormal(seed=0, input_axes=[1], output_axes=[0, -1])
    assert deviations(numpy(scheme((8, 100, 120))), normal(math.sqrt(2 / (100 + 960)))) == []
    one_side = keras_winit.XavierNormal(seed=0, input_axes=(1,))
    np.testing.assert_array_equal(numpy(one_side((8, 100, 120))), numpy(scheme((8, 100, 120))))
    assert json.dumps(scheme.get_config()["input_axes"]) == "[1]"
