"""What `ActivationMonitor` costs, as a multiple of plain training.

    python benchmarks/monitor.py [--backend NAME] [--rounds N] [--quick]

Runs on every installed backend, each in a process of its own. Plain and watched training
take turns and the median of the ratios is shown: of CPU time over all threads, as wall time
on a shared machine says little. Compiling is left out. The first line is plain against
plain: differences as small as there mean nothing.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time

BACKENDS = ("tensorflow", "jax", "torch")
STEPS = 100


def mlp(layers):
    return [layers.Dense(256, "relu") for _ in range(4)] + [layers.Dense(10)], (64,)


def cnn(layers):
    stack = []
    for width in (16, 32, 32):
        stack += [layers.Conv2D(width, 3, padding="same"), layers.BatchNormalization()]
        stack += [layers.ReLU(), layers.MaxPooling2D()]
    return [*stack, layers.Flatten(), layers.Dense(10)], (24, 24, 3)


def transformer(layers):
    import keras

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(4, 16)
            self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
            self.wide, self.narrow = layers.Dense(256, "gelu"), layers.Dense(64)

        def build(self, shape):
            self.attention.build(shape, shape)
            for part in (*self.norms, self.wide):
                part.build(shape)
            self.narrow.build((*shape[:-1], 256))

        def call(self, x):
            y = self.norms[0](x)
            x = x + self.attention(y, y)
            return x + self.narrow(self.wide(self.norms[1](x)))

    stack = [keras.layers.Dense(64), Block(), Block(), layers.GlobalAveragePooling1D()]
    return [*stack, layers.Dense(10)], (32, 16)


def trainer(kind, batch):
    """A compiled model, and a call that trains it for one epoch with some callbacks."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    parts, shape = kind(keras.layers)
    model = keras.Sequential([keras.Input(shape), *parts])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    x = np.random.default_rng(0).normal(size=(STEPS * batch, *shape)).astype("float32")
    y = np.random.default_rng(1).integers(0, 10, len(x))

    def train(callbacks):
        model.fit(x, y, batch_size=batch, verbose=0, shuffle=False, callbacks=callbacks)

    return train


def candidates():
    """What is compared, each with the callbacks it makes once."""
    import keras_winit

    monitor = keras_winit.ActivationMonitor
    return {
        "plain again": [],
        "every step": [monitor(every=1)],
        "every step, all statistics": [monitor(every=1, statistics="all")],
        "every step, 8 samples": [monitor(every=1, samples=8)],
        "activations, every step": [
            monitor(every=1, statistics=["mean", "stddev", "unit_stddev", "dead_share"])
        ],
        "default schedule": [monitor()],
    }


def measure(kind, batch, rounds, chosen):
    """Ratios of CPU time to plain training of each candidate."""
    train = {name: trainer(kind, batch) for name in ("plain", *chosen)}
    callbacks = {"plain": [], **chosen}
    spent = {name: [] for name in train}
    # The first round compiles; the default schedule is dense there.
    for _ in range(rounds + 1):
        for name, run in train.items():
            start = time.process_time()
            run(callbacks[name])
            spent[name].append(time.process_time() - start)
    return {
        name: statistics.median(
            a / b for a, b in zip(spent[name][1:], spent["plain"][1:], strict=True)
        )
        for name in chosen
    }


def show(backend, rounds, quick):
    kinds = {"MLP": (mlp, 128), "CNN": (cnn, 32), "Transformer": (transformer, 32)}
    rows = {}
    for name, (kind, batch) in list(kinds.items())[: 1 if quick else None]:
        rows[name] = measure(kind, batch, rounds, candidates())
    print(f"{backend:28s}" + "".join(f"{name:>13s}" for name in rows))
    for candidate in next(iter(rows.values())):
        numbers = "".join(f"{row[candidate]:13.2f}" for row in rows.values())
        print(f"{candidate:28s}{numbers}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only the MLP")
    options = parser.parse_args()
    if options.backend and os.environ.get("KERAS_BACKEND") == options.backend:
        show(options.backend, options.rounds, options.quick)
        return
    for backend in [options.backend] if options.backend else BACKENDS:
        if importlib.util.find_spec(backend) is None:
            continue
        command = [sys.executable, __file__, "--backend", backend]
        command += ["--rounds", str(options.rounds), *(["--quick"] if options.quick else [])]
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
