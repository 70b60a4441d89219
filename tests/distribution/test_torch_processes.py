"""PyTorch's `DistributedDataParallel` in two processes, with a hand-written training loop."""

import keras
import pytest
from support.processes import free_address, run_two

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch has this")

CODE = """
import sys, warnings
import keras, numpy as np, torch
import torch.distributed as dist
import keras_winit
address, process = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method="tcp://" + address, rank=process, world_size=2)
keras.utils.set_random_seed(process)
x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")

def build(**seed):
    scheme = keras_winit.HeNormal(**seed)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, kernel_initializer=scheme)])
    model.compile("sgd", "mse")
    return model

def show(name, model):
    print(name, *(f"{float((w.value ** 2).sum()):.6g}" for w in model.weights))

show("seeded", build(seed=1))
model = build()
keras_winit.reinitialize(model, seed=2)
show("reinitialized", model)
model = build()
show("own", model)
parallel = torch.nn.parallel.DistributedDataParallel(model)
show("wrapped", model)

kernel = model.layers[0].kernel.value.detach().numpy().astype("float64")
monitor = keras_winit.ActivationMonitor(every=1)
callbacks = keras.callbacks.CallbackList([monitor], model=parallel)
optimizer = torch.optim.SGD(parallel.parameters(), 0.1)
half = torch.tensor(x[8 * process : 8 * process + 8])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for step in range(3):
        callbacks.on_train_batch_begin(step)
        optimizer.zero_grad()
        (parallel(half) ** 2).mean().backward()
        optimizer.step()
        callbacks.on_train_batch_end(step, {})
        if step == 0:
            # The bias is zero. Torch averages the gradients of both halves.
            expected = kernel - 0.1 * x.T @ (x @ kernel) * 2 / 48
            trained = model.layers[0].kernel.value.detach().numpy()
            np.testing.assert_allclose(trained, expected, rtol=1e-5)
    callbacks.on_epoch_end(0)
    callbacks.on_train_end()
show("trained", model)
messages = [str(w.message) for w in caught if "ActivationMonitor" in str(w.message)]
assert len(messages) == 1, messages
assert "did not call the model's train function" in messages[0]
assert not monitor.history.records
report = keras_winit.signal_report(model, x)
print("report", f"{report.rows[-1].stddev:.5g}")
dist.destroy_process_group()
"""


def test_ranks_start_equal_and_the_monitor_says_that_it_cannot_watch():
    both = run_two(CODE, free_address())
    chief, other = (dict(line.split(" ", 1) for line in lines) for lines in both)
    names = ("seeded", "reinitialized", "wrapped", "trained", "report")
    assert [chief[name] for name in names] == [other[name] for name in names]
    # Without a seed, the ranks differ until torch sends the weights of the first to all.
    assert chief["own"] != other["own"]
    assert chief["wrapped"] == chief["own"]
