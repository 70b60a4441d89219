"""How often the monitor finds planted faults, and how often it cries wolf.

    python benchmarks/diagnosis.py [--seeds 5 15] [--only NAME]

Trains each model for 31 steps from each seed, with a monitor at its defaults. A fault counts
as found if a warning or an error names one of the layers it was planted in; a healthy model
as an alarm if there is any warning or error. Thresholds were chosen on seeds 0 to 4.
"""

import argparse
import collections
import sys
import time

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_winit

STEPS, BATCH = 31, 32
WIDTH, CLASSES = 64, 10
ANY = None  # A fault of no single layer.

FAULTS, HEALTHY = {}, {}


def adam(rate=1e-3):
    return keras.optimizers.Adam(rate)


def normal(stddev, mean=0.0):
    return keras.initializers.RandomNormal(mean, stddev)


def data(kind, seed):
    """Digits as vectors, images or rows, words, or series; a batch's worth for each step."""
    rng = np.random.default_rng(seed)
    if kind in ("flat", "image", "rows", "pixels"):
        x, y = load_digits(return_X_y=True)
        order = rng.permutation(len(x))[: STEPS * BATCH]
        x, y = x[order].astype("float32") / 16, y[order]
        if kind == "pixels":
            return x * 255 * 20, y
        shapes = {"flat": (64,), "image": (8, 8, 1), "rows": (8, 8)}
        return x.reshape(-1, *shapes[kind]), y
    count = STEPS * BATCH
    y = rng.integers(0, CLASSES, count)
    if kind == "words":
        # Words of a class come more often in it.
        own = rng.random((count, 12)) < 0.4
        return np.where(own, 10 + y[:, None], rng.integers(0, 40, (count, 12))), y
    centers = np.random.default_rng(0).normal(size=(CLASSES, 32))
    return (centers[y] + rng.normal(size=(count, 32))).astype("float32"), y


def dense(init="winit>he_normal", activation="relu", depth=5, special=None, width=WIDTH, **options):
    """A row of dense layers `d0`, `d1`, ...; `special` maps numbers to initializers."""
    special = special or {}
    rows = [
        layers.Dense(
            width, activation, kernel_initializer=special.get(i, init), name=f"d{i}", **options
        )
        for i in range(depth)
    ]
    return [*rows, layers.Dense(CLASSES, "softmax", name="head")]


def stack(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def mlp(*args, shape=(64,), **kwargs):
    return stack(shape, *dense(*args, **kwargs))


def cnn(init="winit>he_normal", activation="relu", norm=False, special=None):
    special, parts = special or {}, []
    for i in range(4):
        kernel = special.get(i, init)
        own = None if norm else activation
        parts.append(
            layers.Conv2D(
                16, 3, padding="same", activation=own, kernel_initializer=kernel, name=f"c{i}"
            )
        )
        if norm:
            parts += [layers.BatchNormalization(), layers.Activation(activation)]
    pool = layers.GlobalAveragePooling2D()
    return stack((8, 8, 1), *parts, pool, layers.Dense(CLASSES, "softmax", name="head"))


def recurrent(kind=layers.LSTM, **options):
    first = kind(24, return_sequences=True, name="r0", **options)
    return stack((8, 8), first, kind(24, name="r1"), layers.Dense(CLASSES, "softmax", name="head"))


def residual(last="winit>he_normal", blocks=6, first="winit>he_normal", norm=False, scale=None):
    inputs = keras.Input((64,))
    x = layers.Dense(WIDTH, kernel_initializer="winit>lecun_normal", name="stem")(inputs)
    for i in range(blocks):
        y = layers.LayerNormalization()(x) if norm else x
        y = layers.Dense(WIDTH, "relu", kernel_initializer=first, name=f"b{i}_in")(y)
        y = layers.Dense(WIDTH, kernel_initializer=last, name=f"b{i}_out")(y)
        if scale:
            y = layers.Rescaling(scale)(y)
        x = layers.add([x, y])
    x = layers.LayerNormalization()(x) if norm else x
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="head")(x))


def attention(init="glorot_uniform", feed="winit>he_normal", activation="gelu", bias=None):
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(64, 32, name="words")(inputs)
    for i in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 16, kernel_initializer=init, name=f"a{i}")(y, y)
        y = layers.LayerNormalization()(x)
        start = keras.initializers.Constant((bias or {}).get(i, 0.0))
        y = layers.Dense(
            64, activation, kernel_initializer=feed, bias_initializer=start, name=f"f{i}_in"
        )(y)
        x = x + layers.Dense(32, name=f"f{i}_out")(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="head")(x))


EVERY = tuple(f"d{i}" for i in range(12))


def plant(kind, name, where, build, **options):
    FAULTS[name] = (build, where, {"data": kind, **options})


def planted():
    """The grid: what is wrong, in which layers, in which model."""
    for act in ("relu", "tanh"):
        plant("flat", f"zeros, {act}", EVERY, lambda a=act: mlp("zeros", a))
        plant(
            "flat",
            f"constant, {act}",
            EVERY,
            lambda a=act: mlp(keras.initializers.Constant(0.05), a),
        )
    for act, depth in (("relu", 5), ("tanh", 5), ("relu", 10), ("tanh", 10), ("sigmoid", 5)):
        text = f"{depth} {act}"
        plant("flat", f"N(0, 1e-3²), {text}", EVERY, lambda a=act, d=depth: mlp(normal(1e-3), a, d))
        plant("flat", f"N(0, 1), {text}", EVERY, lambda a=act, d=depth: mlp(normal(1.0), a, d))
    plant("flat", "negative weights", EVERY, lambda: mlp("winit>negative_normal"))
    plant(
        "pixels", "input scale, tanh", ("input", "d0"), lambda: mlp("winit>xavier_uniform", "tanh")
    )
    plant(
        "pixels",
        "input scale, sigmoid",
        ("input", "d0"),
        lambda: mlp("winit>xavier_uniform", "sigmoid", 2),
    )
    plant(
        "flat",
        "dead biases",
        ("d0", "d1"),
        lambda: mlp(bias_initializer=keras.initializers.Constant(-3.0)),
    )
    plant("flat", "rate, SGD", ANY, mlp, optimizer=lambda: keras.optimizers.SGD(100.0))
    plant("flat", "rate, Adam", ANY, mlp, optimizer=lambda: adam(1.0))
    plant("image", "rate, CNN", ANY, cnn, optimizer=lambda: adam(1.0))
    plant("flat", "exploding residuals", ANY, lambda: residual(blocks=20))
    for i, init, what in (
        (0, normal(1e-3), "small"),
        (2, normal(1e-3), "small"),
        (2, normal(1.0), "large"),
        (3, "zeros", "zero"),
        (2, "ones", "constant"),
    ):
        plant(
            "flat",
            f"one bad layer, {what} {i}",
            (f"d{i}",),
            lambda i=i, init=init: mlp(special={i: init}),
        )
    plant("image", "one bad layer, CNN small", ("c1",), lambda: cnn(special={1: normal(1e-3)}))
    plant("image", "one bad layer, CNN large", ("c1",), lambda: cnn(special={1: normal(1.0)}))
    plant("image", "CNN constant", ("c0", "c1", "c2", "c3"), lambda: cnn("ones"))
    plant("image", "CNN N(0, 1e-3²)", ("c0", "c1", "c2", "c3"), lambda: cnn(normal(1e-3)))
    plant(
        "rows",
        "bad recurrent kernel, LSTM",
        ("r0",),
        lambda: recurrent(recurrent_initializer=normal(1.0)),
    )
    plant(
        "rows",
        "constant recurrent kernel",
        ("r0",),
        lambda: recurrent(layers.GRU, recurrent_initializer=keras.initializers.Constant(0.1)),
    )
    plant(
        "rows",
        "bad recurrent kernel, RNN",
        ("r0",),
        lambda: recurrent(layers.SimpleRNN, recurrent_initializer=normal(1.0)),
    )
    plant("words", "attention, constant", ANY, lambda: attention(keras.initializers.Constant(0.1)))
    plant(
        "words",
        "attention, dead feed",
        ("f1_in",),
        lambda: attention(activation="relu", bias={1: -8.0}),
    )
    plant(
        "flat",
        "float16 overflow",
        EVERY,
        lambda: mlp(normal(40.0), depth=4),
        policy="mixed_float16",
    )


def sound():
    """Healthy models, some with what looks like a fault and is none."""
    plans = {
        "MLP He": ("flat", mlp),
        "MLP Glorot": ("flat", lambda: mlp("glorot_uniform", depth=3)),
        "MLP tanh": ("flat", lambda: mlp("winit>xavier_uniform", "tanh")),
        "MLP GELU": ("flat", lambda: mlp(activation="gelu")),
        "MLP SELU": ("flat", lambda: mlp("winit>lecun_normal", "selu")),
        "MLP SiLU": ("flat", lambda: mlp(activation="silu")),
        "MLP orthogonal, series": ("series", lambda: mlp("winit>orthogonal", shape=(32,))),
        "MLP 10 deep": ("flat", lambda: mlp(depth=10)),
        "MLP 20 deep, 128 wide": ("flat", lambda: mlp(depth=20, width=128)),
        "MLP sparse": ("flat", lambda: mlp(keras_winit.Sparse(stddev=0.4), "tanh")),
        "narrow MLP": ("flat", lambda: mlp(width=12, depth=2)),
        "CNN": ("image", cnn),
        "CNN batch norm": ("image", lambda: cnn("glorot_uniform", norm=True)),
        "LSTM": ("rows", recurrent),
        "GRU": ("rows", lambda: recurrent(layers.GRU)),
        "IRNN": ("rows", lambda: recurrent(layers.SimpleRNN, recurrent_initializer="identity")),
        "residual": ("flat", lambda: residual(blocks=4)),
        "residual, norm": ("flat", lambda: residual(blocks=12, norm=True)),
        "residual, zero ends": ("flat", lambda: residual("zeros", 12)),
        "residual, layer scale": ("flat", lambda: residual(blocks=12, norm=True, scale=1e-4)),
        "attention": ("words", attention),
        "attention, small normal": ("words", lambda: attention(normal(0.02), normal(0.02))),
    }
    for name, (kind, build) in plans.items():
        HEALTHY[name] = (build, ANY, {"data": kind})

    def zero_head():
        head = layers.Dense(CLASSES, "softmax", kernel_initializer="zeros")
        return stack((64,), *dense()[:-1], head)

    HEALTHY["zero head"] = (zero_head, ANY, {"data": "flat"})

    def dropout():
        *hidden, head = dense(depth=3)
        return stack((64,), *(p for h in hidden for p in (h, layers.Dropout(0.5))), head)

    HEALTHY["dropout"] = (dropout, ANY, {"data": "flat"})
    slow = {"data": "flat", "optimizer": lambda: adam(1e-5)}
    HEALTHY["small rate"] = (mlp, ANY, slow)
    HEALTHY["fine-tuning"] = (mlp, ANY, {**slow, "trained": True})
    HEALTHY["fine-tuning, SGD"] = (
        mlp,
        ANY,
        {"data": "flat", "trained": True, "optimizer": lambda: keras.optimizers.SGD(1e-4, 0.9)},
    )
    HEALTHY["mixed float16"] = (mlp, ANY, {"data": "flat", "policy": "mixed_float16"})
    momentum = {"data": "flat", "optimizer": lambda: keras.optimizers.SGD(0.05, 0.9)}
    HEALTHY["momentum"] = (mlp, ANY, momentum)


def runs(build, seeds, options):
    """The findings of each seed; one model serves all, so that it is compiled once."""
    keras.config.set_dtype_policy(options.get("policy", "float32"))
    keras.utils.clear_session()
    keras.utils.set_random_seed(seeds[0])
    model, monitor = build(), keras_winit.ActivationMonitor(verbose=0)
    model.compile(options.get("optimizer", adam)(), "sparse_categorical_crossentropy")
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        model.set_weights(build().get_weights())
        x, y = data(options["data"], seed)
        if options.get("trained"):
            tuned(model, x, y)
        for variable in model.optimizer.variables:
            if "learning_rate" not in variable.path:
                start = 2.0**15 if "dynamic_scale" in variable.path else 0
                variable.assign(np.full(variable.shape, start))
        monitor.reset()
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[monitor])
        yield monitor.findings


def tuned(model, x, y):
    """Train it first, with a rate of its own."""
    rate = float(model.optimizer.learning_rate)
    model.optimizer.learning_rate = 3e-3 if "adam" in model.optimizer.name else 0.05
    model.fit(x, y, batch_size=BATCH, epochs=4, verbose=0)
    model.optimizer.learning_rate = rate


def is_found(findings, where):
    bad = [finding for finding in findings if finding.severity != "info"]
    named = {(one.layer, *one.layer.split("/")) for one in bad}
    return bool(bad) and (where is ANY or any(set(names) & set(where) for names in named))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs=2, type=int, default=(5, 15), metavar=("FROM", "TO"))
    parser.add_argument("--kind", choices=("fault", "healthy"), help="only these")
    parser.add_argument("--only", default="", help="names that contain this")
    options = parser.parse_args()
    planted()
    sound()
    seeds, began = range(*options.seeds), time.monotonic()
    print(f"seeds {seeds.start} to {seeds.stop - 1}, {STEPS} steps of {BATCH}\n", flush=True)
    confusion = collections.defaultdict(collections.Counter)
    totals = {}
    for kind, plans in (("fault", FAULTS), ("healthy", HEALTHY)):
        if options.kind not in (None, kind):
            continue
        print(f"{kind:28}  {'found' if kind == 'fault' else 'alarms'}  by rule", flush=True)
        hits = count = 0
        for name, (build, where, settings) in plans.items():
            if options.only not in name:
                continue
            rules, own = collections.Counter(), 0
            for findings in runs(build, seeds, settings):
                own += is_found(findings, where)
                rules.update({f.rule for f in findings if f.severity != "info"})
            hits, count = hits + own, count + len(seeds)
            confusion[kind].update(rules)
            shown = ", ".join(f"{rule} {n}" for rule, n in rules.most_common())
            print(f"{name:28}  {own:2d}/{len(seeds):2d}   {shown}", flush=True)
        totals[kind] = (hits, count)
        print()
    print(f"{'rule, as a root cause':28}  {'faults':>7}  {'healthy':>7}")
    for rule in keras_winit.monitor.RULES:
        print(f"{rule.id:28}  {confusion['fault'][rule.id]:7d}  {confusion['healthy'][rule.id]:7d}")
    for kind, (hits, count) in totals.items():
        print(f"{kind}: {hits} of {count} flagged, {hits / max(count, 1):.1%}")
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
