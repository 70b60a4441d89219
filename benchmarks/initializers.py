"""Compares the time and memory of the schemes with Keras' own and `torch.nn.init`.

    python benchmarks/initializers.py [--backend NAME] [--rounds N] [--quick]

Runs on every installed backend, each in its own process. Candidates take turns, so that other
load on the machine slows all of them alike: read the ratios, not the times. Memory is the peak
that a fresh process reaches above its use before the draw, as a multiple of the kernel's size
(Linux only).
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time

BACKENDS = ("tensorflow", "jax", "torch")
SHAPES = ((64, 64), (512, 512), (2048, 2048), (4096, 4096))
SPARSE_SHAPES = ((512, 512), (2048, 2048), (4096, 4096), (50_000, 1024), (1_000_000, 128))
MEMORY_SHAPE = (8192, 8192)

# Our scheme, Keras' own, and the name in torch.nn.init.
PAIRS = (
    ("LargeNormal()", "RandomNormal(stddev=1.0)", "normal_"),
    ("SmallUniform()", "RandomUniform(-0.01, 0.01)", "uniform_"),
    ("TruncatedNormal()", "TruncatedNormal(stddev=0.05)", "trunc_normal_"),
    ("HeNormal()", "HeNormal()", "kaiming_normal_"),
    ("XavierUniform()", "GlorotUniform()", "xavier_uniform_"),
    ("Orthogonal()", "Orthogonal()", "orthogonal_"),
)


def interleaved(candidates, rounds):
    """Return the seconds of each candidate in each round. Two warm-up rounds are left out."""
    times = {name: [] for name in candidates}
    for _ in range(rounds + 2):
        for name, work in candidates.items():
            start = time.perf_counter()
            result = work()
            if hasattr(result, "block_until_ready"):
                result.block_until_ready()
            times[name].append(time.perf_counter() - start)
            del result
    return {name: seconds[2:] for name, seconds in times.items()}


def median_ratio(times, numerator, denominator):
    """Return the median over the rounds of the ratio of two candidates' times."""
    pairs = zip(times[numerator], times[denominator], strict=True)
    return statistics.median(a / b for a, b in pairs)


def kernel_maker(text, shape):
    """Return a function that draws a kernel with the initializer `origin:constructor`.

    The origins are "ours", "keras", "torch" and "torch sparse".
    """
    import keras

    import keras_winit

    kind, _, call = text.partition(":")
    if kind == "torch":
        import torch

        return lambda: getattr(torch.nn.init, call)(torch.empty(shape))
    if kind == "torch sparse":
        import torch

        return lambda: torch.nn.init.sparse_(torch.empty(shape), float(call))
    scheme = eval(call, dict(vars(keras_winit if kind == "ours" else keras.initializers)))
    return lambda: scheme(shape, "float32")


def print_dense_times(backend, shapes, rounds):
    head = f"{'ours':20s} {'shape':>14s} {'ms':>9s} {'/ Keras':>9s}"
    print(head + (f" {'/ torch.nn.init':>16s}" if backend == "torch" else ""))
    for ours, theirs, native in PAIRS:
        for shape in shapes:
            candidates = {
                "ours": kernel_maker(f"ours:{ours}", shape),
                "keras": kernel_maker(f"keras:{theirs}", shape),
            }
            if backend == "torch":
                candidates["torch"] = kernel_maker(f"torch:{native}", shape)
            times = interleaved(candidates, rounds)
            line = f"{ours:20s} {shape!s:>14s} {1e3 * statistics.median(times['ours']):9.2f}"
            line += f" {median_ratio(times, 'ours', 'keras'):9.2f}"
            if backend == "torch":
                line += f" {median_ratio(times, 'ours', 'torch'):16.2f}"
            print(line, flush=True)


def print_sparse_times(backend, shapes, rounds):
    head = f"{'ours':20s} {'shape':>14s} {'ms':>9s} {'/ zeros':>9s}"
    print("\n" + head + (f" {'sparse_ / ours':>16s}" if backend == "torch" else ""))
    for shape in shapes:
        candidates = {
            "ours": kernel_maker("ours:Sparse()", shape),
            "zeros": kernel_maker("keras:Zeros()", shape),
        }
        if backend == "torch" and math.prod(shape) < 1e8:
            # The share of zeros that makes the kernel as sparse as ours, 10 inputs per unit.
            candidates["torch"] = kernel_maker(f"torch sparse:{1 - 10 / shape[0]}", shape)
        times = interleaved(candidates, rounds)
        line = f"{'Sparse()':20s} {shape!s:>14s} {1e3 * statistics.median(times['ours']):9.2f}"
        line += f" {median_ratio(times, 'ours', 'zeros'):9.2f}"
        if "torch" in candidates:
            line += f" {median_ratio(times, 'torch', 'ours'):16.1f}"
        print(line, flush=True)


def memory_bytes(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def peak_memory(text, shape):
    """Print the peak memory of drawing a kernel, as a multiple of the kernel's size."""
    kernel_maker(text, (100, 100))()
    # This resets the peak, VmHWM.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = memory_bytes("VmRSS")
    kernel = kernel_maker(text, shape)()
    if hasattr(kernel, "block_until_ready"):
        kernel.block_until_ready()
    print((memory_bytes("VmHWM") - before) / (4 * math.prod(shape)))


def print_memory(backend):
    if not os.path.exists("/proc/self/clear_refs"):
        return
    print(f"\npeak memory at {MEMORY_SHAPE}, as a multiple of the kernel")
    for ours, theirs, native in (*PAIRS, ("Sparse()", "Zeros()", "zeros_")):
        candidates = {f"ours {ours}": f"ours:{ours}", f"keras {theirs}": f"keras:{theirs}"}
        if backend == "torch":
            candidates[f"torch.nn.init.{native}"] = f"torch:{native}"
        figures = (
            f"{name} {float(run_part(backend, 'memory', text)):.2f}"
            for name, text in candidates.items()
        )
        print("   ".join(figures), flush=True)


def write_resnet(initializer):
    """Print ResNet50 as JSON, with the same initializer for all kernels."""
    import keras

    import keras_winit  # noqa: F401

    model = json.loads(keras.applications.ResNet50(weights=None).to_json())
    config = keras.initializers.serialize(keras.initializers.get(initializer))
    for layer in model["config"]["layers"]:
        if "kernel_initializer" in layer["config"]:
            layer["config"]["kernel_initializer"] = config
    print(json.dumps(model))


def build_resnet():
    """Print the seconds it takes to build the model given as JSON on standard input."""
    import keras

    import keras_winit  # noqa: F401

    text = sys.stdin.read()
    # One-time set-up costs stay out of the measurement.
    keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, kernel_initializer="zeros")])
    start = time.perf_counter()
    keras.models.model_from_json(text)
    print(time.perf_counter() - start)


def print_resnet_times(backend):
    print("\nbuilding ResNet50 in a fresh process, seconds of three")
    texts = {
        name: run_part("torch" if installed("torch") else backend, "write-resnet", name)
        for name in ("he_normal", "winit>he_normal")
    }
    seconds = {name: [] for name in texts}
    for _ in range(3):
        for name, text in texts.items():
            seconds[name].append(float(run_part(backend, "build-resnet", "", text)))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:20s} " + " ".join(f"{value:.2f}" for value in values))
    print(f"Keras / ours: {medians['he_normal'] / medians['winit>he_normal']:.1f}", flush=True)


def installed(name):
    return importlib.util.find_spec(name) is not None


def run_part(backend, part, argument, text=None):
    """Run a part of this file in its own process and return what it prints."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--part", part, argument]
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="small kernels and no memory")
    parser.add_argument("--part", nargs=2, metavar=("PART", "ARGUMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part, argument = options.part
        if part == "times":
            backend = os.environ["KERAS_BACKEND"]
            quick, rounds = json.loads(argument)
            print_dense_times(backend, SHAPES[:2] if quick else SHAPES, rounds)
            print_sparse_times(backend, SPARSE_SHAPES[:1] if quick else SPARSE_SHAPES, rounds)
        elif part == "memory":
            peak_memory(argument, MEMORY_SHAPE)
        elif part == "write-resnet":
            write_resnet(argument)
        else:
            build_resnet()
        return
    for backend in options.backend or [name for name in BACKENDS if installed(name)]:
        print(f"\n== {backend} ==", flush=True)
        print(run_part(backend, "times", json.dumps([options.quick, options.rounds])), flush=True)
        if not options.quick:
            print_memory(backend)
            print_resnet_times(backend)


if __name__ == "__main__":
    main()
