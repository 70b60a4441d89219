"""Measures how time and memory grow with the layers and the weights of a model.

    python benchmarks/scaling.py [--quick] [--results FILE]

Each model runs in a process of its own: MLPs of 62 to 500 layers of 64 units, MLPs of four layers
with 1.6 to 100 million weights, ResNet152 on images of 32 x 32 pixels, and a transformer of 12
blocks of width 256. A cell shows CPU seconds over all threads and, behind it, the memory in MiB
that the operation takes at its peak beyond what the process holds before (on Linux only).

"build" makes a copy of the model: with Keras' Glorot uniform, with `winit>he_normal`, with
Keras' orthogonal initializer and with `winit>orthogonal`. "fit" trains for two steps on 16 samples,
plain or watched by `ActivationMonitor(every=1)`; the first watched `fit` describes the model and
makes the second train function. "auto" is `reinitialize(model)`, which starts plain chains of
layers with orthogonal matrices, as `lsuv` does unless it is told not to. These take a time that
grows with the third power of the width, so that they are left out for more than 30 million
weights.

The slopes below are those of the logarithm of the time and of the memory over the logarithm of the
number of layers, or of weights, between the second largest and the largest size: 1 is linear, 2
quadratic. Memory below 4 MiB has no slope, since the allocator rounds it.

The backend is that of `KERAS_BACKEND`, PyTorch by default. Models whose measurements are in the
file of `--results` are not run again.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

from peak_memory import measured

SAMPLES, STEPS = 16, 2
# Orthogonal matrices of a model with more weights than this are left out.
MOST_ORTHOGONAL = 3e7
# Least memory, in MiB, that has a slope.
LEAST_MEMORY = 4.0

DEPTHS = (62, 125, 250, 500)
WIDTHS = (625, 1250, 2500, 5000)
QUICK_DEPTHS, QUICK_WIDTHS = (10, 20), (100, 200)


def mlp(depth, width):
    import keras

    he = "he_normal"
    hidden = [keras.layers.Dense(width, "relu", kernel_initializer=he) for _ in range(depth)]
    return keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(10)])


def resnet152():
    import keras

    return keras.applications.ResNet152(weights=None, input_shape=(32, 32, 3), classes=10)


def transformer(blocks, width=256, length=32):
    import keras
    from keras import layers

    x = inputs = keras.Input((length, width))
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = layers.add([x, layers.MultiHeadAttention(4, width // 4)(y, y)])
        y = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = layers.add([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def networks(quick):
    """Return the models by name, each as the name of a function of this file and its arguments."""
    depths, widths = (QUICK_DEPTHS, QUICK_WIDTHS) if quick else (DEPTHS, WIDTHS)
    found = {f"MLP, {depth} layers": ("mlp", [depth, 64]) for depth in depths}
    found |= {f"MLP, width {width}": ("mlp", [4, width]) for width in widths}
    if not quick:
        found |= {"ResNet152": ("resnet152", []), "transformer": ("transformer", [12])}
    return found


def copy_of(model, initializer):
    """Return a copy of a model whose kernels are drawn by an initializer."""
    import keras

    def copied(layer):
        config = layer.get_config()
        if "kernel_initializer" in config:
            config["kernel_initializer"] = initializer
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copied)


def operations(model):
    """Return what to measure on a model, by name, in the order in which it runs."""
    import numpy as np

    import keras_winit

    x = np.random.default_rng(0).normal(size=(SAMPLES * STEPS, *model.input_shape[1:]))
    x, y = x.astype("float32"), np.arange(len(x)) % 10
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0)

    def fit(*callbacks):
        model.fit(x, y, batch_size=SAMPLES, verbose=0, shuffle=False, callbacks=list(callbacks))

    he_normal = keras_winit.HeNormal(seed=0)
    found = {
        "build, Keras": lambda: copy_of(model, "glorot_uniform"),
        "build, he_normal": lambda: copy_of(model, "winit>he_normal"),
        "build, Keras orthogonal": lambda: copy_of(model, "orthogonal"),
        "build, orthogonal": lambda: copy_of(model, "winit>orthogonal"),
        "fit": fit,
        "fit, watched first": lambda: fit(monitor),
        "fit, watched again": lambda: fit(monitor),
        "signal_report": lambda: keras_winit.signal_report(model, x[:SAMPLES], y[:SAMPLES]),
        "reinitialize, he_normal": lambda: keras_winit.reinitialize(model, he_normal),
        "reinitialize, auto": lambda: keras_winit.reinitialize(model, seed=0),
        "lsuv, not orthogonal": lambda: keras_winit.lsuv(model, x, orthogonal=False),
        "lsuv": lambda: keras_winit.lsuv(model, x, seed=0),
    }
    if model.count_params() > MOST_ORTHOGONAL:
        for name in ORTHOGONAL:
            del found[name]
    return found


ORTHOGONAL = ("build, Keras orthogonal", "build, orthogonal", "reinitialize, auto", "lsuv")


def measure(name, arguments):
    """Print the measurements of one model as a line of JSON."""
    import keras

    keras.utils.set_random_seed(0)
    model = globals()[name](*arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-6), loss)
    # The first steps load code and take memory that later ones use again.
    operations(model)["fit"]()
    found = {what: measured(function)[1:] for what, function in operations(model).items()}
    layers, weights = len(model.layers), model.count_params()
    print(json.dumps({"layers": layers, "weights": weights, "measured": found}))


def slope(small, large, size):
    """Return the slopes of time and memory between two models, as a text."""
    ratio = math.log(large[size] / small[size])
    texts = {}
    for what, (seconds, mib) in large["measured"].items():
        if what in small["measured"]:
            earlier, earlier_mib = small["measured"][what]
            text = f"{math.log(max(seconds, 1e-3) / max(earlier, 1e-3)) / ratio:.2f}"
            if earlier_mib >= LEAST_MEMORY:
                text += f" / {math.log(max(mib, 0.1) / earlier_mib) / ratio:.2f}"
            texts[what] = text
    return texts


def show(results):
    """Print the tables of times and memory, and of their slopes."""
    columns = {name: cells(result) for name, result in results.items()}
    for kind, size in (("layers", "layers"), ("width", "weights")):
        series = [result for name, result in results.items() if kind in name]
        # Operations that were left out at the largest size are compared at smaller ones.
        texts = {}
        for small, large in itertools.pairwise(series):
            texts |= slope(small, large, size)
        columns[f"slope by {size}"] = texts
    names = list(next(iter(results.values()))["measured"])
    for start in range(0, len(columns), 5):
        part = dict(list(columns.items())[start : start + 5])
        print(" " * 24 + "".join(f"{head:>19s}" for head in part))
        for what in names:
            print(f"{what:24s}" + "".join(f"{c.get(what, '-'):>19s}" for c in part.values()))
        print(flush=True)


def cells(result):
    """Return the cells of one model, and its size."""
    return {what: f"{s:.2f} / {mib:.0f}" for what, (s, mib) in result["measured"].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny models, as a trial")
    parser.add_argument("--results", type=Path, help="file for the measurements, as JSON")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], json.loads(options.one[1]))
        return
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    environment.setdefault("KERAS_BACKEND", "torch")
    results = {}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text())
    for name, (function, arguments) in networks(options.quick).items():
        command = [sys.executable, __file__, "--one", function, json.dumps(arguments)]
        if name not in results:
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
            results[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {results[name]['layers']} layers,", end=" ")
        print(f"{results[name]['weights'] / 1e6:.1f} million weights", flush=True)
        if options.results:
            options.results.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nCPU seconds / MiB, on {environment['KERAS_BACKEND']}\n")
    show(results)


if __name__ == "__main__":
    main()
