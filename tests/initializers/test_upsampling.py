"""Schemes that enlarge images, compared with repetition and with the backend's interpolation."""

import itertools

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy

import keras_winit
from keras_winit.initializers.placement import whole

layers = keras.layers


def signal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def with_kernel(layer, inputs, kernel):
    layer.build(inputs.shape)
    layer.set_weights([numpy(kernel)])
    return numpy(layer(inputs))


def repeated(values, times):
    for axis in range(1, values.ndim - 1):
        values = values.repeat(times, axis)
    return values


INNER = {
    "ours": lambda: keras_winit.HeNormal(seed=3),
    "Keras'": lambda: keras.initializers.GlorotUniform(seed=3),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("block", [2, 3])
def test_icnr_repeats_each_value_of_a_small_convolution(inner, block):
    inputs = signal(2, 6, 7, 5)
    large = layers.Conv2D(4 * block**2, 3, padding="same", use_bias=False)
    small = layers.Conv2D(4, 3, padding="same", use_bias=False)
    scheme = keras_winit.Icnr(INNER[inner](), block)
    enlarged = with_kernel(large, inputs, scheme((3, 3, 5, 4 * block**2)))
    enlarged = numpy(keras.ops.depth_to_space(enlarged, block))
    expected = with_kernel(small, inputs, INNER[inner]()((3, 3, 5, 4), "float32"))
    np.testing.assert_allclose(enlarged, repeated(expected, block), rtol=1e-5, atol=1e-5)
    # The filters of a block are equal to the last bit.
    blocks = numpy(scheme((3, 3, 5, 4 * block**2))).reshape(3, 3, 5, block**2, 4)
    np.testing.assert_array_equal(blocks, np.repeat(blocks[:, :, :, :1], block**2, axis=3))


@pytest.mark.parametrize("axes", [1, 3])
def test_icnr_in_one_and_three_dimensions(axes):
    shape = (3,) * axes + (5, 6 * 2**axes)
    kernel = numpy(keras_winit.Icnr(keras_winit.HeNormal(seed=3))(shape))
    small = numpy(keras_winit.HeNormal(seed=3)((*shape[:-1], 6)))
    np.testing.assert_array_equal(kernel, np.concatenate([small] * 2**axes, axis=-1))


def test_icnr_by_default_has_the_fan_in_of_the_layer():
    kernel = numpy(keras_winit.Icnr(keras_winit.HeNormal(seed=0))((3, 3, 64, 512)))
    assert deviations(kernel[..., :128], normal((2 / 576) ** 0.5)) == []
    assert type(keras_winit.Icnr().inner) is keras_winit.HeNormal


def test_a_part_of_icnr_drawn_alone_equals_that_part_of_the_whole():
    shape = (3, 2, 4, 12)
    draw = keras_winit.Icnr(keras_winit.HeNormal(seed=3)).plan(shape, "float32")
    complete = draw(whole(shape))
    for start, stop in itertools.combinations(range(13), 2):
        part = (slice(0, 3), slice(1, 2), slice(2, 4), slice(start, stop))
        np.testing.assert_array_equal(draw(part), complete[part])


@pytest.mark.parametrize(
    ("size", "weights"),
    [
        (1, [1]),
        (4, [0.25, 0.75, 0.75, 0.25]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        (8, [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]),
    ],
)
def test_bilinear_weights(size, weights):
    kernel = numpy(keras_winit.Bilinear()((size, 3, 3)))
    np.testing.assert_array_equal(kernel, np.float32(np.multiply.outer(weights, np.eye(3))))
    square = numpy(keras_winit.Bilinear()((size, 4, 2, 3)))
    flat = np.multiply.outer(np.outer(weights, [0.25, 0.75, 0.75, 0.25]), np.eye(2, 3))
    np.testing.assert_allclose(square, flat, rtol=2**-23)


@pytest.mark.parametrize(("stride", "size"), [(1, 1), (2, 4), (3, 5), (4, 8)])
def test_bilinear_equals_the_resize_of_the_backend(stride, size):
    inputs = signal(2, 7, 6, 3)
    layer = layers.Conv2DTranspose(
        3, size, strides=stride, padding="same", kernel_initializer="winit>bilinear"
    )
    enlarged = numpy(layer(inputs))
    expected = keras.ops.image.resize(
        inputs, (7 * stride, 6 * stride), interpolation="bilinear", antialias=False
    )
    inside = (slice(None), slice(stride, -stride), slice(stride, -stride))
    assert enlarged.shape == expected.shape
    np.testing.assert_allclose(enlarged[inside], numpy(expected)[inside], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "axes"), [(layers.Conv1DTranspose, 1), (layers.Conv3DTranspose, 3)]
)
def test_bilinear_in_one_and_three_dimensions_keeps_a_ramp(layer, axes):
    ramp = sum(
        np.arange(6.0).reshape([-1 if a == b else 1 for b in range(axes)]) for a in range(axes)
    )
    inputs = np.broadcast_to(ramp, (6,) * axes)[None, ..., None].astype(np.float32)
    enlarge = layer(1, 4, strides=2, padding="same", kernel_initializer="winit>bilinear")
    steps = (np.arange(12) - 0.5) / 2
    fine = sum(steps.reshape([-1 if a == b else 1 for b in range(axes)]) for a in range(axes))
    inside = (slice(1, -1),) * axes
    outputs = numpy(enlarge(inputs))[0, ..., 0]
    np.testing.assert_allclose(
        outputs[inside], np.broadcast_to(fine, (12,) * axes)[inside], rtol=1e-5
    )


# Window sizes with the strides for which they come closest to interpolating.
@pytest.mark.parametrize(
    ("size", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2), (6, 3), (7, 3), (7, 4)]
)
def test_window_sizes_that_bilinear_refuses_do_not_interpolate(size, stride):
    triangle = 1 - np.abs(np.arange(size) - (size - 1) / 2) / -(-size // 2)
    inputs = np.arange(9, dtype=np.float32).reshape(1, 9, 1)
    layer = layers.Conv1DTranspose(1, size, strides=stride, padding="same", use_bias=False)
    enlarged = with_kernel(layer, inputs, np.float32(triangle.reshape(-1, 1, 1)))[0, :, 0]
    expected = (np.arange(9 * stride) + 0.5) / stride - 0.5
    assert np.abs(enlarged - expected)[2 * stride : -2 * stride].max() > 0.05
