"""Schemes made from other initializers: scaled, masked, or side by side in blocks."""

import math

import keras
import numpy as np
import pytest
from support.laws import cut_normal, deviations, normal, numpy

import keras_winit
from keras_winit.initializers import streams
from keras_winit.initializers.placement import whole

HE = keras_winit.HeNormal(seed=1)


def test_scaled():
    np.testing.assert_array_equal(
        numpy(keras_winit.Scaled(HE, gain=0.5)((20, 30))), 0.5 * numpy(HE((20, 30)))
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scaled_is_rounded_once(dtype):
    values = numpy(keras_winit.Scaled(HE, gain=0.3)((20, 30), dtype))
    exact = numpy(HE((20, 30), "float32")) * np.float32(0.3)
    np.testing.assert_array_equal(values, exact.astype(values.dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_masked(dtype):
    mask = np.random.default_rng(0).random((20, 30)) < 0.3
    kernel = numpy(keras_winit.Masked(HE, mask)((20, 30), dtype))
    np.testing.assert_array_equal(kernel, np.where(mask, numpy(HE((20, 30), dtype)), 0))
    row = keras_winit.Masked(HE, [1, 0] * 15)
    assert not numpy(row((20, 30)))[:, 1::2].any()


def test_blocks_differ_and_have_their_own_distributions():
    scheme = keras_winit.Blocks([HE, HE, keras_winit.LecunNormal(seed=1)])
    kernel = numpy(scheme((256, 900)))
    first, second, third = np.split(kernel, 3, axis=1)
    assert deviations(first, normal(math.sqrt(2 / 256))) == []
    assert deviations(second, normal(math.sqrt(2 / 256))) == []
    assert deviations(third, normal(1 / 16)) == []
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(numpy(scheme((256, 900))), kernel)


def test_each_block_has_its_own_fans():
    xavier = [keras_winit.XavierNormal(seed=seed) for seed in range(3)]
    for block in np.split(numpy(keras_winit.Blocks(xavier)((256, 900))), 3, axis=1):
        assert deviations(block, normal(math.sqrt(2 / (256 + 300)))) == []
    for block in np.split(numpy(keras_winit.Blocks([HE, HE], axis=0)((512, 300))), 2):
        assert deviations(block, normal(math.sqrt(2 / 256))) == []


def test_blocks_pass_on_the_use_of_the_kernel():
    inners = [HE, HE, keras.initializers.HeNormal(seed=1)]
    transposed = keras_winit.Blocks(inners, input_axes=(1,), output_axes=(0,))
    ours, _, theirs = np.split(numpy(transposed((256, 900))), 3, axis=1)
    assert deviations(ours, normal(math.sqrt(2 / 300))) == []
    # Keras' normal is cut at two standard deviations and scaled back to the full variance.
    assert deviations(theirs, cut_normal(math.sqrt(2 / 300) / 0.87962566)) == []
    depthwise = keras_winit.Blocks([HE, HE], kind="depthwise")
    assert deviations(numpy(depthwise((5, 5, 128, 16))), normal(math.sqrt(2 / 25))) == []


@pytest.mark.parametrize(("axis", "shape"), [(5, (2, 3)), (-3, (2, 3)), (-1, ())])
def test_blocks_along_an_axis_that_does_not_exist(axis, shape):
    with pytest.raises(ValueError, match="needs blocks whose sizes add up to the size of the axis"):
        keras_winit.Blocks(["winit>xavier_uniform"], axis=axis)(shape)


def test_blocks_of_given_sizes_along_an_axis():
    scheme = keras_winit.Blocks(["ones", "winit>zeros", "winit>identity"], (2, 3, 4), axis=0)
    kernel = numpy(scheme((9, 4)))
    np.testing.assert_array_equal(kernel, np.vstack([np.ones((2, 4)), np.zeros((3, 4)), np.eye(4)]))


def test_nested_blocks_draw_different_values():
    nested = keras_winit.Blocks([HE, HE])
    kernel = numpy(keras_winit.Blocks([nested, keras_winit.PerGate(HE, gates=2), HE])((16, 96)))
    parts = [part.tobytes() for part in np.split(kernel[:, :64], 4, axis=1)]
    parts.append(kernel[:, 64:80].tobytes())
    assert len(set(parts)) == 5
    twins = np.split(numpy(keras_winit.Blocks([nested, nested])((16, 64))), 4, axis=1)
    assert len({part.tobytes() for part in twins}) == 4


@pytest.mark.parametrize(
    "inner",
    [keras.initializers.GlorotUniform(seed=3), HE, keras_winit.Scaled(HE)],
    ids=["Keras", "ours", "wrapped"],
)
def test_blocks_of_one_instance_differ(inner):
    scheme = keras_winit.Blocks([inner, inner])
    first, second = np.split(numpy(scheme((16, 64))), 2, axis=1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(numpy(scheme((16, 64))), np.hstack([first, second]))


def test_a_packed_attention_kernel_in_an_einsum():
    scheme = keras_winit.Blocks(["winit>lecun_normal"] * 3, axis=1)
    layer = keras.layers.EinsumDense("abc,cde->abde", (7, 3, 200), kernel_initializer=scheme)
    layer.build((2, 7, 300))
    kernel = numpy(layer.kernel)
    for block in range(3):
        assert deviations(kernel[:, block], normal(300**-0.5)) == []


@pytest.mark.parametrize(
    "scheme",
    [
        keras_winit.Blocks([HE, "winit>orthogonal", "glorot_uniform"], (5, 11, 14)),
        keras_winit.Blocks([HE, HE], axis=0),
        keras_winit.PerGate(HE, gates=5),
        keras_winit.Masked(HE, np.eye(20, 30)),
        keras_winit.Scaled("winit>sparse", gain=3.0),
    ],
    ids=repr,
)
def test_a_part_drawn_alone_equals_that_part_of_the_whole(scheme, monkeypatch):
    monkeypatch.setattr(streams, "CHUNK", 64)
    generator = np.random.default_rng(0)
    for _ in range(20):
        draw = scheme.plan((20, 30), "float32")
        part = tuple(slice(*sorted(generator.integers(0, n + 1, 2).tolist())) for n in (20, 30))
        np.testing.assert_array_equal(draw(part), draw(whole((20, 30)))[part])
