"""Propagation reproduces the numbers of the lecture notes and agrees with numpy."""

import keras
import numpy as np
import pytest

import keras_winit
from keras_winit import plots, propagate
from keras_winit.initializers.wrapping import reseeded
from keras_winit.models.seeds import derived_seeds

# Standard deviations of layers 1 to 10, as the lecture notes print them.
NOTES = {
    "winit>small_normal": "0.2133 0.0476 0.0106 0.0024 0.00054 0.00012 0.00003 0.00001 0.000001 0",
    "winit>large_normal": "0.982 " * 10,
    "winit>lecun_normal": "0.627 0.486 0.409 0.357 0.320 0.293 0.271 0.256 0.243 0.231",
}
SEEDS = range(8)


def deviating_layers(initializer, printed):
    """Return the layers whose printed stddev our runs do not reproduce.

    The tolerance is three standard deviations over the seeds, plus the rounding in print.
    """
    runs = np.array(
        [[layer.stddev for layer in propagate(initializer, seed=seed).layers] for seed in SEEDS]
    )
    figures = printed.split()
    rounding = np.array([10.0 ** -len(figure.partition(".")[2]) for figure in figures]) / 2
    difference = np.abs(runs.mean(0) - np.array(figures, float))
    return (np.flatnonzero(difference > 3 * runs.std(0, ddof=1) + rounding) + 1).tolist()


@pytest.mark.parametrize("name", NOTES)
def test_the_tables_of_the_lecture_notes(name):
    assert deviating_layers(name, NOTES[name]) == []


def test_wrong_schemes_deviate_from_the_tables():
    assert deviating_layers(keras_winit.SmallNormal(0.0105), NOTES["winit>small_normal"])
    assert deviating_layers(keras_winit.LecunNormal(gain=1.02), NOTES["winit>lecun_normal"])
    assert deviating_layers("winit>xavier_uniform", NOTES["winit>large_normal"])


def test_small_weights_fade_and_large_weights_saturate():
    small = propagate("winit>small_normal").layers
    large = propagate("winit>large_normal").layers
    assert small[9].stddev < 1e-6
    assert all(abs(layer.mean) < 0.01 for layer in (*small, *large))
    # The notes say that almost every unit is at -1 or 1. Beyond 0.9747, tanh counts as flat.
    assert all(layer.saturated_share > 0.9 for layer in large)
    assert all(layer.saturated_share == 0 for layer in small)
    assert large[0].counts[0] + large[0].counts[-1] > 0.8 * sum(large[0].counts)


def test_zeros_give_zeros():
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
    # By quadrature, tanh of N(0, 1) has stddev 0.6279. The epsilon of 1e-3 lowers it a little.
    assert all(0.61 < layer.stddev < 0.64 for layer in rescued)


def test_he_keeps_the_signal_through_relu_and_lecun_does_not():
    he = propagate("winit>he_normal", "relu", depth=20).layers
    lecun = propagate("winit>lecun_normal", "relu", depth=20).layers
    second_moment = [layer.mean**2 + layer.stddev**2 for layer in he]
    # The second moment is 1 in the mean over kernels. In 20 layers of 500 units it varies by a
    # factor of about two.
    assert all(0.3 < value < 3 for value in second_moment)
    assert lecun[-1].stddev < 1e-2


def test_statistics_match_numpy():
    width, samples = 30, 200
    kernels = []

    class Recording(keras_winit.LecunNormal):
        def __call__(self, *arguments, **options):
            kernels.append(super().__call__(*arguments, **options))
            return kernels[-1]

    result = propagate(Recording(), depth=3, width=width, samples=samples, seed=5)
    inputs = keras_winit.LargeNormal(seed=derived_seeds(5, 4)[0])((samples, width))
    signal = keras.ops.convert_to_numpy(inputs)
    for kernel, layer in zip(kernels, result.layers, strict=True):
        signal = np.tanh(signal.astype(np.float64) @ keras.ops.convert_to_numpy(kernel))
        np.testing.assert_allclose(layer.mean, signal.mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.stddev, signal.std(), rtol=1e-5)
        np.testing.assert_allclose(layer.unit_stddev, signal.std(0).mean(), rtol=1e-5)
        assert sum(layer.counts) == samples * width
        assert abs(layer.saturated_share - (np.abs(signal) > 0.97468).mean()) < 3 / signal.size
    assert len({k.tobytes() for k in map(keras.ops.convert_to_numpy, kernels)}) == 3


def test_overflowed_entries_are_counted():
    result = propagate("winit>large_normal", "exponential", 4, 20, 5)
    header, *lines = str(result).splitlines()[1:]
    nonfinite = [layer.nonfinite for layer in result.layers]
    assert nonfinite[0] == 0
    assert 0 < nonfinite[1] < 100
    assert nonfinite[-1] == 100
    assert header.endswith("not finite")
    assert [int(line.split()[-1]) for line in lines] == nonfinite
    assert "not finite" not in str(propagate("winit>he_normal", "relu", 2, 20, 5))


FORMS = {
    "name": "winit>sparse",
    "class": keras_winit.Sparse,
    "instance": keras_winit.Sparse(gain=1.0),
    "keras name": "glorot_uniform",
    "keras instance": keras.initializers.HeNormal(seed=1),
    "function": lambda shape, dtype=None: keras.ops.ones(shape, dtype),
}


@pytest.mark.parametrize("activation", ["gelu", keras.ops.sin], ids=["name", "function"])
@pytest.mark.parametrize("form", FORMS)
def test_initializers_and_activations_in_any_form(form, activation):
    result = propagate(FORMS[form], activation, depth=2, width=8, samples=5)
    assert len(result.layers) == 2
    assert str(result).count("\n") == 3


def test_the_title_names_the_initializer():
    result = propagate(keras_winit.Sparse(gain=1.0), depth=2, width=8, samples=5)
    title = "Sparse(connections=10, gain=1.0): 2 tanh layers of 8 units"
    assert str(result).startswith(title)


@pytest.mark.parametrize(
    ("name", "activation", "depth"),
    [
        ("constant", "sigmoid", 3),  # The signal is nearly constant.
        ("small_normal", "tanh", 40),  # The signal is below float32's normal numbers.
        ("large_normal", "relu", 60),  # The signal exceeds the range of float32.
    ],
)
def test_every_signal_has_a_histogram(name, activation, depth):
    result = propagate(f"winit>{name}", activation, depth=depth, width=100, samples=50)
    assert all(len(layer.counts) + 1 == len(layer.edges) for layer in result.layers)
    assert sum(result.layers[0].counts) == 5000
    plots.propagation(result).canvas.draw()


def test_results_depend_on_the_seed_alone():
    def result(seed):
        return propagate("winit>he_normal", depth=2, width=20, samples=10, seed=seed)

    assert result(1) == result(1)
    assert result(1) != result(2)


WRAPPED = {
    "scaled": lambda: keras_winit.Scaled("winit>he_normal"),
    "masked": lambda: keras_winit.Masked("he_normal"),
    "blocks": lambda: keras_winit.Blocks(["winit>scaled", keras_winit.HeNormal(seed=3)]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_seed_reaches_wrapped_initializers(name):
    wrapped = WRAPPED[name]()
    draws = [reseeded(wrapped, seed)((20, 30)) for seed in (1, 1, 2)]
    first, same, other = (keras.ops.convert_to_numpy(draw) for draw in draws)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_seed_reaches_an_initializer_wrapped_by_name():
    first, same, other = (
        propagate("winit>scaled", depth=2, width=20, samples=10, seed=seed) for seed in (1, 1, 2)
    )
    assert first == same != other
