"""The contract of every scheme in the registry: names, configs, seeds, dtypes, copies."""

import copy
import inspect
import json
import pickle
import re

import keras
import numpy as np
import pytest
from support.laws import numpy
from support.supported_shapes import CHAIN_SCHEMES, NEEDED, fits, fitting, make

import keras_winit
from keras_winit.initializers import REGISTRY

# The argument `inner` of the wrapping schemes.
INNER = {"class_name": "winit>he_normal", "config": {"seed": 3}}

# For each scheme, arguments that differ from the defaults and must survive a round trip.
CASES = {
    "zeros": {},
    "ones": {},
    "constant": {"value": 0.5},
    "negative_normal": {"stddev": 0.1},
    "small_normal": {"stddev": 0.1},
    "large_normal": {"stddev": 0.1},
    "small_uniform": {"limit": 0.1},
    "truncated_normal": {"stddev": 0.1, "bounds": (-1.0, 3.0), "corrected": False},
    "fan_in_uniform": {"gain": 2.0},
    "lecun_normal": {"gain": 2.0},
    "lecun_uniform": {"gain": 2.0},
    "xavier_normal": {"gain": 2.0, "input_axes": (0,), "output_axes": (1,)},
    "xavier_uniform": {"gain": 2.0},
    "he_normal": {"negative_slope": 0.1, "mode": "fan_out"},
    "he_uniform": {"negative_slope": 0.1, "mode": "fan_out"},
    "variance_scaling": {"scale": 2.0, "mode": "fan_geo_avg", "distribution": "uniform"},
    "sparse": {"sparsity": 0.5, "gain": 2.0},
    "identity": {"gain": 2.0, "input_axes": (0,), "output_axes": (1,)},
    "noisy_identity": {"gain": 2.0, "noise": 0.5},
    "hadamard": {"gain": 2.0},
    "irnn": {"gain": 0.5},
    "dirac": {"groups": 2, "gain": 2.0},
    "icnr": {"inner": INNER, "block_size": 4},
    "bilinear": {},
    "siren": {"first": True, "omega": 10.0},
    "fan_in_bias": {"fan_in": 16},
    "prior_bias": {"probability": tuple(i / 64 for i in range(1, 41))},
    "convolution_aware": {"scale": 1.0, "noise": 0.5},
    "orthogonal": {"gain": 2.0, "gates": 4},
    "delta_orthogonal": {"gain": 2.0, "strides": (1, 2)},
    "scaled_orthogonal": {"gain": 2.0, "groups": 2, "nonlinearity": "relu"},
    "looks_linear": {"place": "last", "gain": 2.0, "noise": 0.5, "nonlinearity": "gelu"},
    "near_linear_orthogonal": {"noise": 0.5, "stddev": 0.2, "centered": True},
    "per_gate": {"inner": INNER, "gates": 2},
    "forget_bias": {"value": 2.0, "gates": 3},
    "chrono": {"max_steps": 20.0, "gates": 3},
    "depth_scaled": {"inner": INNER, "depth": 7, "rule": "sub_ln", "stack": "encoder"},
    "small_init": {"dim": 12},
    "embedding_normal": {"input_axes": (), "output_axes": (1,)},
    "scaled": {"inner": INNER, "gain": 0.5},
    "masked": {"inner": INNER, "mask": [[0] * 20 + [1] * 20]},
    "blocks": {"inners": ["winit>zeros", INNER], "sizes": (12, 18)},
}
# Arguments that the base classes document.
SHARED = {"seed", "input_axes", "output_axes", "kind", "groups", "gates", "strides"}
RANDOM = sorted(name for name, cls in REGISTRY.items() if "seed" in cls().get_config())
WRAPPERS = sorted(name for name in CASES if {"inner", "inners"} & CASES[name].keys())
each = pytest.mark.parametrize("name", sorted(REGISTRY))
each_random = pytest.mark.parametrize("name", RANDOM)


def draw(scheme, shape=None, dtype=None):
    shape = shape or fitting(scheme.identifier.removeprefix("winit>"), (30, 40))
    return numpy(scheme(shape, dtype)).astype(np.float64)


def test_every_scheme_has_a_case():
    assert set(CASES) == set(REGISTRY)


def test_names_and_config_keys_are_the_file_format(golden):
    golden(
        "registry.json",
        {cls.identifier: sorted(cls().get_config()) for cls in REGISTRY.values()},
    )


@each
def test_is_found_by_name_class_dict_and_instance(name):
    cls = REGISTRY[name]
    assert issubclass(cls, keras.initializers.Initializer)
    assert keras.saving.get_registered_name(cls) == f"winit>{name}" == cls.identifier
    as_dict = {"class_name": f"winit>{name}", "config": {}}
    for identifier in (f"winit>{name}", cls, as_dict, cls()):
        assert type(keras.initializers.get(identifier)) is cls


@each
def test_documentation_is_complete(name):
    cls = REGISTRY[name]
    for text in (cls.formula, cls.use, cls.source):
        assert text
        assert text == text.strip()
    doc = inspect.getdoc(cls)
    assert "Example:" in doc
    assert "Source:" in doc
    for argument in cls().get_config().keys() - SHARED:
        assert f"\n    {argument}: " in doc


@each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape",
    [(), (5,), (0,), (0, 5), (5, 0), (3, 4), (3, 3, 0, 4), (2, 3, 4, 5), (5, 1, 4, 8)],
    ids=str,
)
def test_shapes_and_dtypes(name, shape, dtype):
    scheme = make(name)
    if not fits(name, shape):
        with pytest.raises(ValueError, match=re.escape(f"shape={shape}.")):
            scheme(shape, dtype)
        return
    weights = scheme(shape, dtype)
    native = "float32" if dtype == "float64" and keras.backend.backend() == "jax" else dtype
    assert keras.ops.is_tensor(weights)
    assert keras.backend.standardize_dtype(weights.dtype) == native
    assert tuple(weights.shape) == shape
    # TensorFlow cannot convert a bfloat16 scalar to NumPy.
    assert np.isfinite(numpy(keras.ops.cast(weights, "float32"))).all()


@each
def test_shape_and_dtype_are_accepted_in_many_forms(name):
    scheme = make(name)
    given = fitting(name, (3, 4))
    expected = numpy(scheme(given))
    for shape in (list(given), np.array(given), (np.int64(given[0]), *given[1:])):
        np.testing.assert_array_equal(numpy(scheme(shape)), expected)
    assert keras.backend.standardize_dtype(scheme(given).dtype) == keras.config.floatx()
    half = scheme(given, keras.ops.zeros((), "float16").dtype)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"


@each
def test_config_round_trip(name):
    cls = REGISTRY[name]
    scheme = cls(**CASES[name], **({"seed": 3} if name in RANDOM else {}))
    config = json.loads(json.dumps(scheme.get_config()))
    twin = cls.from_config(config)
    assert twin.get_config() == scheme.get_config()
    np.testing.assert_array_equal(draw(twin), draw(scheme))
    saved = keras.saving.serialize_keras_object(scheme)
    assert saved["registered_name"] == f"winit>{name}"
    loaded = keras.saving.deserialize_keras_object(json.loads(json.dumps(saved)))
    assert type(loaded) is cls
    np.testing.assert_array_equal(draw(loaded), draw(scheme))
    np.testing.assert_array_equal(draw(scheme.clone()), draw(scheme))


def test_a_name_gives_a_new_seed_each_time():
    for name in WRAPPERS:
        assert not np.array_equal(draw(REGISTRY[name]()), draw(REGISTRY[name]()))


@each
def test_config_is_a_copy(name):
    scheme = REGISTRY[name](**CASES[name])
    before = scheme.get_config()
    for value in scheme.get_config().values():
        if isinstance(value, list):
            value.append(99)
    assert scheme.get_config() == before


@each
def test_repr_makes_the_scheme_again(name):
    scheme = REGISTRY[name](**CASES[name])
    if name not in WRAPPERS:
        assert repr(REGISTRY[name]()) == {
            "sparse": "Sparse(connections=10, stddev=0.01)",
            "prior_bias": "PriorBias(probability=0.01)",
        }.get(name, f"{REGISTRY[name].__name__}()")
    twin = eval(repr(scheme), vars(keras_winit).copy())
    assert twin.get_config() == scheme.get_config()


@each
@pytest.mark.parametrize(
    "duplicate",
    [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
def test_copies_draw_the_same(name, duplicate):
    scheme = REGISTRY[name](**CASES[name])  # The scheme has no seed.
    twin = duplicate(scheme)
    assert twin.get_config() == scheme.get_config()
    np.testing.assert_array_equal(draw(twin), draw(scheme))


@each_random
def test_seed_generators_round_trip(name):
    cls = REGISTRY[name]
    scheme = make(name, seed=keras.random.SeedGenerator(5))
    config = json.loads(json.dumps(scheme.get_config()))
    first, second = draw(scheme), draw(scheme)
    assert not np.array_equal(first, second)
    # A config restarts the generator; a pickle keeps its state.
    again = cls.from_config(config)
    np.testing.assert_array_equal(draw(again), first)
    np.testing.assert_array_equal(draw(again), second)
    duplicates = pickle.loads(pickle.dumps(scheme)), copy.deepcopy(scheme)
    third = draw(scheme)
    for duplicate in duplicates:
        assert duplicate.seed is not scheme.seed
        np.testing.assert_array_equal(draw(duplicate), third)
    assert copy.copy(scheme).seed is scheme.seed


@pytest.mark.parametrize(
    "duplicate",
    [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_copies_of_schemes_that_share_a_generator_share_one(duplicate):
    generator = keras.random.SeedGenerator(5)
    schemes = [keras_winit.SmallNormal(seed=generator) for _ in range(2)]
    first, second = duplicate(schemes)
    assert first.seed is second.seed
    expected = [draw(scheme) for scheme in schemes]
    for scheme, values in zip((first, second), expected, strict=True):
        np.testing.assert_array_equal(draw(scheme), values)
    assert not np.array_equal(*expected)


@each_random
def test_another_seed_gives_other_values(name):
    assert not np.array_equal(draw(make(name, seed=1)), draw(make(name, seed=2)))
    assert not np.array_equal(draw(make(name)), draw(make(name)))
    scheme = make(name)
    assert not np.array_equal(draw(scheme.from_config(scheme.get_config())), draw(scheme))


def random_names(*shapes):
    """Return the random schemes that need no argument and take kernels of these shapes."""
    names = {*RANDOM, *WRAPPERS} - set(NEEDED)
    return sorted(name for name in names if all(fits(name, shape) for shape in shapes))


@pytest.mark.parametrize("name", random_names((32, 2, 16), (32, 48)))
def test_kernels_of_attention_that_share_a_name_start_different(name):
    attention = keras.layers.MultiHeadAttention(2, 16, kernel_initializer=f"winit>{name}")
    attention.build((2, 5, 32), (2, 5, 32))
    kernels = [numpy(w) for w in attention.weights if tuple(w.shape) == (32, 2, 16)]
    assert len(kernels) == 3
    assert len({kernel.tobytes() for kernel in kernels}) == 3


# The schemes of chains refuse gates.
@pytest.mark.parametrize(
    "name", [name for name in random_names((32, 48)) if name not in CHAIN_SCHEMES]
)
def test_kernels_of_two_layers_that_share_a_name_start_different(name):
    both = keras.layers.Bidirectional(keras.layers.GRU(16, kernel_initializer=f"winit>{name}"))
    both.build((2, 5, 32))
    kernels = [numpy(w) for w in both.weights if tuple(w.shape) == (32, 48)]
    assert len({kernel.tobytes() for kernel in kernels}) == 2
