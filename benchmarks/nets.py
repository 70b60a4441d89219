"""Models and data for `diagnosis.py`: small, and open to whatever is planted in them.

`special` and `bias` map the number of a layer to its initializer and to the value of its
biases, `after` to what makes a layer that follows it: `between0` after the first.
"""

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

STEPS, BATCH = 31, 32
WIDTH, CLASSES = 64, 10
HE = "winit>he_normal"


def data(kind, seed):
    """Digits as vectors, images or rows, words, or series; a batch's worth for each step."""
    rng = np.random.default_rng(seed)
    count = STEPS * BATCH
    if kind in ("flat", "image", "rows"):
        x, y = load_digits(return_X_y=True)
        order = rng.permutation(len(x))[:count]
        shapes = {"flat": (64,), "image": (8, 8, 1), "rows": (8, 8)}
        return (x[order] / 16).astype("float32").reshape(-1, *shapes[kind]), y[order]
    y = rng.integers(0, CLASSES, count)
    if kind == "words":
        # Words of a class come more often in it.
        own = rng.random((count, 12)) < 0.4
        return np.where(own, 10 + y[:, None], rng.integers(0, 40, (count, 12))), y
    centers = np.random.default_rng(0).normal(size=(CLASSES, 32))
    return (centers[y] + rng.normal(size=(count, 32))).astype("float32"), y


def scheme(name, **options):
    """An initializer as a config, of which each layer makes its own."""
    return {"class_name": name, "config": options}


def normal(stddev):
    return scheme("RandomNormal", stddev=stddev)


def constant(value):
    return scheme("Constant", value=value)


class Repeated(keras.initializers.Initializer):
    """He's, with the first half of the units equal."""

    def __call__(self, shape, dtype=None, **kwargs):
        kernel = keras.initializers.get(HE)(shape, dtype)
        half = shape[-1] // 2
        same = ops.repeat(kernel[..., :1], half, axis=-1)
        return ops.concatenate([same, kernel[..., half:]], axis=-1)


def gradient_times(factor):
    """Passes its input on, and the gradient times a factor."""
    return applying(lambda x: x * factor + ops.stop_gradient(x * (1 - factor)))


def times(factor):
    return lambda name: layers.Rescaling(factor, name=name)


def applying(function):
    return lambda name: layers.Lambda(function, name=name)


class Mixer(layers.Layer):
    """A dense layer of one's own, of which nothing is known."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), initializer=HE, name="w")

    def call(self, x):
        return ops.relu(ops.matmul(x, self.w))


def head(init="glorot_uniform", bias="zeros"):
    return layers.Dense(
        CLASSES, "softmax", kernel_initializer=init, bias_initializer=bias, name="head"
    )


def row(make, depth, init, special, bias, after):
    """Layers `make(i, kernel, bias)` and what comes after each."""
    for i in range(depth):
        yield make(i, (special or {}).get(i, init), constant((bias or {}).get(i, 0.0)))
        if after and i in after:
            yield after[i](f"between{i}")


def mlp(
    init=HE,
    activation="relu",
    depth=5,
    special=None,
    bias=None,
    after=None,
    width=WIDTH,
    shape=(64,),
    drop=None,
    last=None,
):
    """Dense layers `d0`, `d1`, ... and `head`."""

    def make(i, kernel, start):
        return layers.Dense(
            width, activation, kernel_initializer=kernel, bias_initializer=start, name=f"d{i}"
        )

    after = after or (drop and {i: lambda name: layers.Dropout(drop) for i in range(depth)})
    rows = row(make, depth, init, special, bias, after)
    return keras.Sequential([keras.Input(shape), *rows, (last or head)()])


def cnn(init=HE, activation="relu", norm=None, special=None, bias=None, after=None, last=None):
    """Convolutions `c0` to `c3` and `head`."""

    def make(i, kernel, start):
        own = None if norm else activation
        return layers.Conv2D(
            16,
            3,
            padding="same",
            activation=own,
            kernel_initializer=kernel,
            bias_initializer=start,
            name=f"c{i}",
        )

    parts = []
    for part in row(make, 4, init, special, bias, after):
        parts.append(part)
        if norm and isinstance(part, layers.Conv2D):
            parts += [norm(), layers.Activation(activation)]
    pool = layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((8, 8, 1)), *parts, pool, (last or head)()])


def recurrent(kind=layers.LSTM, after=None, last=None, second=None, **options):
    """Two recurrent layers, `r0` with options and `r1`, and `head`."""
    rows = [kind(24, return_sequences=True, name="r0", **options)]
    rows += [after[0]("between0")] if after else []
    rows += [kind(24, name="r1", **(second or {})), (last or head)()]
    return keras.Sequential([keras.Input((8, 8)), *rows])


def residual(
    end=HE, first=HE, blocks=6, norm=False, scale=None, inner=None, after=None, bias=None, last=None
):
    """`stem`, blocks of `b0_in` and `b0_out`, and so on, and `head`.

    `inner` puts layers at the ends of branches, `scale` makes one for every block.
    """
    inputs = keras.Input((64,))
    x = layers.Dense(WIDTH, kernel_initializer="winit>lecun_normal", name="stem")(inputs)
    for i in range(blocks):
        y = layers.LayerNormalization()(x) if norm else x
        start = constant((bias or {}).get(i, 0.0))
        y = layers.Dense(
            WIDTH, "relu", kernel_initializer=first, bias_initializer=start, name=f"b{i}_in"
        )(y)
        y = layers.Dense(WIDTH, kernel_initializer=end, name=f"b{i}_out")(y)
        if scale:
            y = scale()(y)
        if inner and i in inner:
            y = inner[i](f"between{i}")(y)
        x = layers.add([x, y])
        if after and i in after:
            x = after[i](f"between{i}")(x)
    x = layers.LayerNormalization()(x) if norm else x
    return keras.Model(inputs, (last or head)()(x))


def attention(
    init="glorot_uniform",
    feed=HE,
    activation="gelu",
    bias=None,
    inner=None,
    after=None,
    last=None,
):
    """`words`, two blocks of attention `a0` and of `f0_in` and `f0_out`, and `head`."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(64, 32, name="words")(inputs)
    for i in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 16, kernel_initializer=init, name=f"a{i}")(y, y)
        y = layers.LayerNormalization()(x)
        start = constant((bias or {}).get(i, 0.0))
        y = layers.Dense(
            64, activation, kernel_initializer=feed, bias_initializer=start, name=f"f{i}_in"
        )(y)
        y = layers.Dense(32, name=f"f{i}_out")(y)
        x = x + (inner[i](f"between{i}")(y) if inner and i in inner else y)
        if after and i in after:
            x = after[i](f"between{i}")(x)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, (last or head)()(x))
