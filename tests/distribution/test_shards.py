"""Two processes of JAX share one model: each holds, and builds, its own shards only."""

import sys

import keras
import pytest
from support.processes import free_address, run_two

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX has this")

# The kernel of `large` takes 128 MiB, and each process holds half of it. A process that built the
# whole kernel first would need 192 MiB.
CODE = """
import sys
from pathlib import Path
import jax, keras, numpy as np
import keras_winit
address, process = sys.argv[1], int(sys.argv[2])
distribution = keras.distribution
distribution.initialize(address, 2, process)
mesh = distribution.DeviceMesh((1, 4), ["batch", "model"], distribution.list_devices())
layouts = distribution.LayoutMap(mesh)
layouts[".*kernel"] = (None, "model")
distribution.set_distribution(
    distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False)
)

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024

def peak(function):
    Path("/proc/self/clear_refs").write_text("5")
    held = memory("VmRSS")
    result = function()
    return memory("VmHWM") - held, result

def make():
    scheme = keras_winit.HeNormal(seed=1)
    layer = keras.layers.Dense(8192, use_bias=False, kernel_initializer=scheme, name="large")
    layer.build((None, 4096))
    return layer

if sys.platform == "linux":
    peak(lambda: keras.layers.Dense(8, kernel_initializer="winit>he_normal").build((None, 8)))
    mib, layer = peak(make)
    held = sum(shard.data.nbytes for shard in layer.kernel.value.addressable_shards)
    print("held", held / 2**20)
    print("built", mib, file=sys.stderr)
    assert mib < 160, mib
    mib, _ = peak(lambda: keras_winit.reinitialize(layer, "winit>he_normal", seed=2))
    print("reinitialized", mib, file=sys.stderr)
    # The old half stays until the new one is complete.
    assert mib < 160, mib
    del layer

def squares(model):
    everywhere = jax.NamedSharding(model.layers[0].kernel.value.sharding.mesh, jax.P())
    total = lambda values: sum((value.astype("float32") ** 2).sum() for value in values)
    return float(jax.jit(total, out_shardings=everywhere)([w.value for w in model.weights]))

def build():
    return keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(16, "relu", kernel_initializer=keras_winit.HeNormal(seed=1)),
        keras.layers.Dense(8, kernel_initializer=keras_winit.HeNormal(seed=2)),
    ])

x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
starts = {
    "built": lambda model: None,
    "reinitialize": lambda model: keras_winit.reinitialize(model, seed=3),
    "lsuv": lambda model: keras_winit.lsuv(model, x, seed=3),
    "analytic_init": lambda model: keras_winit.analytic_init(model, seed=3),
}
found = {}
for name, start in starts.items():
    model = build()
    before = [w.value.sharding for w in model.weights]
    assert not model.layers[0].kernel.value.is_fully_addressable
    start(model)
    assert [w.value.sharding for w in model.weights] == before, name
    found[name] = squares(model)
report = keras_winit.signal_report(build(), x)
found["report"] = report.rows[0].stddev
distribution.set_distribution(None)
for name, start in starts.items():
    model = build()
    start(model)
    expected = sum(np.square(w).sum() for w in model.get_weights())
    np.testing.assert_allclose(found[name], expected, rtol=1e-5, err_msg=name)
print("equal", {name: f"{value:.4g}" for name, value in found.items()})
"""


def test_each_process_builds_its_own_shards_and_every_start_keeps_them():
    # JAX prints lines of its own.
    chief, other = (
        [line for line in lines if line.startswith(("held", "equal"))]
        for lines in run_two(CODE, free_address())
    )
    assert chief == other
    assert chief[-1].startswith("equal")
    assert chief[:-1] == ["held 64.0"] * (sys.platform == "linux")
