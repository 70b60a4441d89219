"""The experiments of the notes reproduce the notes' numbers."""

import keras
import numpy as np
import pytest

import keras_winit
from keras_winit import experiments, plots, propagate, symmetry
from keras_winit.initializers.kernels import reseeded

# Standard deviations of layers 1 to 10, as the notes print them.
NOTES = {
    "winit>small_normal": "0.2133 0.0476 0.0106 0.0024 0.00054 0.00012 0.00003 0.00001 0.000001 0",
    "winit>large_normal": "0.982 " * 10,
    "winit>lecun_normal": "0.627 0.486 0.409 0.357 0.320 0.293 0.271 0.256 0.243 0.231",
}
SEEDS = range(8)


def misfits(initializer, printed):
    """Layers whose figure lies beyond three standard deviations over seeds, and rounding."""
    runs = np.array([[row.stddev for row in propagate(initializer, seed=s).layers] for s in SEEDS])
    figures = printed.split()
    rounding = np.array([10.0 ** -len(figure.partition(".")[2]) for figure in figures]) / 2
    apart = np.abs(runs.mean(0) - np.array(figures, float))
    return (np.flatnonzero(apart > 3 * runs.std(0, ddof=1) + rounding) + 1).tolist()


@pytest.mark.parametrize("name", NOTES)
def test_the_tables_of_the_notes(name):
    assert misfits(name, NOTES[name]) == []


def test_the_tables_tell_wrong_schemes():
    assert misfits(keras_winit.SmallNormal(0.0105), NOTES["winit>small_normal"])
    assert misfits(keras_winit.LecunNormal(gain=1.02), NOTES["winit>lecun_normal"])
    assert misfits("winit>xavier_uniform", NOTES["winit>large_normal"])


def test_the_start_of_each_scheme():
    small = propagate("winit>small_normal").layers
    large = propagate("winit>large_normal").layers
    assert small[9].stddev < 1e-6
    assert all(abs(layer.mean) < 0.01 for layer in (*small, *large))
    # "Almost every unit at +-1": beyond 0.9747 is where tanh is flat.
    assert all(layer.saturated_share > 0.9 for layer in large)
    assert all(layer.saturated_share == 0 for layer in small)
    assert large[0].counts[0] + large[0].counts[-1] > 0.8 * sum(large[0].counts)


def test_zeros_give_nothing_at_all():
    layers = propagate("winit>zeros").layers
    assert all(layer.stddev == 0 and layer.dead_share == 1 for layer in layers)


def test_negative_weights_kill_relus():
    first, *rest = propagate("winit>negative_normal", "relu").layers
    assert first.dead_share == 0
    assert all(layer.dead_share == 1 for layer in rest)


def test_batch_normalization_rescues_small_weights():
    alone = propagate("winit>small_normal", "tanh").layers
    rescued = propagate("winit>small_normal", "tanh", batch_normalization=True).layers
    assert alone[-1].stddev < 1e-6
    # tanh of N(0, 1): by quadrature 0.6279; the epsilon of 1e-3 takes at most a little.
    assert all(0.61 < layer.stddev < 0.64 for layer in rescued)


def test_he_keeps_relu_alive_and_lecun_does_not():
    he = propagate("winit>he_normal", "relu", depth=20).layers
    lecun = propagate("winit>lecun_normal", "relu", depth=20).layers
    second_moment = [layer.mean**2 + layer.stddev**2 for layer in he]
    # 1 in the mean over kernels; 20 layers of 500 units leave a factor of two or so.
    assert all(0.3 < value < 3 for value in second_moment)
    assert lecun[-1].stddev < 1e-2


def test_rows_are_what_numpy_says():
    width, samples = 30, 200
    kernels = []

    class Spy(keras_winit.LecunNormal):
        def __call__(self, *arguments, **options):
            kernels.append(super().__call__(*arguments, **options))
            return kernels[-1]

    result = propagate(Spy(), depth=3, width=width, samples=samples, seed=5)
    first = experiments._seeds(5, 4)[0]
    signal = keras.ops.convert_to_numpy(keras_winit.LargeNormal(seed=first)((samples, width)))
    for kernel, layer in zip(kernels, result.layers, strict=True):
        signal = np.tanh(signal.astype(np.float64) @ keras.ops.convert_to_numpy(kernel))
        np.testing.assert_allclose(layer.mean, signal.mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.stddev, signal.std(), rtol=1e-5)
        np.testing.assert_allclose(layer.unit_stddev, signal.std(0).mean(), rtol=1e-5)
        assert sum(layer.counts) == samples * width
        assert abs(layer.saturated_share - (np.abs(signal) > 0.97468).mean()) < 3 / signal.size
    assert len({k.tobytes() for k in map(keras.ops.convert_to_numpy, kernels)}) == 3


def test_what_overflows_is_counted():
    result = keras_winit.propagate("winit>large_normal", "exponential", 4, 20, 5)
    head, *lines = str(result).splitlines()[1:]
    lost = [layer.nonfinite for layer in result.layers]
    assert lost[0] == 0
    assert 0 < lost[1] < 100
    assert lost[-1] == 100
    assert head.endswith("not finite")
    assert [int(line.split()[-1]) for line in lines] == lost
    assert "not finite" not in str(keras_winit.propagate("winit>he_normal", "relu", 2, 20, 5))


def test_takes_whatever_keras_takes():
    for initializer in (
        "winit>sparse",
        keras_winit.Sparse,
        keras_winit.Sparse(gain=1.0),
        "glorot_uniform",
        keras.initializers.HeNormal(seed=1),
        lambda shape, dtype=None: keras.ops.ones(shape, dtype),
    ):
        for activation in ("gelu", keras.ops.sin):
            result = propagate(initializer, activation, depth=2, width=8, samples=5)
            assert len(result.layers) == 2
            assert str(result).count("\n") == 3
    named = str(propagate(keras_winit.Sparse(gain=1.0), depth=2, width=8, samples=5))
    assert named.startswith("Sparse(connections=10, gain=1.0): 2 tanh layers of 8 units")


def test_any_signal_gets_its_histogram():
    for name, activation, depth in (
        ("constant", "sigmoid", 3),  # nearly one value
        ("small_normal", "tanh", 40),  # smaller than float32's normal numbers
        ("large_normal", "relu", 60),  # beyond float32
    ):
        result = propagate(f"winit>{name}", activation, depth=depth, width=100, samples=50)
        assert all(len(layer.counts) + 1 == len(layer.edges) for layer in result.layers)
        assert sum(result.layers[0].counts) == 5000
        plots.propagation(result).canvas.draw()


def test_the_seed_decides():
    def figures(seed):
        return propagate("winit>he_normal", depth=2, width=20, samples=10, seed=seed)

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


WRAPPED = {
    "scaled": lambda: keras_winit.Scaled("winit>he_normal"),
    "masked": lambda: keras_winit.Masked("he_normal"),
    "blocks": lambda: keras_winit.Blocks(["winit>scaled", keras_winit.HeNormal(seed=3)]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_seed_reaches_what_is_wrapped(name):
    wrapped = WRAPPED[name]()
    twins = [reseeded(wrapped, seed)((20, 30)) for seed in (1, 1, 2)]
    one, same, other = (keras.ops.convert_to_numpy(twin) for twin in twins)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    by_name = [propagate("winit>scaled", depth=2, width=20, samples=10, seed=s) for s in (1, 1, 2)]
    assert by_name[0] == by_name[1] != by_name[2]


def test_no_initializer_is_none():
    for experiment in (propagate, symmetry):
        with pytest.raises(ValueError, match=r"initializer=\.\.\."):
            experiment(None)


@pytest.mark.parametrize("name", ["zeros", "ones", "constant"])
def test_equal_units_stay_equal(name):
    result = symmetry(f"winit>{name}")
    assert result.before == result.after == (1, 1)


def test_units_that_overflow_are_counted_too():
    result = symmetry("winit>large_normal", "relu", units=64, steps=5)
    assert result.before == (64, 64)
    assert all(1 <= count <= 64 for count in result.after)


def test_random_units_do_not_stay_equal():
    result = symmetry("winit>lecun_normal")
    assert result.before == result.after == (16, 16)
    assert result.loss_after < 0.5 * result.loss_before
    assert "\n    2      16                       16               16" in str(result)


def test_digits_tell_a_bad_start_from_a_good_one():
    keras.utils.set_random_seed(0)
    data = experiments.digits()
    assert data.train_images.shape == (1347, 64)
    assert len(data.test_images) == 450
    assert abs(data.train_images.mean()) < 1e-5
    models = [
        experiments.digits_classifier(name) for name in ("winit>small_normal", "winit>he_normal")
    ]
    *_, (bad, good) = experiments.train_on_digits(models, data, epochs=6)
    assert bad < 0.2
    assert good > 0.85
