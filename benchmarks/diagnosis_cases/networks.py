"""Small networks with places for planted faults, and the data that they are trained on.

Networks number their layers or blocks from 0. These arguments choose some of them by number:

- `kernels`: initializers of single kernels, in place of `init`.
- `biases`: values of the biases.
- `after`: functions of a name that return a layer to put behind; its name is `between0` behind
  the first layer.
- `in_branch`: likewise, to put at the end of a residual branch.
"""

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

STEPS, BATCH = 31, 32
WIDTH, CLASSES = 64, 10
HE = "winit>he_normal"


def data(kind, seed):
    """Return inputs and targets for `STEPS` batches.

    "flat", "image" and "rows" are digits in three shapes; "words" are sentences in which the
    words of the class are frequent; "series" are noisy vectors around the center of the class.
    """
    rng = np.random.default_rng(seed)
    count = STEPS * BATCH
    if kind in ("flat", "image", "rows"):
        x, y = load_digits(return_X_y=True)
        order = rng.permutation(len(x))[:count]
        shapes = {"flat": (64,), "image": (8, 8, 1), "rows": (8, 8)}
        return (x[order] / 16).astype("float32").reshape(-1, *shapes[kind]), y[order]
    y = rng.integers(0, CLASSES, count)
    if kind == "words":
        of_class = rng.random((count, 12)) < 0.4
        return np.where(of_class, 10 + y[:, None], rng.integers(0, 40, (count, 12))), y
    centers = np.random.default_rng(0).normal(size=(CLASSES, 32))
    return (centers[y] + rng.normal(size=(count, 32))).astype("float32"), y


def scheme(name, **options):
    """Return an initializer as a config, so that each layer makes an instance of its own."""
    return {"class_name": name, "config": options}


def normal(stddev):
    return scheme("RandomNormal", stddev=stddev)


def constant(value):
    return scheme("Constant", value=value)


class HalfRepeated(keras.initializers.Initializer):
    """He normal, with the first half of the units equal."""

    def __call__(self, shape, dtype=None, **kwargs):
        kernel = keras.initializers.get(HE)(shape, dtype)
        half = shape[-1] // 2
        repeated = ops.repeat(kernel[..., :1], half, axis=-1)
        return ops.concatenate([repeated, kernel[..., half:]], axis=-1)


class CustomDense(layers.Layer):
    """A dense layer that Keras does not know."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), initializer=HE, name="w")

    def call(self, x):
        return ops.relu(ops.matmul(x, self.w))


def lambda_layer(function):
    return lambda name: layers.Lambda(function, name=name)


def signal_times(factor):
    return lambda name: layers.Rescaling(factor, name=name)


def gradient_times(factor):
    """Return a function for a layer that scales the gradient and leaves its input as it is."""
    return lambda_layer(lambda x: x * factor + ops.stop_gradient(x * (1 - factor)))


def head(init="glorot_uniform", bias="zeros"):
    return layers.Dense(
        CLASSES, "softmax", kernel_initializer=init, bias_initializer=bias, name="head"
    )


def bias_of(biases, i):
    return constant((biases or {}).get(i, 0.0))


def stack(make_layer, depth, init, kernels, biases, after):
    """Yield the layers `make_layer(i, kernel, bias)`, each with what comes behind it."""
    for i in range(depth):
        yield make_layer(i, (kernels or {}).get(i, init), bias_of(biases, i))
        if after and i in after:
            yield after[i](f"between{i}")


def mlp(
    init=HE,
    activation="relu",
    depth=5,
    kernels=None,
    biases=None,
    after=None,
    width=WIDTH,
    shape=(64,),
    dropout=None,
    make_head=head,
):
    """Return a stack of dense layers `d0`, `d1`, ... and `head`."""

    def make_layer(i, kernel, bias):
        return layers.Dense(
            width, activation, kernel_initializer=kernel, bias_initializer=bias, name=f"d{i}"
        )

    if dropout:
        after = {i: lambda name: layers.Dropout(dropout) for i in range(depth)}
    hidden = stack(make_layer, depth, init, kernels, biases, after)
    return keras.Sequential([keras.Input(shape), *hidden, make_head()])


def cnn(
    init=HE,
    activation="relu",
    normalization=None,
    kernels=None,
    biases=None,
    after=None,
    make_head=head,
):
    """Return a stack of convolutions `c0` to `c3` and `head`."""

    def make_layer(i, kernel, bias):
        return layers.Conv2D(
            16,
            3,
            padding="same",
            activation=None if normalization else activation,
            kernel_initializer=kernel,
            bias_initializer=bias,
            name=f"c{i}",
        )

    hidden = []
    for layer in stack(make_layer, 4, init, kernels, biases, after):
        hidden.append(layer)
        if normalization and isinstance(layer, layers.Conv2D):
            hidden += [normalization(), layers.Activation(activation)]
    pool = layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((8, 8, 1)), *hidden, pool, make_head()])


def recurrent(kind=layers.LSTM, after=None, make_head=head, second=None, **options):
    """Return two recurrent layers and `head`: `r0` with `options` and `r1` with `second`."""
    hidden = [kind(24, return_sequences=True, name="r0", **options)]
    hidden += [after[0]("between0")] if after else []
    hidden.append(kind(24, name="r1", **(second or {})))
    return keras.Sequential([keras.Input((8, 8)), *hidden, make_head()])


def residual(
    end=HE,
    first=HE,
    blocks=6,
    normalized=False,
    make_scale=None,
    in_branch=None,
    after=None,
    biases=None,
    make_head=head,
):
    """Return `stem`, residual blocks of `b0_in` and `b0_out`, ..., and `head`.

    `first` and `end` are the initializers in each block; `make_scale` returns a layer for the
    end of each branch.
    """
    inputs = keras.Input((64,))
    x = layers.Dense(WIDTH, kernel_initializer="winit>lecun_normal", name="stem")(inputs)
    for i in range(blocks):
        y = layers.LayerNormalization()(x) if normalized else x
        y = layers.Dense(
            WIDTH,
            "relu",
            kernel_initializer=first,
            bias_initializer=bias_of(biases, i),
            name=f"b{i}_in",
        )(y)
        y = layers.Dense(WIDTH, kernel_initializer=end, name=f"b{i}_out")(y)
        if make_scale:
            y = make_scale()(y)
        if in_branch and i in in_branch:
            y = in_branch[i](f"between{i}")(y)
        x = layers.add([x, y])
        if after and i in after:
            x = after[i](f"between{i}")(x)
    x = layers.LayerNormalization()(x) if normalized else x
    return keras.Model(inputs, make_head()(x))


def attention(
    init="glorot_uniform",
    feed_forward=HE,
    activation="gelu",
    biases=None,
    in_branch=None,
    after=None,
    make_head=head,
):
    """Return `words`, two blocks of attention `a0` and of `f0_in` and `f0_out`, and `head`."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(64, 32, name="words")(inputs)
    for i in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 16, kernel_initializer=init, name=f"a{i}")(y, y)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(
            64,
            activation,
            kernel_initializer=feed_forward,
            bias_initializer=bias_of(biases, i),
            name=f"f{i}_in",
        )(y)
        y = layers.Dense(32, name=f"f{i}_out")(y)
        x = x + (in_branch[i](f"between{i}")(y) if in_branch and i in in_branch else y)
        if after and i in after:
            x = after[i](f"between{i}")(x)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, make_head()(x))
