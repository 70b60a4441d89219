"""Schemes in real layers, and models that are saved and loaded, also in a fresh process."""

import functools
import json
import pickle

import keras
import numpy as np
import pytest
from support.laws import numpy
from support.supported_shapes import CHAIN_SCHEMES, NEEDED, fits, make

import keras_winit
from keras_winit.initializers import REGISTRY

layers = keras.layers
BACKEND = keras.backend.backend()

# For each kind of layer, a function that makes it from the initializers of its kernel and bias,
# and the shape of its input.
LAYERS = {
    "dense": (lambda k, b: layers.Dense(6, kernel_initializer=k, bias_initializer=b), (4, 8)),
    "conv1d": (
        lambda k, b: layers.Conv1D(6, 3, kernel_initializer=k, bias_initializer=b),
        (2, 9, 4),
    ),
    "conv2d": (
        lambda k, b: layers.Conv2D(6, 3, kernel_initializer=k, bias_initializer=b),
        (2, 9, 9, 4),
    ),
    "conv3d": (
        lambda k, b: layers.Conv3D(6, 2, kernel_initializer=k, bias_initializer=b),
        (2, 5, 5, 5, 4),
    ),
    "einsum": (
        lambda k, b: layers.EinsumDense(
            "abc,cde->abde", (3, 2, 6), bias_axes="de", kernel_initializer=k, bias_initializer=b
        ),
        (2, 3, 8),
    ),
    "lstm": (
        lambda k, b: layers.LSTM(
            5, kernel_initializer=k, recurrent_initializer=k, bias_initializer=b
        ),
        (2, 3, 8),
    ),
    "gru": (
        lambda k, b: layers.GRU(
            5, kernel_initializer=k, recurrent_initializer=k, bias_initializer=b
        ),
        (2, 3, 8),
    ),
    "separable": (
        lambda k, b: layers.SeparableConv2D(
            6, 3, depthwise_initializer=k, pointwise_initializer=k, bias_initializer=b
        ),
        (2, 9, 9, 4),
    ),
    "attention": (
        lambda k, b: layers.MultiHeadAttention(2, 4, kernel_initializer=k, bias_initializer=b),
        (2, 3, 8),
    ),
    "embedding": (lambda k, b: layers.Embedding(9, 4, embeddings_initializer=k), (2, 3)),
    "normalization": (
        lambda k, b: layers.BatchNormalization(gamma_initializer="winit>ones", beta_initializer=b),
        (4, 8),
    ),
}
each = pytest.mark.parametrize("name", sorted(REGISTRY))


def bias_for(name):
    for_all = all(fits(name, (units,)) for units in (6, 8, 16))
    return f"winit>{name}" if for_all and name not in NEEDED else "winit>constant"


FORMS = {
    "string": lambda name: f"winit>{name}",
    "dict": lambda name: {"class_name": f"winit>{name}", "config": NEEDED.get(name, {})},
    "class": lambda name: REGISTRY[name],
    "instance": lambda name: make(name),
}


KERNEL_SHAPES = []


class ShapeRecorder(keras.initializers.Zeros):
    """An initializer that records the shapes for which it is called."""

    def __call__(self, shape, dtype=None):
        KERNEL_SHAPES.append(tuple(shape))
        return super().__call__(shape, dtype)


@functools.cache
def kernel_shapes(kind):
    KERNEL_SHAPES.clear()
    make_layer, shape = LAYERS[kind]
    layer = make_layer(ShapeRecorder(), "zeros")
    (_self_attention(layer) if kind == "attention" else layer)(np.ones(shape, "float32"))
    return tuple(KERNEL_SHAPES)


# Layers treat all forms of an initializer alike, except attention layers, which copy it. So the
# other layers are tested with the name only.
@each
@pytest.mark.parametrize(
    ("kind", "form"),
    [(k, f) for k in LAYERS for f in FORMS if f == "string" or k in ("dense", "attention")],
)
def test_a_layer_builds_and_is_restored_from_its_config(name, kind, form):
    make_layer, shape = LAYERS[kind]
    layer = make_layer(FORMS[form](name), FORMS[form](bias_for(name).removeprefix("winit>")))
    inputs = np.ones(shape, "float32")
    lacks_argument = name in NEEDED and form in ("string", "class") and kernel_shapes(kind)
    # These layers pass axes, so that their kernels are no kernels of convolutions.
    windowed = ("convolution_aware", "dirac", "icnr", "bilinear")
    has_axes = name in windowed and kind in ("einsum", "attention")
    has_gates = name in CHAIN_SCHEMES and kind in ("lstm", "gru", "separable")
    unfit = not all(fits(name, shape) for shape in kernel_shapes(kind))
    if lacks_argument or has_axes or has_gates or unfit:
        with pytest.raises(ValueError, match=r"Received: .*shape="):
            (_self_attention if kind == "attention" else lambda layer: layer(inputs))(layer)
        return
    if kind == "attention":
        layer = _self_attention(layer)
    assert np.isfinite(numpy(layer(inputs))).all()
    config = json.loads(json.dumps(keras.layers.serialize(layer)))
    text = json.dumps(config)
    assert kind == "embedding" or f'"registered_name": "{bias_for(name)}"' in text
    assert kind == "normalization" or f'"registered_name": "winit>{name}"' in text
    twin = keras.layers.deserialize(config)
    twin(inputs)
    assert [tuple(w.shape) for w in twin.weights] == [tuple(w.shape) for w in layer.weights]


def _self_attention(attention):
    """Return a model that applies an attention layer to one input."""
    inputs = keras.Input((3, 8))
    return keras.Model(inputs, attention(inputs, inputs))


def _scheme_names(config):
    """Return the names of all schemes anywhere in the config of a model."""

    def walk(node):
        if isinstance(node, dict):
            if str(node.get("registered_name")).startswith("winit>"):
                yield node["registered_name"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    return sorted(walk(config))


def big_model():
    """Return a model with every scheme as a kernel and, where possible, also as a bias."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(20, 16, embeddings_initializer="winit>small_normal")(inputs)
    x = layers.MultiHeadAttention(2, 8, kernel_initializer="winit>sparse")(x, x)
    x = layers.Bidirectional(layers.LSTM(8, kernel_initializer="winit>xavier_uniform"))(x)
    for name in REGISTRY:
        initializers = {
            "kernel_initializer": make(name) if name in NEEDED else f"winit>{name}",
            "bias_initializer": bias_for(name),
        }
        if fits(name, (16, 16)):
            x = layers.Dense(16, "tanh", **initializers)(x)
        elif fits(name, (1, 16, 16)):
            x = layers.Conv1D(16, 1, activation="tanh", **initializers)(layers.Reshape((1, 16))(x))
            x = layers.Flatten()(x)
        elif fits(name, (16,)):
            x = layers.Dense(16, "tanh", bias_initializer=f"winit>{name}")(x)
        else:
            x = layers.Dense(16, "tanh")(layers.Dense(15, **initializers)(x))
    seeded = keras_winit.HeNormal(0.2, seed=keras.random.SeedGenerator(3), mode="fan_out")
    truncated = keras_winit.TruncatedNormal(bounds=(-1, 3), seed=4)
    x = layers.Dense(16, kernel_initializer=seeded, bias_initializer=truncated)(x)
    x = layers.Dense(3, kernel_initializer=keras_winit.Sparse(sparsity=0.5, gain=1.0))(x)
    model = keras.Model(inputs, x)
    model.compile("sgd", keras.losses.MeanSquaredError())
    return model


INPUTS = np.arange(20).reshape(4, 5) % 20


def test_a_keras_file_is_loaded(tmp_path):
    model = big_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert _scheme_names(loaded.get_config()) == _scheme_names(model.get_config())
    np.testing.assert_array_equal(numpy(loaded(INPUTS)), numpy(model(INPUTS)))


@pytest.mark.parametrize("compiled", [True, False])
def test_an_h5_file_is_loaded(tmp_path, compiled):
    model = big_model()
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5", compile=compiled)
    assert _scheme_names(loaded.get_config()) == _scheme_names(model.get_config())
    np.testing.assert_array_equal(numpy(loaded(INPUTS)), numpy(model(INPUTS)))


def test_a_model_is_restored_from_json_its_config_and_a_pickle():
    model = big_model()
    expected = _scheme_names(model.get_config())
    assert len(expected) > 2 * len(REGISTRY)
    for twin in (
        keras.models.model_from_json(model.to_json()),
        keras.models.clone_model(model),
        keras.Model.from_config(model.get_config()),
    ):
        assert _scheme_names(twin.get_config()) == expected
        twin.set_weights(model.get_weights())
        np.testing.assert_array_equal(numpy(twin(INPUTS)), numpy(model(INPUTS)))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(numpy(again(INPUTS)), numpy(model(INPUTS)))


LOAD = """
import sys, json, pathlib, numpy as np, keras, keras_winit
folder = pathlib.Path(sys.argv[1])
inputs = np.load(folder / "inputs.npy")
models = [
    keras.models.load_model(folder / "model.keras"),
    keras.models.load_model(folder / "model.h5"),
    keras.models.model_from_json((folder / "model.json").read_text()),
]
models[2].load_weights(folder / "model.weights.h5")
for number, model in enumerate(models):
    np.save(folder / f"outputs{number}.npy", keras.ops.convert_to_numpy(model(inputs)))
seeded = keras.initializers.deserialize(json.loads((folder / "seeded.json").read_text()))
np.save(folder / "seeded.npy", keras.ops.convert_to_numpy(seeded((30, 40))))
"""


def test_files_are_loaded_in_a_fresh_process(tmp_path, fresh_process):
    model = big_model()
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    seeded = keras_winit.Sparse(seed=3)
    (tmp_path / "seeded.json").write_text(json.dumps(keras.initializers.serialize(seeded)))
    np.save(tmp_path / "inputs.npy", INPUTS)
    fresh_process(LOAD, tmp_path)
    for number in range(3):
        outputs = np.load(tmp_path / f"outputs{number}.npy")
        np.testing.assert_array_equal(outputs, numpy(model(INPUTS)))
    np.testing.assert_array_equal(np.load(tmp_path / "seeded.npy"), numpy(seeded((30, 40))))


def test_training_one_variable_changes_no_other():
    # Variables lie in memory that the backend adopted from NumPy.
    seeded = keras_winit.HeNormal(seed=1)
    twin = keras.Variable(seeded, shape=(8, 64), dtype="float32")
    before = numpy(twin).copy()
    model = keras.Sequential([keras.Input((8,)), layers.Dense(64, kernel_initializer=seeded)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    np.testing.assert_array_equal(numpy(model.layers[0].kernel), before)
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(64, 8)), rng.normal(size=(64, 64)), epochs=2, verbose=0)
    assert np.abs(numpy(model.layers[0].kernel) - before).max() > 0.1
    np.testing.assert_array_equal(numpy(twin), before)
    np.testing.assert_array_equal(numpy(seeded((8, 64))), before)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float16"])
def test_dtype_policies(policy):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, kernel_initializer="winit>sparse", dtype=policy)]
    )
    kernel = model.layers[0].kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == (
        "float32" if policy.startswith("mixed") else policy
    )
    assert np.isfinite(numpy(keras.ops.cast(model(np.ones((2, 8))), "float32"))).all()
