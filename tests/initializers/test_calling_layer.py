"""Schemes that place single entries, by name in every layer: right, or refused with a reason."""

import re

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit as kw

layers = keras.layers


def signal(*shape):
    """Return whole numbers, which float32 adds and multiplies exactly."""
    return np.random.default_rng(0).integers(-99, 99, shape).astype(np.float32)


class Lazy(keras.Model):
    """A model whose layer is built when the model is first called."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


@pytest.fixture(params=["alone", "in a model that is built by its first call"])
def called(request):
    return (lambda layer: layer) if request.param == "alone" else Lazy


FORMS = [lambda name: f"winit>{name}", lambda name: kw.Scaled(f"winit>{name}")]
each_form = pytest.mark.parametrize("form", FORMS, ids=["name", "wrapped"])


@each_form
@pytest.mark.parametrize("name", ["dirac", "identity", "hadamard"])
@pytest.mark.parametrize(
    ("kind", "image"), [(layers.DepthwiseConv1D, (9, 8)), (layers.DepthwiseConv2D, (5, 6, 8))]
)
def test_a_depthwise_convolution_passes_every_channel_on(kind, image, name, form, called):
    inputs = signal(2, *image)
    layer = kind(3, padding="same", depthwise_initializer=form(name))
    np.testing.assert_array_equal(numpy(called(layer)(inputs)), inputs)


def test_a_depthwise_convolution_with_several_filters_per_channel():
    inputs = signal(2, 9, 3)
    arguments = {"padding": "same", "depth_multiplier": 4}
    layer = layers.DepthwiseConv1D(3, depthwise_initializer="winit>dirac", **arguments)
    expected = np.zeros((2, 9, 3, 4), np.float32)
    expected[..., 0] = inputs
    np.testing.assert_array_equal(numpy(layer(inputs)).reshape(2, 9, 3, 4), expected)
    # The four filters of a channel get the first row of a Hadamard matrix, all ones, over sqrt(4).
    layer = layers.DepthwiseConv1D(3, depthwise_initializer="winit>hadamard", **arguments)
    expected[...] = inputs[..., None] / 2
    np.testing.assert_array_equal(numpy(layer(inputs)).reshape(2, 9, 3, 4), expected)


@each_form
@pytest.mark.parametrize("name", ["dirac", "identity", "hadamard"])
@pytest.mark.parametrize("groups", [2, 8])
def test_a_grouped_convolution_passes_every_channel_on(name, groups, form, called):
    inputs = signal(2, 5, 6, 16)
    layer = layers.Conv2D(16, 3, padding="same", groups=groups, kernel_initializer=form(name))
    np.testing.assert_array_equal(numpy(called(layer)(inputs)), inputs)


@pytest.mark.parametrize("name", ["dirac", "identity", "hadamard"])
def test_a_separable_convolution_passes_every_channel_on(name, called):
    inputs = signal(2, 9, 8)
    by_name = {"depthwise_initializer": f"winit>{name}", "pointwise_initializer": f"winit>{name}"}
    layer = layers.SeparableConv1D(8, 3, padding="same", **by_name)
    np.testing.assert_array_equal(numpy(called(layer)(inputs)), inputs)


def test_a_convolution_with_one_filter_passes_the_first_channel_on(called):
    inputs = signal(2, 9, 8)
    layer = layers.Conv1D(1, 3, padding="same", kernel_initializer="winit>dirac")
    np.testing.assert_array_equal(numpy(called(layer)(inputs)), inputs[..., :1])


def test_hadamard_widens_in_a_transposed_convolution(called):
    inputs = signal(2, 9, 2)
    layer = layers.Conv1DTranspose(4, 1, kernel_initializer="winit>hadamard")
    expected = inputs @ (np.array([[1, 1, 1, 1], [1, -1, 1, -1]], np.float32) / 2)
    np.testing.assert_array_equal(numpy(called(layer)(inputs)), expected)


@pytest.mark.parametrize(("kind", "gates"), [(layers.LSTM, 4), (layers.GRU, 3)])
def test_identity_fills_every_gate(kind, gates, called):
    layer = kind(5, recurrent_initializer="winit>identity", kernel_initializer="winit>identity")
    called(layer)(signal(2, 3, 7))
    kernel, recurrent_kernel, _ = layer.get_weights()
    np.testing.assert_array_equal(kernel, np.tile(np.eye(7, 5), gates))
    np.testing.assert_array_equal(recurrent_kernel, np.tile(np.eye(5), gates))


def test_a_stated_use_takes_precedence():
    layer = layers.Conv1D(4, 1, groups=2, kernel_initializer=kw.Identity(groups=4))
    layer.build((None, 9, 8))
    np.testing.assert_array_equal(numpy(layer.kernel)[0], np.eye(4, 1).repeat(4, 1))


class OwnCell(layers.Layer):
    """A layer with some attributes of Keras' layers, and with a kernel that Keras does not know."""

    recurrent_initializer = depthwise_initializer = None

    def build(self, shape):
        self.own = self.add_weight(shape=(4, 6), initializer="winit>identity", name="own")


class OwnRecurrent(layers.Layer):
    """A layer that has a recurrent kernel, but not the attributes of Keras' cells."""

    recurrent_initializer = None

    def build(self, shape):
        self.own = self.add_weight(shape=(4, 6), initializer="winit>identity", name="kernel")


@pytest.mark.parametrize("kind", [OwnCell, OwnRecurrent])
def test_other_layers_get_a_plain_matrix(kind):
    layer = kind()
    layer.build(None)
    np.testing.assert_array_equal(numpy(layer.own), np.eye(4, 6))


class OwnDepthwise(layers.Layer):
    """A layer whose use of its kernel is unknown."""

    def build(self, shape):
        self.kernel = self.add_weight(
            shape=(3, 3, shape[-1], 1), initializer="winit>identity", name="kernel"
        )

    def call(self, inputs):
        return keras.ops.depthwise_conv(inputs, self.kernel)


UNKNOWN = (
    "`{}` cannot tell from a shape whether a kernel belongs to a depthwise convolution or to a "
    "convolution with one filter. Received: shape={}. Bind the scheme to a depthwise layer with "
    "`for_layer`; a layer of Keras also tells by itself."
)
WINDOW = (
    "`{}` needs the kernel of {}, whose axes follow from its shape. `EinsumDense` and attention "
    "layers state the axes of their kernels. Received: {}.{}"
)
AXES = "input_axes=(0,), output_axes=(1, 2), shape=(12, 4, 5)"
VECTOR = " Use `winit>zeros` or `winit>constant` for a bias."
BIAS = "`{}` needs a kernel of at least two axes. Received: a bias of shape=(2, 15).{}"


def einsum(initializer):
    layer = layers.EinsumDense("abc,cde->abde", (3, 4, 5), kernel_initializer=initializer, name="e")
    layer.build((None, 3, 12))


REFUSED = {
    **{
        f"{cls.__name__}, by its shape": (
            lambda cls=cls: cls()((4, 4, 8, 1)),
            UNKNOWN.format(cls.__name__, (4, 4, 8, 1)),
        )
        for cls in (kw.Dirac, kw.Identity, kw.Hadamard, kw.NoisyIdentity)
    },
    "own layer": (
        lambda: OwnDepthwise()(signal(2, 5, 5, 8)),
        UNKNOWN.format("Identity", (3, 3, 8, 1)),
    ),
    "Dirac in EinsumDense": (
        lambda: einsum("winit>dirac"),
        WINDOW.format("Dirac", "a convolution", AXES, " Use `winit>identity`."),
    ),
    "ConvolutionAware in EinsumDense": (
        lambda: einsum("winit>convolution_aware"),
        WINDOW.format("ConvolutionAware", "a convolution", AXES, " Use `winit>orthogonal`."),
    ),
    "Icnr in EinsumDense": (
        lambda: einsum("winit>icnr"),
        WINDOW.format("Icnr", "a convolution", AXES, ""),
    ),
    "Bilinear in EinsumDense": (
        lambda: einsum("winit>bilinear"),
        WINDOW.format(
            "Bilinear",
            "a transposed convolution",
            "layer 'e' of class EinsumDense, shape=(12, 4, 5)",
            "",
        ),
    ),
    "Bilinear in DepthwiseConv2D": (
        lambda: layers.DepthwiseConv2D(4, depthwise_initializer="winit>bilinear", name="d").build(
            (None, 9, 9, 8)
        ),
        "`Bilinear` needs the kernel of a transposed convolution. Received: layer 'd' of class "
        "DepthwiseConv2D, shape=(4, 4, 8, 1). Use `winit>identity` to pass each channel on.",
    ),
    **{
        f"{cls.__name__} as a bias of GRU": (
            lambda cls=cls: layers.GRU(5, bias_initializer=cls()).build((None, 3, 4)),
            BIAS.format(cls.__name__, end),
        )
        for cls, end in (
            (kw.Sparse, VECTOR),
            (kw.Orthogonal, VECTOR),
            (kw.DeltaOrthogonal, VECTOR),
            (kw.ScaledOrthogonal, VECTOR),
            (kw.Identity, " Use `winit>zeros` for a bias."),
            (kw.Hadamard, " Use `winit>zeros` for a bias."),
        )
    },
    "PerGate as a bias": (
        lambda: layers.Dense(6, bias_initializer="winit>per_gate").build((None, 4)),
        "`PerGate` needs a kernel of at least two axes. Received: shape=(6,). "
        "Use `winit>forget_bias` or `winit>zeros` for a bias.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_scheme_cannot_do_is_refused(name):
    refused, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        refused()


@pytest.mark.parametrize("name", ["dirac", "icnr", "bilinear", "convolution_aware"])
def test_schemes_for_windows_are_refused_in_attention(name):
    attention = layers.MultiHeadAttention(4, 8, kernel_initializer=f"winit>{name}")
    with pytest.raises(ValueError, match=r"`EinsumDense` and attention layers state the axes"):
        attention.build((None, 5, 16), (None, 5, 16))
