"""Chains that start as products of orthogonal matrices: exact isometry, pairs, refusals."""

import math
import re

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit
from keras_winit import LooksLinear, NearLinearOrthogonal

L = keras.layers
EPS = float(np.finfo(np.float32).eps)
DEPTH, WIDTH = 200, 32
PAIR = ("first", "hidden")

erf = np.vectorize(math.erf)


def logistic(z):
    return 1 / (1 + np.exp(-z))


# Each activation has its function, its derivative and the slope of its odd part.
ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, 1 / 2),
    "leaky_relu": (lambda z: np.maximum(z, 0.2 * z), lambda z: np.where(z > 0, 1, 0.2), 0.6),
    "gelu": (
        lambda z: z * (1 + erf(z / 2**0.5)) / 2,
        lambda z: (1 + erf(z / 2**0.5)) / 2 + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
        1 / 2,
    ),
    "silu": (
        lambda z: z * logistic(z),
        lambda z: logistic(z) * (1 + z * (1 - logistic(z))),
        1 / 2,
    ),
    "softplus": (lambda z: np.log1p(np.exp(z)), logistic, 1 / 2),
}


def chain(activation, depth=DEPTH):
    """Draw the kernels of a chain whose slopes are all 1 while it looks linear."""
    slope = ACTIVATIONS[activation][2]
    places = ["first", *["hidden"] * (depth - 2), "last"]
    shapes = [(WIDTH // 2, WIDTH), *[(WIDTH, WIDTH)] * (depth - 2), (WIDTH, WIDTH // 2)]
    gains = {"first": None, "hidden": None, "last": 1 / slope}
    return [
        numpy(LooksLinear(place, gains[place], nonlinearity=activation, seed=number)(shape))
        for number, (place, shape) in enumerate(zip(places, shapes, strict=True))
    ]


def stretches(kernels, activation):
    """Return by which factors a chain stretches distances and gradients, samples - 1 of each."""
    function, slope, _ = ACTIVATIONS[activation]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, WIDTH // 2)).astype(np.float32).astype(np.float64)
    zs = [x @ kernels[0]]
    for kernel in kernels[1:]:
        zs.append(function(zs[-1]) @ kernel)
    gradient = upper = rng.normal(size=zs[-1].shape)
    for z, kernel in zip(reversed(zs[:-1]), reversed(kernels[1:]), strict=True):
        gradient = (gradient @ kernel.T) * slope(z)
    gradient = gradient @ kernels[0].T

    def norms(values):
        return np.linalg.norm(values, axis=1)

    distances = norms(np.diff(zs[-1], axis=0)) / norms(np.diff(x, axis=0))
    return np.append(distances, norms(gradient) / norms(upper))


@pytest.mark.backend_independent
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_200_layers_keep_distances_and_gradients(activation):
    kernels = chain(activation)
    # Each layer adds at most the rounding of an orthogonal matrix, see test_orthogonal.py.
    assert np.abs(stretches(kernels, activation) - 1).max() < 10 * EPS * DEPTH


def flipped(kernels):
    kernels[7] = kernels[7] * np.where(np.arange(WIDTH) < WIDTH // 2, 1, -1)


def scaled(kernels):
    kernels[7] = kernels[7] * 1.01


def independent_blocks(kernels):
    other = numpy(keras_winit.Orthogonal(seed=99)((WIDTH // 2, WIDTH // 2)))
    kernels[7] = kernels[7].copy()
    kernels[7][WIDTH // 2 :, : WIDTH // 2] = other


@pytest.mark.backend_independent
@pytest.mark.parametrize("wrong", [flipped, scaled, independent_blocks])
def test_a_planted_wrong_breaks_the_isometry(wrong):
    kernels = chain("gelu", 20)
    assert np.abs(stretches(kernels, "gelu") - 1).max() < 10 * EPS * 20
    wrong(kernels)
    assert np.abs(stretches(kernels, "gelu") - 1).max() > 5e-3


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_pairs_are_exact_opposites_in_every_dtype(dtype, noise):
    def draw(place, shape, **arguments):
        kernel = LooksLinear(place, noise=noise, seed=1, **arguments)(shape, dtype)
        return numpy(keras.ops.cast(kernel, "float32"))

    first = draw("first", (3, 3, 2, 12))
    np.testing.assert_array_equal(first[..., :6], -first[..., 6:])
    hidden = draw("hidden", (3, 3, 8, 12))
    np.testing.assert_array_equal(hidden[..., :6], -hidden[..., 6:])
    np.testing.assert_array_equal(hidden[:, :, :4], -hidden[:, :, 4:])
    last = draw("last", (24, 5), channels=6).reshape(4, 6, 5)
    np.testing.assert_array_equal(last[:, :3], -last[:, 3:])
    # Three experts differ, and each pairs the units of its two heads.
    axes = {"input_axes": (1,), "output_axes": (2, 3)}
    experts = draw("hidden", (3, 8, 2, 6), **axes)
    np.testing.assert_array_equal(experts[..., :3], -experts[..., 3:])
    np.testing.assert_array_equal(experts[:, :4], -experts[:, 4:])
    assert len(np.unique(np.abs(experts).reshape(3, -1), axis=0)) == 3


def test_odd_widths_leave_one_unit_without_a_partner():
    kernel = numpy(LooksLinear(seed=0)((9, 7)))
    np.testing.assert_array_equal(kernel[:4], -kernel[4:8])
    np.testing.assert_array_equal(kernel[:, :3], -kernel[:, 3:6])
    assert not kernel[8].any()
    # The gain of relu is 2; each unit of a pair gets half of it.
    np.testing.assert_allclose(np.linalg.norm(kernel[:4], axis=0), 1, atol=10 * EPS)
    assert abs(np.linalg.det(np.column_stack([kernel[:4, :3], kernel[:4, 6]]))) > 1e-3


def test_a_window_has_the_matrix_at_its_center_and_a_first_kernel_uses_all_taps():
    hidden = numpy(LooksLinear(seed=0)((3, 4, 16, 16)))
    assert [tuple(map(int, tap)) for tap in np.argwhere(hidden.any(axis=(2, 3)))] == [(1, 1)]
    half = hidden[1, 1, :8, :8]
    np.testing.assert_allclose(half.T @ half, np.eye(8), atol=10 * EPS)
    first = numpy(LooksLinear("first", seed=0)((3, 3, 4, 16)))[..., :8].reshape(36, 8)
    np.testing.assert_allclose(first.T @ first, np.eye(8), atol=10 * EPS)


def test_noise_is_a_share_of_the_variance():
    shape, noise = (3, 3, 128, 128), 0.3
    kernel = numpy(LooksLinear(noise=noise, seed=0)(shape)).astype(np.float64)[:, :, :64, :64]
    outer = np.delete(kernel.reshape(9, 64, 64), 4, axis=0)
    deviation = np.mean(outer**2) * 9 * 64 / noise - 1
    assert abs(deviation) < 5 * math.sqrt(2 / outer.size)
    # The part of the orthogonal matrix is exact; that of the noise, and their product, vary.
    center = kernel[1, 1]
    expected = (1 - noise) / 64 + noise / (9 * 64)
    assert abs(np.mean(center**2) / expected - 1) < 5 * math.sqrt(2 / center.size)


def test_more_columns_than_rows_keep_the_mean_square():
    first = numpy(LooksLinear("first", seed=0)((4, 32)))
    np.testing.assert_allclose((first[:, :16] @ first[:, :16].T), 4 * np.eye(4), atol=4e-6)
    near = numpy(NearLinearOrthogonal("first", seed=0)((4, 16)))
    np.testing.assert_allclose(near @ near.T, 0.01 * 4 * np.eye(4), atol=1e-7)


def test_gains_of_near_linear_kernels():
    # E[(1 - tanh(q z)**2)**2] = 1 - 2 q**2 + O(q**4), so the gain is 1 + q**2.
    kernel = numpy(NearLinearOrthogonal(stddev=0.02, seed=0)((16, 16)))
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1 + 0.02**2, rtol=2e-6)
    for place, gain in (("first", 0.02), ("last", 1.0)):
        kernel = numpy(NearLinearOrthogonal(place, stddev=0.02, seed=0)((16, 16)))
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), gain, rtol=2e-6)


@pytest.mark.parametrize("place", ["hidden", "last"])
def test_a_centered_kernel_takes_no_notice_of_a_constant_at_any_tap(place):
    scheme = NearLinearOrthogonal(place, noise=0.5, centered=True, seed=0)
    kernel = numpy(scheme((3, 3, 12, 8))).astype(np.float64)
    assert abs(kernel.sum(axis=2)).max() < 20 * EPS
    assert abs(kernel).max() > 0.1


def test_a_centered_kernel_is_a_rotation_of_vectors_that_sum_to_zero():
    first, hidden = (
        numpy(NearLinearOrthogonal(place, 1.0, centered=True, seed=1)((15, 15))) for place in PAIR
    )
    vectors = np.random.default_rng(0).normal(size=(6, 15))
    assert abs((vectors @ first).sum(axis=1)).max() < 50 * EPS
    vectors -= vectors.mean(axis=1, keepdims=True)
    rotated = vectors @ hidden
    assert abs(rotated.sum(axis=1)).max() < 50 * EPS
    np.testing.assert_allclose(rotated @ rotated.T, vectors @ vectors.T, atol=100 * EPS)


def test_fifty_sigmoid_layers_keep_distances_if_centered():
    def ratios(centered):
        # Slope 1/4 at 0; pre-activations of 1e-3, so that the sigmoid is straight.
        gains = {"first": 1e-3, "hidden": 4.0, "last": 4e3}
        places = ["first", *["hidden"] * 49, "last"]
        signal = x = np.random.default_rng(0).normal(size=(4, 8))
        for number, place in enumerate(places):
            scheme = NearLinearOrthogonal(place, gains[place], centered=centered, seed=number)
            kernel = numpy(scheme((8 if place == "first" else 16, 16))).astype(np.float64)
            signal = signal @ kernel
            signal = signal if place == "last" else logistic(signal)
        distances = [np.linalg.norm(np.diff(each, axis=0), axis=1) for each in (signal, x)]
        # Centered weights leave 15 of the 16 dimensions of a hidden layer to carry the signal.
        return distances[0] / distances[1] / math.sqrt(15 / 8 * 16 / 15)

    np.testing.assert_allclose(ratios(True), 1, atol=2e-3)
    # Without centering, 1/2 moves the signal off the straight part within a few layers.
    assert abs(ratios(False) - 1).min() > 0.5


def test_one_unit_cannot_be_centered():
    for place, shape in (("hidden", (1, 8)), ("last", (1, 8)), ("first", (8, 1))):
        expected = message(
            f"NearLinearOrthogonal(centered=True, place={place!r})",
            "needs at least two units on each centered side",
            f"shape={shape}",
        )
        with pytest.raises(ValueError, match=expected):
            NearLinearOrthogonal(place, centered=True)(shape)


def message(name, requirement, received, remedy=""):
    end = f" {remedy}" if remedy else ""
    return f"^{re.escape(f'`{name}` {requirement}. Received: {received}.{end}')}$"


@pytest.mark.parametrize(
    "activation", ["tanh", "softsign", "hard_tanh", "linear", "soft_shrink", None]
)
def test_odd_activations_are_refused(activation):
    with pytest.raises(
        ValueError,
        match=message(
            "LooksLinear(nonlinearity=...)",
            "must be an activation that is not odd: with f(-z) = -f(z), the two units of a pair "
            "never part",
            f"nonlinearity={activation!r}",
            "Use `winit>near_linear_orthogonal`.",
        ),
    ):
        LooksLinear(nonlinearity=activation)


def test_a_constant_even_part_is_accepted():
    # odd(z) = tanh(z / 2) / 2.
    kernel = numpy(LooksLinear(nonlinearity="sigmoid", seed=0)((8, 8)))
    z, weights = np.polynomial.hermite_e.hermegauss(80)
    moment = (weights * np.tanh(z / 2) ** 2 / 4).sum() / weights.sum()
    assert np.linalg.norm(kernel[:4, 0]) == pytest.approx(moment**-0.5 / 2, rel=1e-5)


@pytest.mark.parametrize("scheme", ["LooksLinear", "NearLinearOrthogonal"])
@pytest.mark.parametrize(
    ("use", "received"),
    [
        ({"groups": 2}, "kind='dense', groups=2, gates=1"),
        ({"gates": 4}, "kind='dense', groups=1, gates=4"),
        ({"kind": "depthwise"}, "kind='depthwise', groups=1, gates=1"),
    ],
)
def test_split_kernels_are_refused(scheme, use, received):
    expected = message(
        scheme,
        "needs a kernel without groups, gates and depthwise channels",
        f"{received}, shape=(3, 8, 8)",
        "Use `winit>orthogonal`.",
    )
    with pytest.raises(ValueError, match=expected):
        getattr(keras_winit, scheme)(**use)((3, 8, 8))


def test_layers_tell_that_a_kernel_is_split():
    grouped = L.Conv2D(8, 3, groups=2, kernel_initializer="winit>looks_linear")
    depthwise = L.DepthwiseConv2D(3, depthwise_initializer="winit>looks_linear")
    for layer in (grouped, depthwise):
        with pytest.raises(ValueError, match=r"^`LooksLinear` needs a kernel without groups"):
            layer.build((None, 8, 8, 8))


def test_what_cannot_be_paired_is_refused():
    pairs = "needs at least two {} along the last axis of them, to be paired"
    for place, shape, side in (("hidden", (1, 8), "inputs"), ("first", (8, 1), "outputs")):
        expected = message(f"LooksLinear(place='{place}')", pairs.format(side), f"shape={shape}")
        with pytest.raises(ValueError, match=expected):
            LooksLinear(place)(shape)
    expected = message(
        "LooksLinear(channels=...)",
        "must divide the number of inputs",
        "channels=5, shape=(12, 8)",
    )
    with pytest.raises(ValueError, match=expected):
        LooksLinear(channels=5)((12, 8))


def test_arguments_out_of_range():
    for scheme, arguments, requirement in (
        (LooksLinear, {"place": "middle"}, "one of 'first', 'hidden', 'last'"),
        (LooksLinear, {"gain": -1.0}, "a number >= 0 or None"),
        (LooksLinear, {"noise": 1.5}, "a number from 0 to 1"),
        (LooksLinear, {"channels": 1}, "an integer >= 2"),
        (NearLinearOrthogonal, {"stddev": 0.0}, "a number > 0 whose square is finite"),
        (NearLinearOrthogonal, {"stddev": 1e200}, "a number > 0 whose square is finite"),
    ):
        ((name, value),) = arguments.items()
        expected = message(
            f"{scheme.__name__}({name}=...)", f"must be {requirement}", f"{name}={value!r}"
        )
        with pytest.raises(ValueError, match=expected):
            scheme(**arguments)


def trained(places, units, activation="gelu", dtype=None, dropout=0.0, decay=None):
    """Train a chain of dense layers on two clouds; return the last loss."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = np.repeat([0.0, 1.0], 32)[:, None]
    x = rng.normal(size=(64, 8)) + 2 * y
    scheme = NearLinearOrthogonal if activation == "tanh" else LooksLinear
    hidden = []
    for number, (place, width) in enumerate(zip(places, units, strict=True)):
        draw = scheme(place, nonlinearity=activation, seed=number)
        used = None if place == "last" else activation
        hidden += [L.Dense(width, used, kernel_initializer=draw, dtype=dtype)]
        hidden += [L.Dropout(dropout)] * (dropout > 0 and place != "last")
    model = keras.Sequential([keras.Input((8,)), *hidden])
    model.compile(keras.optimizers.Adam(3e-3, weight_decay=decay), "mse")
    history = model.fit(x, y, epochs=8, batch_size=64, verbose=0)
    return history.history["loss"]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"dropout": 0.1},
        {"dtype": "mixed_bfloat16"},
        {"decay": 1e-2},
        {"units": (17, 17, 17, 17, 1)},
        {"units": (16, 24, 12, 20, 1)},
        {"activation": "tanh"},
    ],
    ids=lambda how: next(iter(how), "plain"),
)
def test_a_chain_trains(how):
    places = ("first", "hidden", "hidden", "hidden", "last")
    losses = trained(places, **{"units": (16, 16, 16, 16, 1), **how})
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]
