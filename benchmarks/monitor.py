"""Measures what `ActivationMonitor` costs, as a multiple of plain training.

    python benchmarks/monitor.py [--backend NAME] [--rounds N] [--net NAME ...]

Runs on every installed backend, each in a process of its own. Plain and watched training take
turns; the median of the ratios of CPU time over all threads is shown, with their range.
Compiling is left out, see `compile_time.py`. The first line of each net compares plain training
with itself: smaller differences mean nothing. The "recipe" is the usual one: a second model of
all outputs, `predict` of a batch, and numpy.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time

BACKENDS = ("tensorflow", "jax", "torch")


def mlp(inputs, width):
    from keras import layers

    return [*(layers.Dense(width, "relu") for _ in range(4)), layers.Dense(10)], (inputs,)


def cnn(side, widths):
    from keras import layers

    stack = []
    for width, follower in zip(widths, [*widths[1:], None], strict=True):
        stack += [layers.Conv2D(width, 3, padding="same"), layers.BatchNormalization()]
        stack += [layers.ReLU(), *([layers.MaxPooling2D()] if width != follower else [])]
    return [*stack, layers.Flatten(), layers.Dense(10)], (side, side, 3)


def transformer(length, width, heads):
    from keras import layers

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(heads, width // heads)
            self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
            self.wide, self.narrow = layers.Dense(4 * width, "gelu"), layers.Dense(width)

        def build(self, shape):
            self.attention.build(shape, shape)
            for part in (*self.norms, self.wide):
                part.build(shape)
            self.narrow.build((*shape[:-1], 4 * width))

        def call(self, x):
            y = self.norms[0](x)
            x = x + self.attention(y, y)
            return x + self.narrow(self.wide(self.norms[1](x)))

    stack = [layers.Dense(width), Block(), Block(), layers.GlobalAveragePooling1D()]
    return [*stack, layers.Dense(10)], (length, 16)


# Names of the candidates that do the same at each step.
EACH = (
    "plain again",
    "every step",
    "every step, 8 samples",
    "numbers of the recipe, every step",
    "recipe, every step",
)

# For each net: the function that makes it, the batch size, and the steps in a round.
NETS = {
    "small MLP": (lambda: mlp(64, 256), 128, 200),
    "small CNN": (lambda: cnn(16, (16, 32)), 32, 100),
    "small Transformer": (lambda: transformer(16, 32, 2), 32, 100),
    "MLP": (lambda: mlp(784, 512), 128, 20),
    "CNN": (lambda: cnn(32, (32, 32, 64, 64)), 32, 20),
    "Transformer": (lambda: transformer(64, 128, 4), 32, 20),
}


def trainer(make, batch, steps):
    """Return a compiled model, and a function that trains it for one epoch with callbacks."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    parts, shape = make()
    model = keras.Sequential([keras.Input(shape), *parts])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    x = np.random.default_rng(0).normal(size=(steps * batch, *shape)).astype("float32")
    y = np.random.default_rng(1).integers(0, 10, len(x))

    def train(callbacks):
        model.fit(x, y, batch_size=batch, verbose=0, shuffle=False, callbacks=callbacks)

    return train


def recipe(every, size):
    """Return the usual recipe: a second model of all outputs, `predict` of a batch, and numpy."""
    import keras
    import numpy as np

    class Recipe(keras.callbacks.Callback):
        step = 0

        def set_model(self, model):
            super().set_model(model)
            outputs = [layer.output for layer in model.layers]
            self.probe, self.seen = keras.Model(model.inputs, outputs), []
            shape = (size, *model.input_shape[1:])
            self.batch = np.random.default_rng(0).normal(size=shape).astype("float32")

        def on_train_batch_end(self, batch, logs=None):
            if self.step % every == 0:
                # On JAX this brings the weights up to date, which the second model shares.
                assert self.model is not None
                outputs = self.probe.predict(self.batch, batch_size=size, verbose=0)
                self.seen.append([(a.mean(), a.std(), (a == 0).mean()) for a in outputs])
            self.step += 1

    return Recipe()


def candidates(batch, log_dir):
    """Return the candidates to compare, each with the callbacks that it makes once."""
    import keras

    import keras_winit

    monitor = keras_winit.ActivationMonitor
    found = {
        "plain again": [],
        "every step": [monitor(every=1)],
        "every step, all statistics": [monitor(every=1, statistics="all")],
        "every step, 8 samples": [monitor(every=1, samples=8)],
        "numbers of the recipe, every step": [
            monitor(every=1, statistics=["mean", "stddev", "zero_share"], rules=())
        ],
        "every 50": [monitor(every=50)],
        "default schedule": [monitor()],
        "recipe, every step": [recipe(1, batch)],
        "recipe, every 50": [recipe(50, batch)],
    }
    if keras.backend.backend() == "tensorflow":
        board = keras.callbacks.TensorBoard(log_dir, histogram_freq=1)
        found["keras.callbacks.TensorBoard"] = [board]
    return found


def measure(net, rounds, chosen):
    """Return, for each candidate, the ratios of its CPU time to that of plain training."""
    train = {name: trainer(*net) for name in ("plain", *chosen)}
    callbacks = {"plain": [], **chosen}
    spent = {name: [] for name in train}
    # The first round compiles; the default schedule is dense there.
    for _ in range(rounds + 1):
        for name, run in train.items():
            start = time.process_time()
            run(callbacks[name])
            spent[name].append(time.process_time() - start)
    return {
        name: [a / b for a, b in zip(spent[name][1:], spent["plain"][1:], strict=True)]
        for name in chosen
    }


def show(backend, rounds, nets):
    for name in nets:
        net = NETS[name]
        print(f"{backend}, {name}")
        with tempfile.TemporaryDirectory() as log_dir:
            chosen = candidates(net[1], log_dir)
            if net[-1] < 50:
                # A single step would miss work that is done once in 50 steps.
                chosen = {name: chosen[name] for name in EACH}
            found = measure(net, rounds, chosen)
        for candidate, ratios in found.items():
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"    {candidate:36s}{statistics.median(ratios):6.2f}   ({spread})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--net", nargs="+", choices=NETS, default=list(NETS))
    options = parser.parse_args()
    if options.backend and os.environ.get("KERAS_BACKEND") == options.backend:
        show(options.backend, options.rounds, options.net)
        return
    for backend in [options.backend] if options.backend else BACKENDS:
        if importlib.util.find_spec(backend) is None:
            continue
        command = [sys.executable, __file__, "--backend", backend]
        command += ["--rounds", str(options.rounds), "--net", *options.net]
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
