"""Measures the mean square of outputs and gradients of each kind of layer, for inputs from N(0, 1).

    python benchmarks/fans.py [--draws N]

A scheme with Var[w] = 1 / fan_in should give outputs of variance 1, and one with 1 / fan_out
gradients of variance 1. The columns compare our `VarianceScaling`, bound to the layer with
`for_layer`, with that of Keras, which sees only the shape. Each number is the mean over draws.
"""

import argparse

import keras
import numpy as np

import keras_winit

L = keras.layers
no_bias = {"use_bias": False}

# Label, layer, input shape without the batch axis, and prefix of the initializer argument.
LAYERS = (
    ("Dense", lambda: L.Dense(192, **no_bias), (96,), "kernel"),
    ("Conv2D", lambda: L.Conv2D(64, 3, **no_bias), (12, 12, 16), "kernel"),
    ("Conv2D, stride 2", lambda: L.Conv2D(64, 4, 2, **no_bias), (22, 22, 16), "kernel"),
    ("Conv2D, 4 groups", lambda: L.Conv2D(64, 3, groups=4, **no_bias), (12, 12, 32), "kernel"),
    (
        "DepthwiseConv2D, 32 channels",
        lambda: L.DepthwiseConv2D(3, **no_bias),
        (12, 12, 32),
        "depthwise",
    ),
    (
        "DepthwiseConv2D, 128 channels",
        lambda: L.DepthwiseConv2D(3, **no_bias),
        (12, 12, 128),
        "depthwise",
    ),
    ("Conv2DTranspose k3", lambda: L.Conv2DTranspose(64, 3, **no_bias), (9, 9, 16), "kernel"),
    (
        "Conv2DTranspose k4 stride 2",
        lambda: L.Conv2DTranspose(32, 4, 2, **no_bias),
        (9, 9, 16),
        "kernel",
    ),
    ("EinsumDense", lambda: L.EinsumDense("abc,cde->abde", (6, 8, 12)), (6, 96), "kernel"),
    (
        "EinsumDense, 16 experts",
        lambda: L.EinsumDense("bgi,gio->bgo", (16, 64)),
        (16, 128),
        "kernel",
    ),
)
# Recurrent layers and the number of their gates.
GATED = (("SimpleRNN", L.SimpleRNN, 1), ("LSTM", L.LSTM, 4), ("GRU", L.GRU, 3))


def interior(values):
    """Return the positions of images that lie 3 or more from the border, an even number of them.

    Near the border, windows are incomplete.
    """
    cut = tuple(slice(3, 3 + 2 * ((n - 6) // 2)) for n in values.shape[1:-1])
    return values[(slice(None), *cut)]


def gradient(layer, inputs, cotangent):
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(lambda x: (layer(x) * cotangent).sum())(inputs)
    if keras.backend.backend() == "torch":
        import torch

        x = torch.tensor(inputs, requires_grad=True)
        (layer(x) * torch.tensor(cotangent)).sum().backward()
        return x.grad
    import tensorflow as tf

    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * cotangent)
    return tape.gradient(loss, x)


def mean_square(make, shape, attribute, scheme, backward, draws):
    """Return the mean square of the outputs, or of the gradients at the inputs.

    The result is None where the backend has no gradient.
    """
    mean_squares = []
    for draw in range(draws):
        keras.utils.set_random_seed(draw)
        layer = make()
        setattr(layer, f"{attribute}_initializer", scheme(layer))
        generator = np.random.default_rng(draw)
        inputs = generator.standard_normal((4, *shape), np.float32)
        values = layer(inputs)
        if backward:
            cotangent = generator.standard_normal(values.shape, np.float32)
            try:
                values = gradient(layer, inputs, cotangent)
            except Exception:
                return None
        values = keras.ops.convert_to_numpy(values)
        values = interior(values) if len(shape) == 3 else values
        mean_squares.append(float((values.astype(np.float64) ** 2).mean()))
    return np.mean(mean_squares)


def ours(mode):
    scheme = keras_winit.VarianceScaling(mode=mode)
    return lambda layer: keras_winit.for_layer(scheme.clone(), layer)


def keras_own(mode):
    return lambda layer: keras.initializers.VarianceScaling(1.0, mode)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=16)
    draws = parser.parse_args().draws
    print(f"keras {keras.__version__} on {keras.backend.backend()}, mean of {draws} draws")
    print(f"{'':30s} {'outputs, 1 / fan_in':>21s} {'gradients, 1 / fan_out':>24s}")
    print(f"{'layer':30s} {'ours':>10s} {'Keras':>10s} {'ours':>13s} {'Keras':>10s}")
    for name, make, shape, attribute in LAYERS:
        cells = [
            mean_square(make, shape, attribute, scheme(mode), mode == "fan_out", draws)
            for mode in ("fan_in", "fan_out")
            for scheme in (ours, keras_own)
        ]
        texts = ["-" if cell is None else f"{cell:.3f}" for cell in cells]
        print(f"{name:30s} {texts[0]:>10s} {texts[1]:>10s} {texts[2]:>13s} {texts[3]:>10s}")
    print(f"\n{'one gate, Var[w] (in + units) / 2':36s} {'ours':>10s} {'Keras':>10s}")
    for name, make, gates in GATED:
        layer = make(256)
        bound = keras_winit.for_layer("winit>xavier_uniform", layer)
        # With right fans, the ratio of Var[w] to Xavier's 2 / (fan_in + fan_out) of one gate is 1.
        ratios = []
        for scheme in (bound, keras.initializers.GlorotUniform()):
            kernel = keras.ops.convert_to_numpy(scheme((128, gates * 256), "float32"))
            ratios.append(float((kernel.astype(np.float64) ** 2).mean()) * (128 + 256) / 2)
        print(f"{name + ' 128 to 256':36s} {ratios[0]:10.3f} {ratios[1]:10.3f}")


if __name__ == "__main__":
    main()
