"""Runs everything for whole models on every model of `keras.applications`, on small inputs.

    python benchmarks/applications.py [--file FILE] [--size N] [NAME ...]
    python benchmarks/applications.py --table

Inspection, `signal_report`, `reinitialize`, `analytic_init` and `lsuv` run on a model with random
weights and a small batch, each model in a process of its own. For each of them the table shows CPU
seconds over all threads, as multiples of a forward pass in inference mode in parentheses, and the
memory in MiB that it takes at its peak beyond what the process holds before (on Linux only). The
other columns are the kernels, those of unknown use, those that the three functions set, and the
largest deviation of a pre-activation's variance from 1 on the batch that `lsuv` was given.

Results are appended to `benchmarks/applications.jsonl`, one line of JSON for each model, and
models in the file are not run again. The backend is that of `KERAS_BACKEND`. `--table` only shows
the file.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path

from peak_memory import measured

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
FILE = Path(__file__).with_suffix(".jsonl")
MIB = 2**20
# A model whose process needs more data than this is reported as too large.
MOST_DATA = 10 * 1024 * MIB

# The smallest inputs that the models accept with a classifier on top, where they exceed 32.
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
# These models accept other inputs than their own size only without a classifier.
OWN_SIZES = {"NASNetLarge": 331, "NASNetMobile": 224}
# Samples of a batch, and of one with large images.
SAMPLES, FEW_SAMPLES, LARGE = 8, 2, 128

# The models that take longest come last, in this order.
LAST = (
    *("VGG16", "VGG19", "EfficientNetV2M", "EfficientNetB6", "EfficientNetB7", "ConvNeXtLarge"),
    *("EfficientNetV2L", "NASNetMobile", "ConvNeXtXLarge", "NASNetLarge"),
)
STEPS = ("inspect", "signal_report", "reinitialize", "analytic_init", "lsuv")


def model_names():
    """Return the names of all models of `keras.applications`, the large ones last."""
    import keras

    names = [name for name in dir(keras.applications) if name[0].isupper()]
    return [name for name in names if name not in LAST] + [n for n in LAST if n in names]


def largest_deviation(model, x):
    """Return the largest deviation of a layer's pre-activation variance from 1, at first calls."""
    import keras
    import numpy as np

    from keras_winit.repair.interception import activation_removed, intercepted

    variances = {}

    def measuring(layer):
        def call(own_call, *args, **kwargs):
            with activation_removed(layer) as activation:
                outputs = own_call(*args, **kwargs)
            values = keras.ops.convert_to_numpy(outputs).astype(np.float64)
            variances.setdefault(id(layer), values.var())
            return outputs if activation is None else activation(outputs)

        return call

    settable = [
        layer
        for layer in model._flatten_layers()
        if hasattr(layer, "kernel_initializer") or hasattr(layer, "depthwise_initializer")
    ]
    with intercepted({layer: measuring(layer) for layer in settable}):
        model(x, training=False)
    return max(abs(variance - 1) for variance in variances.values())


def run_model(name, size):
    """Run all steps on one model and return what was measured."""
    import keras
    import numpy as np

    import keras_winit
    from keras_winit.models.inspect import inspect_kernels
    from keras_winit.repair.interception import without_gradients

    keras.utils.set_random_seed(0)
    size = size or OWN_SIZES.get(name, SIZES.get(name, 32))
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    count = SAMPLES if size < LARGE else FEW_SAMPLES
    x = np.random.default_rng(0).normal(size=(count, size, size, 3)).astype("float32")

    def forward():
        with without_gradients():
            return model(x, training=False)

    forward()
    found = {"size": size, "samples": count, "parameters": model.count_params()}
    steps = {
        "inspect": lambda: inspect_kernels(model),
        "signal_report": lambda: keras_winit.signal_report(model, x),
        "reinitialize": lambda: keras_winit.reinitialize(model, seed=0),
        "analytic_init": lambda: keras_winit.analytic_init(model, seed=0),
        "lsuv": lambda: keras_winit.lsuv(model, x, seed=0),
    }
    costs, results = {}, {}
    _, *costs["forward"] = min((measured(forward) for _ in range(2)), key=lambda cost: cost[1])
    for step, function in steps.items():
        results[step], *costs[step] = measured(function)
        if not np.isfinite(keras.ops.convert_to_numpy(forward())).all():
            raise ArithmeticError(f"The outputs are not finite after {step}.")
    inspection, report = results["inspect"], results["signal_report"]
    return found | {
        "costs": costs,
        "method": inspection.method,
        "kernels": len(inspection.kernels),
        "unknown": sum(kernel.kernel.use is None for kernel in inspection.kernels),
        "set": [sum(row.was_set for row in results[step].rows) for step in STEPS[2:]],
        "left": Counter(
            f"{step}: {row.reason}"
            for step in STEPS[2:]
            for row in results[step].rows
            if not row.was_set
        ),
        "unseen": report.unseen,
        "verdict": report.verdict,
        "deviation": float(largest_deviation(model, x)),
    }


def print_result(name, size):
    """Measure a model in this process and print a line of JSON."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MOST_DATA, MOST_DATA))
    try:
        found = run_model(name, size)
    except Exception as error:
        too_large = isinstance(error, MemoryError) or "allocate memory" in str(error)
        found = {"error": f"needs more than {MOST_DATA // MIB} MiB" if too_large else repr(error)}
        if not too_large:
            traceback.print_exc()
    print(json.dumps({"backend": BACKEND, "model": name, **found}))


def in_own_process(name, size):
    """Measure a model in a fresh process and return its line of JSON."""
    command = [sys.executable, __file__, "--alone", name]
    command += [] if size is None else ["--size", str(size)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = process.stdout.splitlines()
    if process.returncode or not lines:
        error = f"ended with code {process.returncode}"
        return json.dumps({"backend": BACKEND, "model": name, "error": error})
    return lines[-1]


def table_line(found):
    """Return the line of the table for one model."""
    if "error" in found:
        return f"{found['model']:18} {found['error']}"
    costs = found["costs"]
    plain, memory_of_plain = costs["forward"]
    cells = [f"{found['model']:18} {found['kernels']:7d} {found['unknown']:7d}"]
    cells.append("/".join(map(str, found["set"])).rjust(13))
    cells.append(f"{plain:6.2f} {memory_of_plain:5.0f}")
    for step in STEPS:
        seconds, peak = costs[step]
        cells.append(f"{seconds:6.2f} ({seconds / plain:4.0f}) {peak:5.0f}")
    cells.append(f"{found['deviation']:9.1e}")
    if found["method"] != "symbolic":
        cells.append(found["method"])
    return "  ".join(cells)


def heading(backend):
    """Return the lines above the table of one backend."""
    heads = [f"{'model':18} kernels unknown", f"{'set':>13}", f"{'forward':>12}"]
    columns = "  ".join([*heads, *(step.rjust(19) for step in STEPS), "deviation"])
    return f"{backend}, CPU seconds (forward passes) and MiB\n{columns}"


def read_rows(file):
    """Return the rows of a file of results, by backend and model, the newest if there are two."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = map(json.loads, lines)
    return {(row["backend"], row["model"]): row for row in rows}


def table(rows, names):
    """Return the lines of one table for each backend, and the models that it does not measure."""
    lines = []
    for backend in sorted({backend for backend, _ in rows}):
        measured = [name for name in names if (backend, name) in rows]
        missing = [name for name in names if name not in measured]
        lines += [heading(backend), *(table_line(rows[backend, name]) for name in measured)]
        lines += [f"not measured: {', '.join(missing)}"] if missing else []
    return lines


def main():
    """Run the models that the file of results lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--alone", metavar="NAME", help="run one model in this process")
    parser.add_argument("--size", type=int, help="height and width of the images")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    options = parser.parse_args()
    if options.alone:
        print_result(options.alone, options.size)
        return
    rows = read_rows(options.file)
    if options.table:
        print("\n".join(table(rows, model_names())))
        return
    print(heading(BACKEND))
    for name in options.names or model_names():
        if (BACKEND, name) not in rows:
            line = in_own_process(name, options.size)
            with options.file.open("a") as file:
                file.write(line + "\n")
            rows[BACKEND, name] = json.loads(line)
        print(table_line(rows[BACKEND, name]), flush=True)


if __name__ == "__main__":
    main()
