"""Random streams: a seed gives the same values everywhere, and no counter is used twice."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from support.laws import numpy
from support.supported_shapes import fitting, make

import keras_winit
from keras_winit.initializers import REGISTRY, streams
from keras_winit.initializers.placement import whole
from keras_winit.initializers.streams import Stream

SHAPE = (500, 700)  # Several chunks.
# Schemes that use a linear algebra library, whose last bits vary between machines.
ALGEBRA = {"orthogonal", "delta_orthogonal", "scaled_orthogonal", "convolution_aware"}
ALGEBRA |= {"looks_linear", "near_linear_orthogonal"}
RANDOM = sorted(name for name, cls in REGISTRY.items() if "seed" in cls().get_config())


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_values_are_the_same_on_every_backend_and_numpy(golden, dtype):
    # One golden file serves all backends.
    names = [name for name in RANDOM if name not in ALGEBRA]
    kernels = {name: numpy(make(name, seed=7)(fitting(name, SHAPE), dtype)) for name in names}
    kernels["truncated_normal (2, 3)"] = numpy(
        keras_winit.TruncatedNormal(bounds=(2, 3), seed=7)(SHAPE, dtype)
    )
    kernels["sparse 0.5"] = numpy(keras_winit.Sparse(sparsity=0.5, seed=7)(SHAPE, dtype))
    kernels["sparse 0.05"] = numpy(keras_winit.Sparse(sparsity=0.05, seed=7)(SHAPE, dtype))
    icnr = keras_winit.Icnr(keras_winit.HeNormal(seed=7))
    kernels["icnr"] = numpy(icnr((3, 3, 100, 200), dtype))
    golden(
        f"values_{dtype}.json",
        {
            name: {"first": w.ravel()[:3].astype(float).tolist(), "sha256": digest(w)}
            for name, w in kernels.items()
        },
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", RANDOM)
def test_16_bit_weights_are_float32_weights_rounded_once(name, dtype):
    scheme, shape = make(name, seed=7), fitting(name, SHAPE)
    exact = numpy(scheme(shape, "float32"))
    rounded = numpy(scheme(shape, dtype))
    expected = exact.astype(rounded.dtype)
    if name == "sparse":
        expected[(exact != 0) & (expected == 0)] = rounded[(exact != 0) & (expected == 0)]
    np.testing.assert_array_equal(rounded.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", RANDOM)
def test_float64_weights_are_float32_weights_up_to_rounding(name):
    scheme, shape = make(name, seed=7), fitting(name, SHAPE)
    exact = numpy(scheme(shape, "float64")).astype(np.float64)
    single = numpy(scheme(shape, "float32"))
    np.testing.assert_allclose(exact, single, rtol=2**-22, atol=1e-6 if name in ALGEBRA else 0)


@pytest.mark.parametrize("name", RANDOM)
def test_weights_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    results = set()
    for cores in (1, 2, 7):
        monkeypatch.setattr(streams, "_cores", lambda cores=cores: cores)
        results.add(digest(numpy(make(name, seed=3)(fitting(name, SHAPE)))))
    assert len(results) == 1


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_part_drawn_alone_equals_that_part_of_the_whole(name, monkeypatch):
    monkeypatch.setattr(streams, "CHUNK", 64)  # Makes parts begin and end within chunks.
    generator = np.random.default_rng(0)
    scheme = make(name, **({"seed": 3} if name in RANDOM else {}))
    for _ in range(30):
        shape = tuple(int(n) for n in generator.integers(1, 12, generator.integers(2, 5)))
        # A window with one output is refused by schemes that place single entries.
        shape = fitting(name, (*shape[:-1], max(shape[-1], 2)))
        ends = [sorted(generator.integers(0, size + 1, 2).tolist()) for size in shape]
        part = tuple(slice(*pair) for pair in ends)
        draw = scheme.plan(shape, "float32")
        np.testing.assert_array_equal(draw(part), draw(whole(shape))[part])


def test_no_counter_is_used_twice(monkeypatch):
    used = []
    philox = np.random.Philox

    def spy(key, counter):
        used.append((*key.tolist(), *counter.tolist()))
        return philox(key=key, counter=counter)

    monkeypatch.setattr(streams, "CHUNK", 64)
    monkeypatch.setattr(np.random, "Philox", spy)
    keras_winit.Sparse(seed=1)((40, 200))
    keras_winit.HeNormal(seed=2)((40, 200))
    keras_winit.ConvolutionAware(seed=3)((3, 3, 8, 20))
    shared = keras.random.SeedGenerator(1)
    for _ in range(2):
        keras_winit.Sparse(seed=shared)((40, 200))
        keras_winit.HeNormal(seed=shared)((40, 200))
    assert len(used) > 500
    assert len(set(used)) == len(used)


def test_streams_with_neighbouring_addresses_are_uncorrelated():
    # The addresses differ by one in seed, draw, purpose or chunk. Each correlation is that of
    # 2**17 pairs.
    named = [Stream(5), Stream(6), Stream(5, 1), Stream(5, 2)]
    drawn = [s.generator(0, 0).standard_normal(1 << 17) for s in named]
    drawn += [Stream(5).generator(1, 0).standard_normal(1 << 17)]
    drawn += [Stream(5).generator(0, 1).standard_normal(1 << 17)]
    correlation = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlation).max() * 2**8.5 < 5


@pytest.mark.parametrize("name", RANDOM)
def test_global_generators_do_not_advance(name):
    def states():
        numpy_state = np.random.get_state()
        backend = keras.backend.backend()
        if backend == "torch":
            import torch

            extra = torch.get_rng_state().numpy().tobytes()
        else:
            extra = None
        return random.getstate(), numpy_state[1].tobytes(), numpy_state[2], extra

    scheme, shape = make(name), fitting(name, (30, 40))
    before = states()
    scheme(shape)
    assert states() == before


def test_an_unseeded_scheme_advances_the_generator_of_python_as_keras_does():
    keras.utils.set_random_seed(0)
    keras.initializers.HeNormal()
    after_keras = random.getstate()
    keras.utils.set_random_seed(0)
    keras_winit.HeNormal()
    assert random.getstate() == after_keras


@pytest.mark.parametrize("name", RANDOM)
def test_set_random_seed_determines_unseeded_schemes(name):
    def draw():
        keras.utils.set_random_seed(4)
        first, second = make(name), make(name)
        return [numpy(scheme(fitting(name, (30, 40)))) for scheme in (first, second)]

    first, second = draw()
    again, _ = draw()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_seeds_of_any_type_and_size():
    def draw(seed):
        return digest(numpy(keras_winit.LargeNormal(seed=seed)((5, 6))))

    assert draw(3) == draw(np.int64(3)) == draw(np.uint8(3)) == draw(3 + 2**64)
    different = [0, 3, -1, 2**32, 2**32 + 3, 2**63, keras.random.SeedGenerator(3)]
    assert len({draw(seed) for seed in different}) == len(different)
    assert keras_winit.LargeNormal(seed=np.int64(3)).get_config()["seed"] == 3
    assert keras_winit.LargeNormal(seed=-1).get_config()["seed"] == 2**64 - 1


def test_a_fixed_seed_repeats_its_values_and_a_generator_advances():
    fixed = keras_winit.LargeNormal(seed=3)
    np.testing.assert_array_equal(numpy(fixed((5, 6))), numpy(fixed((5, 6))))
    unseeded = keras_winit.LargeNormal()
    np.testing.assert_array_equal(numpy(unseeded((5, 6))), numpy(unseeded((5, 6))))
    generator = keras.random.SeedGenerator(3)
    advancing = keras_winit.LargeNormal(seed=generator)
    other = keras_winit.LargeNormal(seed=generator)
    drawn = [digest(numpy(scheme((5, 6)))) for scheme in (advancing, advancing, other)]
    assert len(set(drawn)) == 3
    assert numpy(generator.state).tolist() == [3, 3]


def test_a_generator_whose_state_is_reset_repeats_its_values():
    generator = keras.random.SeedGenerator(3)
    scheme = keras_winit.LargeNormal(seed=generator)
    first = numpy(scheme((5, 6)))
    scheme((5, 6))
    generator.state.assign([3, 0])
    np.testing.assert_array_equal(numpy(scheme((5, 6))), first)


@pytest.mark.parametrize("cores", [1, 3])
def test_an_error_in_any_thread_is_raised(cores, monkeypatch):
    done = []

    def work(item):
        if item == 5:
            raise MemoryError("here")
        done.append(item)

    monkeypatch.setattr(streams, "_cores", lambda: cores)
    with pytest.raises(MemoryError, match="here"):
        streams.in_threads(work, range(10_000))
    assert len(done) < 10_000
    streams.in_threads(done.append, range(0))


def test_calls_in_parallel_threads_draw_different_values():
    scheme = keras_winit.LargeNormal(seed=keras.random.SeedGenerator(3))
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: digest(numpy(scheme((5, 6)))), range(200)))
    assert len(set(drawn)) == 200
