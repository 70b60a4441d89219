"""Inspects and reinitializes every model of `keras.applications`, on small random inputs.

    KERAS_BACKEND=torch python benchmarks/applications.py [NAME ...]

Prints one line for each model: kernels, those of unknown use, output layers, residual branches,
the time of inspection and of `reinitialize`, and the time of a plain forward pass.
"""

import sys
import time

import keras
import numpy as np

import keras_winit
from keras_winit.models.inspect import inspect_kernels

# The smallest inputs that the models accept with a classifier on top.
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
# These models accept other inputs than their own size only without a classifier.
OWN_SIZES = {"NASNetLarge": 331, "NASNetMobile": 224}

HEADER = (
    "model                kernels  unknown  outputs  branches  inspect    set  forward  max |out|"
)


def model_names() -> list[str]:
    """Return the names of all models of `keras.applications`."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def build(name: str) -> keras.Model:
    """Build a model with random weights for small inputs."""
    size = OWN_SIZES.get(name, SIZES.get(name, 32))
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))


def seconds(function, *arguments, **keywords):
    """Return the result of a call and the time that it takes."""
    start = time.perf_counter()
    result = function(*arguments, **keywords)
    return result, time.perf_counter() - start


def line(name: str) -> str:
    """Inspect, reinitialize and run a model, and describe it in a line."""
    try:
        model = build(name)
    except ValueError as error:
        # Keras has no NASNetMobile for torch.
        return f"{name:20} not built: {error}"
    inspection, inspecting = seconds(inspect_kernels, model)
    _, setting = seconds(keras_winit.reinitialize, model, seed=0, reset_statistics=True)
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    outputs, forward = seconds(model, images, training=True)
    largest = float(np.abs(keras.ops.convert_to_numpy(outputs)).max())
    unknown = sum(kernel.kernel.use is None for kernel in inspection.kernels)
    heads = sum(kernel.head for kernel in inspection.kernels)
    counts = f"{len(inspection.kernels):7d}  {unknown:7d}  {heads:7d}  {inspection.branches:8d}"
    times = f"{inspecting:6.2f}s  {setting:4.1f}s  {forward:6.2f}s"
    traced = "" if inspection.method == "symbolic" else f"  {inspection.method}"
    return f"{name:20} {counts}  {times}  {largest:9.3g}{traced}"


if __name__ == "__main__":
    print(f"{keras.backend.backend()}, Keras {keras.__version__}")
    print(HEADER)
    for name in sys.argv[1:] or model_names():
        print(line(name), flush=True)
        keras.backend.clear_session()
