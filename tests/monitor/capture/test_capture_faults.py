"""Faults and extreme cases: interrupts, NaN, empty epochs, equal names, depth, memory."""

import gc
import sys
import tracemalloc
import warnings

import keras
import numpy as np
import pytest
from support.monitored import row, steps_of

import keras_winit
from keras_winit.monitor.capture.switch import SingleCall

L = keras.layers
CALL = keras.layers.Layer.__call__
FEW = ("mean", "nonfinite", "update_norm")


def sequential(*hidden_layers):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), *hidden_layers, L.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def data(count=8):
    x = np.random.default_rng(0).standard_normal((count, 6)).astype("float32")
    return x, x[:, :2]


def fit(model, *callbacks, count=8, batch_size=4, **options):
    x, y = data(count)
    return model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=list(callbacks), **options)


def check_nothing_is_patched(model):
    patched = {"train_step", "compute_loss", "stateless_call", "stateless_compute_loss"}
    assert keras.layers.Layer.__call__ is CALL
    assert not patched & set(vars(model))
    assert not {"apply", "stateless_apply"} & set(vars(model.optimizer))


HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_train_end",
)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_interrupt_in_any_callback_leaves_nothing_behind(hook, order):
    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    interrupts = type("Interrupts", (keras.callbacks.Callback,), {hook: interrupt})()
    model, monitor = sequential(L.Dense(3)), keras_winit.ActivationMonitor(every=1, statistics=FEW)
    with pytest.raises(KeyboardInterrupt):
        fit(model, *((interrupts, monitor) if order == "before" else (monitor, interrupts)))
    check_nothing_is_patched(model)
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    before = int(model.optimizer.iterations)
    fit(model, monitor)
    check_nothing_is_patched(model)
    assert not isinstance(model.train_function, SingleCall)
    assert int(model.optimizer.iterations) == before + 2
    steps = steps_of(monitor)
    assert steps == sorted(set(steps))
    assert steps[-1] == before + 1


def test_a_batch_with_nan():
    model, monitor = sequential(L.Dense(3)), keras_winit.ActivationMonitor(every=1, statistics=FEW)
    x, y = data()
    x[5, 2] = np.nan
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[monitor])
    column = monitor.history.records[0].statistics.index("nonfinite")
    first, second = (record.values[:, column] for record in monitor.history.records)
    assert first.tolist() == [0, 0]
    # All units of one of the four samples are NaN.
    assert second.tolist() == [3, 2]
    assert np.isfinite(monitor.history.records[1].values).all()


@pytest.mark.parametrize("count", [1, 3])
def test_batches_of_one_sample(count):
    model, monitor = sequential(L.Dense(3, "relu")), keras_winit.ActivationMonitor(every=1)
    fit(model, monitor, count=count, batch_size=1)
    assert len(monitor.history.records) == count
    record = monitor.history.records[-1]
    assert all(row(record, name)["unit_stddev"] == 0 for name in record.layers)


def no_batches():
    yield from ()


def test_an_epoch_without_a_batch():
    model, monitor = sequential(L.Dense(3)), keras_winit.ActivationMonitor(every=1, statistics=FEW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(no_batches(), steps_per_epoch=1, verbose=0, callbacks=[monitor])
        except Exception as error:
            # Without the monitor, Keras raises the same error.
            with pytest.raises(type(error)):
                sequential(L.Dense(3)).fit(no_batches(), steps_per_epoch=1, verbose=0)
    check_nothing_is_patched(model)
    assert monitor.history.records == []
    fit(model, monitor)
    assert steps_of(monitor) == [0, 1]


class Twins(L.Layer):
    """A layer with two layers of the same name."""

    def __init__(self):
        super().__init__(name="twins")
        self.first, self.second = L.Dense(6, name="same"), L.Dense(6, name="same")

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return self.second(self.first(x))


def test_layers_of_the_same_name_have_rows_of_their_own():
    model = keras.Sequential([keras.Input((6,)), Twins(), L.Dense(2, name="last")], name="m")
    model.compile("sgd", "mse")
    monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW)
    fit(model, monitor)
    record = monitor.history.records[0]
    assert list(record.layers) == ["twins/same", "twins/same~2", "twins", "last"]
    assert list(record.variables[:4]) == [
        f"twins/{name}/{part}" for name in ("same", "same~2") for part in ("kernel", "bias")
    ]


def test_500_layers():
    model = sequential(*(L.Activation("tanh") for _ in range(499)))
    monitor = keras_winit.ActivationMonitor(statistics="mean", every=lambda step: step == 1)
    fit(model, monitor)
    (record,) = monitor.history.records
    assert len(record.layers) == 500
    assert np.isfinite(record.values).all()


def monitor_and_train(keep):
    """Return a monitor after 200 steps, and a function that trains further steps."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), L.Dense(2)])
    model.compile("sgd", "mse")
    monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW, keep=keep, rules=())

    def train(steps):
        x = np.ones((steps, 2), "float32")
        model.fit(x, x, batch_size=1, verbose=0, callbacks=[monitor])
        gc.collect()

    train(200)
    return monitor, train


def test_with_keep_memory_does_not_grow():
    steps = 10_000
    monitor, train = monitor_and_train(keep=2)
    train(200)
    # Counting memory blocks is fast; tracing allocations would take minutes.
    before = sys.getallocatedblocks()
    train(steps)
    growth = sys.getallocatedblocks() - before
    assert steps_of(monitor) == [steps + 398, steps + 399]
    assert growth < steps / 5


def size_of(roots):
    """Return the bytes of some objects and of all objects that they refer to, each once."""
    sizes, pending = {}, list(roots)
    while pending:
        item = pending.pop()
        if id(item) not in sizes and not isinstance(item, type):
            sizes[id(item)] = sys.getsizeof(item)
            pending += gc.get_referents(item)
            pending.append(getattr(item, "base", None))
    return sum(sizes.values())


def test_without_keep_memory_grows_by_the_records():
    monitor, train = monitor_and_train(keep=None)
    tracemalloc.start()
    try:
        train(100)
        before, _ = tracemalloc.get_traced_memory()
        train(500)
        growth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(monitor.history.records) == 800
    size = size_of(monitor.history.records[-500:])
    # The allocator adds less than 300 bytes a step. The vector that a step packs is larger, so
    # that a vector that was kept would be seen.
    assert size < growth < size + 300 * 500
