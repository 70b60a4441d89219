"""Training with and without the monitor, and the comparison of the two."""

import contextlib
import io
import re

import keras
import numpy as np
from support.scenarios import BACKEND, numpy_of


@contextlib.contextmanager
def exact_graphs(exact=True):
    """Keep TensorFlow from fusing operations, unless `exact` is false.

    It fuses only around tensors that nothing else reads, and the monitor reads them.
    """
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    names = ("remapping", "arithmetic_optimization")
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(dict.fromkeys(names, not exact))
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({n: before.get(n, True) for n in names})


def compare(build, monitor, scope=contextlib.nullcontext):
    """Train with and without the monitor; return the names of what differs.

    Fails if the monitor leaves anything behind.
    """
    call = keras.layers.Layer.__call__
    _, without = train(build, scope=scope)
    model, monitored = train(build, [monitor], scope=scope)
    assert keras.layers.Layer.__call__ is call
    assert type(model.train_function).__module__ != "keras_winit.monitor.capture.train_function"
    return differences(without, monitored)


def train(build, callbacks=(), scope=contextlib.nullcontext, **options):
    """Train a new model from fixed seeds; return it and everything that can be compared."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    with scope():
        model, data = build()
    settings = {"batch_size": 8} if len(data) == 2 else {}
    settings |= {"epochs": 2, "verbose": 2, **options}
    is_generator = len(data) == 1 and not hasattr(data[0], "__getitem__")
    if is_generator:
        settings |= {"epochs": 2, "steps_per_epoch": 2}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        history = model.fit(*data, **settings, callbacks=list(callbacks))
    outcome = {
        "weights": numpy_of(model.variables),
        "optimizer": numpy_of(model.optimizer.variables),
        "logs": history.history,
        "printed": re.findall(r"\w+: [-+.\de]+|^Epoch.*", printed.getvalue(), re.MULTILINE),
        "metrics": list(model.metrics_names),
        "config": model.to_json() if hasattr(model, "operations") else "",
        "attributes": attributes(model),
    }
    return model, outcome


def attributes(model):
    """Return the attribute names and the activation of every layer and of the optimizer."""
    parts = [*model._flatten_layers(), model.optimizer]
    return [
        (type(part).__name__, sorted(vars(part)), getattr(part, "activation", None))
        for part in parts
        if type(part).__name__ != "Functional"
    ]


def differences(expected, actual):
    """Return the names of the entries of two outcomes that are not exactly equal."""
    names = [name for name in expected if name not in ("weights", "optimizer")]
    names = [name for name in names if expected[name] != actual[name]]
    for kind in ("weights", "optimizer"):
        if expected[kind].keys() != actual[kind].keys():
            names.append(kind)
        names += [
            name
            for name in expected[kind].keys() & actual[kind].keys()
            if not np.array_equal(expected[kind][name], actual[kind][name], equal_nan=True)
        ]
    return sorted(names)
