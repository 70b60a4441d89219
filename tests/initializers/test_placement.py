"""Traced, lazily built and distributed variables get the same values as eager ones."""

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit
from keras_winit.initializers import REGISTRY, placement

BACKEND = keras.backend.backend()
SHAPE = (200, 300)
only = {
    name: pytest.mark.skipif(name != BACKEND, reason=f"needs {name}")
    for name in ("tensorflow", "jax", "torch")
}


def scheme():
    return keras_winit.HeNormal(seed=1)


def expected():
    return numpy(scheme()(SHAPE))


@pytest.fixture
def drawn(monkeypatch):
    """Record the number of entries of each allocation of host memory."""
    sizes = []
    allocate = placement._aligned

    def spy(kind, shape, dtype):
        sizes.append(int(np.prod(shape)))
        return allocate(kind, shape, dtype)

    monkeypatch.setattr(placement, "_aligned", spy)
    return sizes


class Lazy(keras.Model):
    """A model that is built when it is first called."""

    def __init__(self, initializer):
        super().__init__()
        self.first = keras.layers.Dense(SHAPE[1], kernel_initializer=initializer)
        self.second = keras.layers.Dense(4, kernel_initializer=initializer)

    def call(self, inputs):
        return self.second(self.first(inputs))


@pytest.mark.parametrize("how", ["call", "fit", "fit compiled"])
def test_lazily_built_models_draw_each_kernel_once(how, drawn):
    if how == "fit compiled" and BACKEND == "torch":
        pytest.skip("torch compiles with a C++ toolchain at run time")
    model = Lazy(scheme())
    inputs = np.ones((2, SHAPE[0]), "float32")
    if how == "call":
        model(inputs)
    else:
        model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=how == "fit compiled")
        model.fit(inputs, np.ones((2, 4)), verbose=0)
    assert drawn == [SHAPE[0] * SHAPE[1], SHAPE[1] * 4], how
    np.testing.assert_array_equal(numpy(model.first.kernel), expected())


def test_lazily_built_models_advance_a_generator_once_per_kernel():
    generator = keras.random.SeedGenerator(5)
    model = Lazy(keras_winit.HeNormal(seed=generator))
    model(np.ones((2, SHAPE[0]), "float32"))
    assert numpy(generator.state).tolist() == [5, 2]
    again = keras_winit.HeNormal(seed=keras.random.SeedGenerator(5))
    np.testing.assert_array_equal(numpy(model.first.kernel), numpy(again(SHAPE)))
    np.testing.assert_array_equal(numpy(model.second.kernel), numpy(again((SHAPE[1], 4))))


def test_variables_in_a_stateless_scope():
    with keras.StatelessScope():
        variable = keras.Variable(scheme(), shape=SHAPE, dtype="float32")
    np.testing.assert_array_equal(numpy(variable.value), expected())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_tensors_keep_the_memory_that_they_adopted(dtype):
    tensors = [scheme()(SHAPE, dtype) for _ in range(20)]
    # These arrays would overwrite memory that was freed too early.
    other_arrays = [np.full(SHAPE, 7.0, "float32") for _ in range(40)]
    for tensor in tensors:
        np.testing.assert_array_equal(numpy(tensor), numpy(scheme()(SHAPE, dtype)))
    del other_arrays


@only["tensorflow"]
@pytest.mark.parametrize("compiled", [False, True])
def test_in_a_tensorflow_function(compiled):
    import tensorflow as tf

    function = tf.function(lambda: scheme()(SHAPE), jit_compile=compiled)
    np.testing.assert_array_equal(function(), expected())
    np.testing.assert_array_equal(function(), expected())
    layer = keras.layers.Dense(SHAPE[1], kernel_initializer=scheme())
    inside = tf.function(lambda x: 1 * layer(x), jit_compile=compiled)
    for _ in range(2):
        inside(np.ones((2, SHAPE[0]), "float32"))
    np.testing.assert_array_equal(layer.kernel, expected())


@only["tensorflow"]
def test_in_a_tensorflow_function_with_weights_too_large_for_a_constant(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(placement, "EMBEDDED", 0)
    function = tf.function(lambda: scheme()(SHAPE))
    np.testing.assert_array_equal(function(), expected())
    for compiled in (False, True):
        layer = keras.layers.Dense(SHAPE[1], kernel_initializer=scheme())
        inside = tf.function(lambda x, layer=layer: 1 * layer(x), jit_compile=compiled)
        inside(np.ones((2, SHAPE[0]), "float32"))
        np.testing.assert_array_equal(layer.kernel, expected())


@only["tensorflow"]
def test_autograph_and_graphs_of_tensorflow_1(capsys):
    import tensorflow as tf

    @tf.function
    def converted():
        return keras_winit.HeNormal(seed=1)((500, 700))

    np.testing.assert_array_equal(converted(), numpy(scheme()((500, 700))))
    assert "AutoGraph" not in "".join(capsys.readouterr())
    reference = expected()
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        np.testing.assert_array_equal(session.run(scheme()(SHAPE)), reference)


@only["tensorflow"]
def test_generators_in_a_tensorflow_function():
    import tensorflow as tf

    seeded = keras_winit.HeNormal(seed=keras.random.SeedGenerator(5))
    first, second = tf.function(lambda: (seeded(SHAPE), seeded(SHAPE)))()
    again = keras_winit.HeNormal(seed=keras.random.SeedGenerator(5))
    np.testing.assert_array_equal(first, numpy(again(SHAPE)))
    np.testing.assert_array_equal(second, numpy(again(SHAPE)))


@only["tensorflow"]
def test_under_a_tensorflow_strategy():
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        layer = keras.layers.Dense(SHAPE[1], kernel_initializer=scheme())
        layer.build((2, SHAPE[0]))
    np.testing.assert_array_equal(numpy(layer.kernel), expected())


@only["jax"]
def test_in_a_jax_program(drawn):
    import jax

    function = jax.jit(lambda: scheme()(SHAPE))
    reference = expected()
    drawn.clear()
    shaped = jax.eval_shape(lambda: scheme()(SHAPE, "bfloat16"))
    assert (shaped.shape, shaped.dtype) == (SHAPE, "bfloat16")
    assert drawn == []
    for _ in range(2):
        np.testing.assert_array_equal(function(), reference)
    both = jax.vmap(lambda x: x * scheme()(SHAPE))(np.ones(2, "float32"))
    np.testing.assert_array_equal(both[1], reference)


@only["jax"]
def test_generators_in_a_jax_program():
    import jax

    generator = keras.random.SeedGenerator(5)
    seeded = keras_winit.HeNormal(seed=generator)
    first, second = jax.jit(lambda: (seeded(SHAPE), seeded(SHAPE)))()
    assert numpy(generator.state).tolist() == [5, 2]
    again = keras_winit.HeNormal(seed=keras.random.SeedGenerator(5))
    np.testing.assert_array_equal(first, numpy(again(SHAPE)))
    np.testing.assert_array_equal(second, numpy(again(SHAPE)))


@only["jax"]
@pytest.mark.parametrize(
    "spec", [(None, "model"), ("model", None), ("batch", "model"), (None, None)], ids=str
)
@pytest.mark.parametrize("name", ["he_normal", "xavier_uniform", "sparse", "constant", "identity"])
def test_shards_are_built_one_by_one(spec, name, drawn):
    from jax.sharding import PartitionSpec

    mesh = keras.distribution.DeviceMesh(
        (2, 2), ("batch", "model"), keras.distribution.list_devices()[:4]
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    layout_map[".*kernel"] = spec
    initializer = REGISTRY[name]
    seeded = {} if name in ("constant", "identity") else {"seed": 1}
    reference = numpy(initializer(**seeded)(SHAPE))
    drawn.clear()
    distribution = keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")
    with distribution.scope():
        layer = keras.layers.Dense(
            SHAPE[1], kernel_initializer=initializer(**seeded), use_bias=False
        )
        layer.build((2, SHAPE[0]))
    value = layer.kernel.value
    assert value.sharding.spec == PartitionSpec(*spec)
    np.testing.assert_array_equal(np.asarray(value), reference)
    parts = 2 ** sum(axis is not None for axis in spec)
    assert {shard.data.size for shard in value.addressable_shards} == {reference.size // parts}
    assert all(size <= reference.size // parts for size in drawn)
    assert len(drawn) == parts


@only["jax"]
def test_replicas_do_not_share_the_memory_that_they_came_from():
    mesh = keras.distribution.DeviceMesh(
        (2, 2), ("batch", "model"), keras.distribution.list_devices()[:4]
    )
    distribution = keras.distribution.ModelParallel(
        layout_map=keras.distribution.LayoutMap(mesh), batch_dim_name="batch"
    )
    with distribution.scope():
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(64, kernel_initializer=scheme())]
        )
        model.compile(keras.optimizers.Adam(0.1), "mse")
        model.fit(np.ones((8, 8)), np.ones((8, 64)), epochs=3, verbose=0)
    shards = [np.asarray(shard.data) for shard in model.layers[0].kernel.value.addressable_shards]
    assert len(shards) == 4
    for shard in shards:
        np.testing.assert_array_equal(shard, shards[0])


@only["jax"]
@pytest.mark.parametrize("kind", ["DataParallel", "ModelParallel"])
def test_generators_under_a_distribution(kind):
    if kind == "DataParallel":
        distribution = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
    else:
        mesh = keras.distribution.DeviceMesh(
            (2, 2), ("batch", "model"), keras.distribution.list_devices()[:4]
        )
        layout_map = keras.distribution.LayoutMap(mesh)
        layout_map[".*kernel"] = (None, "model")
        distribution = keras.distribution.ModelParallel(
            layout_map=layout_map, batch_dim_name="batch"
        )
    again = keras_winit.HeNormal(seed=keras.random.SeedGenerator(5))
    first, second = numpy(again(SHAPE)), numpy(again(SHAPE))
    outside = keras.random.SeedGenerator(5)
    with distribution.scope():
        for generator in (outside, keras.random.SeedGenerator(5)):
            seeded = keras_winit.HeNormal(seed=generator)
            for reference in (first, second):
                layer = keras.layers.Dense(SHAPE[1], kernel_initializer=seeded)
                layer.build((2, SHAPE[0]))
                np.testing.assert_array_equal(numpy(layer.kernel), reference)


@only["jax"]
def test_in_a_jax_program_under_a_mesh():
    import jax

    with jax.set_mesh(jax.make_mesh((4,), ("all",), devices=jax.devices()[:4])):
        value = jax.jit(lambda: scheme()(SHAPE))()
    np.testing.assert_array_equal(value, expected())


class Noisy(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(2)
        self.noise = keras_winit.SmallNormal(seed=self.generator)

    def call(self, inputs):
        return inputs + self.noise((8,))


@only["jax"]
def test_a_traced_generator_raises_an_error_with_a_remedy():
    model = keras.Sequential([keras.Input((8,)), Noisy()])
    with pytest.raises(ValueError, match=r"whose state is being traced\. Draw in `build`"):
        model.predict(np.ones((2, 8)), verbose=0)


@only["jax"]
def test_a_layout_may_be_passed_directly():
    import jax

    mesh = jax.make_mesh((4,), ("all",), devices=jax.devices()[:4])
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    by_jax = scheme()(SHAPE, layout=sharding)
    assert by_jax.sharding == sharding
    keras_mesh = keras.distribution.DeviceMesh(
        (4,), ("all",), keras.distribution.list_devices()[:4]
    )
    by_keras = scheme()(SHAPE, layout=keras.distribution.TensorLayout(("all", None), keras_mesh))
    for value in (by_jax, by_keras):
        np.testing.assert_array_equal(np.asarray(value), expected())
        assert len({shard.device for shard in value.addressable_shards}) == 4
    single = jax.sharding.SingleDeviceSharding(jax.devices()[2])
    assert scheme()(SHAPE, layout=single).devices() == {jax.devices()[2]}


@only["jax"]
def test_float64_needs_x64(fresh_process):
    code = """
import jax; jax.config.update("jax_enable_x64", True)
import keras_winit
print(keras_winit.HeNormal(seed=1)((3, 4), "float64").dtype)
"""
    assert fresh_process(code).split() == ["float64"]
    assert str(scheme()((3, 4), "float64").dtype) == "float32"


@only["torch"]
def test_nothing_is_drawn_on_the_meta_device(drawn):
    generator = keras.random.SeedGenerator(5)
    with keras.device("meta"):
        value = keras_winit.HeNormal(seed=generator)(SHAPE, "bfloat16")
    assert value.is_meta
    assert tuple(value.shape) == SHAPE
    assert drawn == []
