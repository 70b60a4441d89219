"""Measures time and memory of a first training step, with and without `ActivationMonitor`.

    python benchmarks/compile_time.py [--backend NAME] [--net NAME ...] [--rounds N]

The first step traces and compiles, which for large models is the part of monitoring that
users feel. Each measurement is a fresh process; plain and watched processes take turns, and
the medians and the range of the ratios are printed. Times are CPU seconds over all threads.
"Tracing" is the time within the model's Python training step, "first step" is all of it:
tracing, lowering, compiling and one run. Memory is the peak of the process.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys

BACKENDS = ("tensorflow", "jax")


def resnet50():
    import keras

    return keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3)), 8


def mobilenet():
    import keras

    return keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3)), 8


def transformer():
    import keras
    from keras import layers

    x = inputs = keras.Input((64, 128))
    for _ in range(12):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 32)(y, y)
        y = layers.LayerNormalization()(x)
        x = x + layers.Dense(128)(layers.Dense(512, "gelu")(y))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(1000)(x)), 8


def mlp():
    import keras
    from keras import layers

    hidden = [layers.Dense(128, "relu") for _ in range(100)]
    return keras.Sequential([keras.Input((128,)), *hidden, layers.Dense(1000)]), 64


NETS = {"ResNet50": resnet50, "MobileNetV2": mobilenet, "transformer": transformer, "MLP": mlp}


def measure(net, watched):
    """Run the first step; return CPU seconds of tracing and in all, and the peak in MiB."""
    import resource
    import time

    import keras
    import numpy as np

    import keras_winit

    keras.utils.set_random_seed(0)
    model, batch = NETS[net]()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(batch, *model.input_shape[1:])).astype("float32")
    y = np.arange(batch)
    callbacks = [keras_winit.ActivationMonitor(every=1)] if watched else []
    step, traced = model.train_step, []

    def train_step(*arguments):
        start = time.process_time()
        result = step(*arguments)
        traced.append(time.process_time() - start)
        return result

    model.train_step = train_step
    start, wall = time.process_time(), time.perf_counter()
    model.fit(x, y, batch_size=batch, verbose=0, callbacks=callbacks)
    first, wall = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if watched:
        (monitor,) = callbacks
        assert len(monitor.history.records) == 1
    return {
        "tracing": sum(traced),
        "first": first,
        "wall": wall,
        "peak": peak / 1024,
    }


def run(backend, net, watched):
    """Return the result of `measure` in a process of its own."""
    command = [sys.executable, __file__, "--child", net, *(["--watched"] if watched else [])]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(backend, net, rounds):
    pairs = [[run(backend, net, watched) for watched in (False, True)] for _ in range(rounds)]
    print(f"{backend}, {net}")
    for key in ("tracing", "first", "wall", "peak"):
        plain, watched = (statistics.median(pair[i][key] for pair in pairs) for i in (0, 1))
        ratios = [pair[1][key] / pair[0][key] for pair in pairs]
        print(
            f"    {key:8s}{plain:9.2f}{watched:9.2f}   {statistics.median(ratios):5.2f}"
            f"   ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--net", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=NETS, help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.watched)))
        return
    for backend in [options.backend] if options.backend else BACKENDS:
        if importlib.util.find_spec(backend) is not None:
            for net in options.net:
                show(backend, net, options.rounds)


if __name__ == "__main__":
    main()
