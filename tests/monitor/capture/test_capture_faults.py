"""What goes wrong around the monitor costs nothing, and leaves nothing behind."""

import gc
import sys
import tracemalloc
import warnings

import keras
import numpy as np
import pytest

import keras_winit
from keras_winit.monitor.capture.switch import SingleCall

L = keras.layers
CALL = keras.layers.Layer.__call__
FEW = ("mean", "nonfinite", "update_norm")


def make(*parts, inputs=6):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((inputs,)), *parts, L.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def data(count=8):
    x = np.random.default_rng(0).standard_normal((count, 6)).astype("float32")
    return x, x[:, :2]


def fit(model, *callbacks, count=8, batch_size=4, **options):
    x, y = data(count)
    return model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=list(callbacks), **options)


def clean(model):
    left = {"train_step", "compute_loss", "stateless_call", "stateless_compute_loss"}
    assert keras.layers.Layer.__call__ is CALL
    assert not left & set(vars(model))
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
def test_an_interrupt_at_any_hook_leaves_nothing(hook, order):
    def interrupt(self, *arguments, **named):
        raise KeyboardInterrupt

    breaks = type("Breaks", (keras.callbacks.Callback,), {hook: interrupt})()
    model, monitor = make(L.Dense(3)), keras_winit.ActivationMonitor(every=1, statistics=FEW)
    with pytest.raises(KeyboardInterrupt):
        fit(model, *((breaks, monitor) if order == "before" else (monitor, breaks)))
    clean(model)
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    before = int(model.optimizer.iterations)
    fit(model, monitor)
    clean(model)
    assert not isinstance(model.train_function, SingleCall)
    assert int(model.optimizer.iterations) == before + 2
    steps = [sample.step for sample in monitor.history.records]
    assert steps == sorted(set(steps))
    assert steps[-1] == before + 1


def test_batches_that_are_not_numbers():
    model, monitor = make(L.Dense(3)), keras_winit.ActivationMonitor(every=1, statistics=FEW)
    x, y = data()
    x[5, 2] = np.nan
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[monitor])
    column = monitor.history.records[0].statistics.index("nonfinite")
    good, bad = (sample.values[:, column] for sample in monitor.history.records)
    assert good.tolist() == [0, 0]
    # One sample of four: each unit of it.
    assert bad.tolist() == [3, 2]
    assert np.isfinite(monitor.history.records[1].values).all()


@pytest.mark.parametrize("count", [1, 3])
def test_batches_of_one_sample(count):
    model, monitor = make(L.Dense(3, "relu")), keras_winit.ActivationMonitor(every=1)
    fit(model, monitor, count=count, batch_size=1)
    assert len(monitor.history.records) == count
    sample = monitor.history.records[-1]
    spread = sample.values[:, sample.statistics.index("unit_stddev")]
    assert (spread == 0).all()


def test_an_epoch_without_a_batch():
    model, monitor = make(L.Dense(3)), keras_winit.ActivationMonitor(every=1, statistics=FEW)
    empty = (batch for batch in ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(empty, steps_per_epoch=1, verbose=0, callbacks=[monitor])
        except Exception as error:
            # Keras' own, the same without the monitor.
            with pytest.raises(type(error)):
                make(L.Dense(3)).fit((batch for batch in ()), steps_per_epoch=1, verbose=0)
    clean(model)
    assert monitor.history.records == []
    fit(model, monitor)
    assert [sample.step for sample in monitor.history.records] == [0, 1]


class Twins(L.Layer):
    def __init__(self):
        super().__init__(name="twins")
        self.one, self.two = L.Dense(6, name="same"), L.Dense(6, name="same")

    def build(self, shape):
        self.one.build(shape)
        self.two.build(shape)

    def call(self, x):
        return self.two(self.one(x))


def test_layers_of_equal_names_have_rows_of_their_own():
    twins, last = Twins(), L.Dense(2, name="last")
    model = keras.Sequential([keras.Input((6,)), twins, last], name="m")
    model.compile("sgd", "mse")
    monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW)
    fit(model, monitor)
    first = monitor.history.records[0]
    assert list(first.layers) == ["twins/same", "twins/same~2", "twins", "last"]
    assert list(first.variables[:4]) == [
        f"twins/{name}/{part}" for name in ("same", "same~2") for part in ("kernel", "bias")
    ]


def test_500_layers():
    model = make(*(L.Activation("tanh") for _ in range(499)))
    monitor = keras_winit.ActivationMonitor(statistics="mean", every=lambda step: step == 1)
    fit(model, monitor)
    (sample,) = monitor.history.records
    assert len(sample.layers) == 500
    assert np.isfinite(sample.values).all()


def tiny(keep):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), L.Dense(2)])
    model.compile("sgd", "mse")
    monitor = keras_winit.ActivationMonitor(every=1, statistics=FEW, keep=keep, rules=())

    def steps(count):
        x = np.ones((count, 2), "float32")
        model.fit(x, x, batch_size=1, verbose=0, callbacks=[monitor])
        gc.collect()

    steps(200)
    return monitor, steps


def test_thousands_of_steps_leave_nothing_in_memory():
    count = 10_000
    monitor, steps = tiny(keep=2)
    steps(200)
    # To trace allocations would take minutes; objects are counted for nothing.
    before = sys.getallocatedblocks()
    steps(count)
    grown = sys.getallocatedblocks() - before
    assert [sample.step for sample in monitor.history.records] == [count + 398, count + 399]
    assert grown < count / 5


def size(things):
    """Bytes of things and of all that they hold, each once."""
    seen, rest = {}, list(things)
    while rest:
        thing = rest.pop()
        if id(thing) not in seen and not isinstance(thing, type):
            seen[id(thing)] = sys.getsizeof(thing)
            rest += gc.get_referents(thing)
            rest.append(getattr(thing, "base", None))
    return sum(seen.values())


def test_without_keep_memory_grows_by_the_samples():
    monitor, steps = tiny(keep=None)
    tracemalloc.start()
    try:
        steps(100)
        before, _ = tracemalloc.get_traced_memory()
        steps(500)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(monitor.history.records) == 800
    held = size(monitor.history.records[-500:])
    # Room that allocators add is not in the sizes; what a step packs is larger than that.
    assert held < grown < held + 300 * 500
