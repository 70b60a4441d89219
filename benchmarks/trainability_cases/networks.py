"""The networks that are trained, and the data they are trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_winit.experiments import digits

ACTIVATIONS = (
    "relu",
    "gelu",
    "silu",
    "softplus",
    "mish",
    "elu",
    "selu",
    "leaky_relu",
    "hard_swish",
    "sigmoid",
    "tanh",
    "softsign",
)

# Time steps of the adding problem.
LENGTH = 200


@dataclass(frozen=True)
class Network:
    """One row of the table, for each start.

    Args:
        part: The kind of network, such as "mlp".
        name: The activation, or the kind of cell or block.
        depth: Number of hidden kernels in a row, of blocks, or of time steps.
        steps: Number of training steps.
        task: "digits", "images", "patches" or "adding".
        build: Takes the initializers of the layers as keywords, returns a Keras model.
    """

    part: str
    name: str
    depth: int
    steps: int
    task: str
    build: Callable[..., Any]

    @property
    def activation(self) -> str | None:
        """The activation, if the network has a single one."""
        return (
            self.name.partition(" ")[0] if self.part not in ("recurrent", "transformer") else None
        )


def conv2d(filters: int, size: int, **arguments: Any) -> Any:
    """Make a `Conv2D` with odd windows and "same" padding that is one product of matrices.

    XLA computes the gradients of convolutions on CPUs six times as slowly.
    """
    layer = layers.Conv2D(filters, size, padding="same", **arguments)

    def product(inputs: Any, kernel: Any) -> Any:
        height, width = inputs.shape[1:3]
        margin = (size // 2, size // 2)
        inputs = ops.pad(inputs, ((0, 0), margin, margin, (0, 0)))
        taps = [
            inputs[:, row : row + height, column : column + width]
            for row in range(size)
            for column in range(size)
        ]
        return ops.matmul(ops.concatenate(taps, -1), ops.reshape(kernel, (-1, filters)))

    # This is no subclass, which `reinitialize` would not take for a part of a chain.
    layer.convolution_op = product
    return layer


def mlp(activation: str, depth: int, normalization: Any = None, **kernels: Any) -> Any:
    model = keras.Sequential([keras.Input((64,))])
    for _ in range(depth):
        if normalization is None:
            model.add(layers.Dense(64, activation, **kernels))
        else:
            model.add(layers.Dense(64, **kernels))
            model.add(normalization())
            model.add(layers.Activation(activation))
    model.add(layers.Dense(10, **kernels))
    return model


def cnn(activation: str, depth: int, normalization: Any = None, **kernels: Any) -> Any:
    """Build a CNN of width 24 with one max pooling and global average pooling."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for number in range(depth):
        model.add(conv2d(24, 3, **kernels))
        if normalization is not None:
            model.add(normalization())
        model.add(layers.Activation(activation))
        if number == 1:
            model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, **kernels))
    return model


def residual(activation: str, depth: int, normalization: Any = None, **kernels: Any) -> Any:
    """Build a residual MLP of pre-activation blocks with two kernels each."""
    inputs = keras.Input((64,))
    signal = layers.Dense(64, **kernels)(inputs)
    for _ in range(depth):
        branch = signal
        for _ in range(2):
            branch = branch if normalization is None else normalization()(branch)
            branch = layers.Activation(activation)(branch)
            branch = layers.Dense(64, **kernels)(branch)
        signal = layers.Add()([signal, branch])
    signal = signal if normalization is None else normalization()(signal)
    return keras.Model(inputs, layers.Dense(10, **kernels)(signal))


def recurrent(cell: Any, **kernels: Any) -> Any:
    inputs = keras.Input((LENGTH, 2))
    return keras.Model(inputs, layers.Dense(1, **kernels)(cell(32, **kernels)(inputs)))


def transformer(depth: int, normalize_first: bool, **kernels: Any) -> Any:
    """Build a transformer of width 32 on the sixteen patches of an image."""
    inputs = keras.Input((16, 4))
    signal = layers.Dense(32, **kernels)(inputs)
    places = layers.Embedding(16, 32)(ops.arange(16)[None])
    signal = layers.Add()([signal, places])
    for _ in range(depth):
        for block in (_attention, _feed_forward):
            if normalize_first:
                branch = block(layers.LayerNormalization()(signal), kernels)
                signal = layers.Add()([signal, branch])
            else:
                signal = layers.LayerNormalization()(layers.Add()([signal, block(signal, kernels)]))
    if normalize_first:
        signal = layers.LayerNormalization()(signal)
    pooled = layers.GlobalAveragePooling1D()(signal)
    return keras.Model(inputs, layers.Dense(10, **kernels)(pooled))


def _attention(signal: Any, kernels: dict[str, Any]) -> Any:
    return layers.MultiHeadAttention(4, 8, **kernels)(signal, signal)


def _feed_forward(signal: Any, kernels: dict[str, Any]) -> Any:
    return layers.Dense(32, **kernels)(layers.Dense(128, "gelu", **kernels)(signal))


def _networks() -> list[Network]:
    batch, layer = layers.BatchNormalization, layers.LayerNormalization
    found = []

    def add(
        part: str, name: str, depth: int, steps: int, task: str, build: Any, *args: Any
    ) -> None:
        found.append(Network(part, name, depth, steps, task, lambda **k: build(*args, **k)))

    for depth in (10, 30, 50, 100, 200):
        for activation in ACTIVATIONS:
            add("mlp", activation, depth, 400, "digits", mlp, activation, depth)
    for depth in (10, 20, 40):
        for activation in ("relu", "gelu", "silu", "tanh"):
            add("cnn", activation, depth, 150, "images", cnn, activation, depth)
    for activation in ("relu", "gelu", "tanh"):
        for label, kind in (("batch norm", batch), ("layer norm", layer)):
            name = f"{activation} {label}"
            add("normalized", name, 30, 400, "digits", mlp, activation, 30, kind)
        for label, kind in (("plain", None), ("layer norm", layer)):
            name = f"{activation} {label}"
            add("residual", name, 25, 400, "digits", residual, activation, 25, kind)
    add("normalized", "relu cnn batch norm", 20, 150, "images", cnn, "relu", 20, batch)
    for cell in (layers.LSTM, layers.GRU):
        add("recurrent", cell.__name__, LENGTH, 400, "adding", recurrent, cell)
    for depth in (4, 12):
        for name, first in (("pre-norm", True), ("post-norm", False)):
            add("transformer", name, depth, 400, "patches", transformer, depth, first)
    return found


NETWORKS = _networks()


def data_of(task: str, seed: int) -> tuple[Any, ...]:
    """Return the training inputs and targets, and those for testing."""
    if task == "adding":
        return _adding_problem(seed)
    data = digits(seed)
    inputs = [data.train_images, data.test_images]
    if task == "images":
        inputs = [rows.reshape(-1, 8, 8, 1) for rows in inputs]
    if task == "patches":
        split = [rows.reshape(-1, 4, 2, 4, 2) for rows in inputs]
        inputs = [rows.transpose(0, 1, 3, 2, 4).reshape(-1, 16, 4) for rows in split]
    return inputs[0], data.train_labels, inputs[1], data.test_labels


def _adding_problem(seed: int) -> tuple[Any, ...]:
    """Return numbers in [0, 1) of which two are marked; their sum is the target.

    Source: Hochreiter and Schmidhuber 1997, experiment 4, with the numbers and markers of
        Le et al. 2015, arXiv:1504.00941.
    """
    random = np.random.default_rng(seed)
    inputs = np.zeros((5000, LENGTH, 2), np.float32)
    inputs[:, :, 0] = random.random((5000, LENGTH))
    for half in (0, LENGTH // 2):
        marked = random.integers(half, half + LENGTH // 2, 5000)
        inputs[np.arange(5000), marked, 1] = 1
    targets = (inputs[:, :, 0] * inputs[:, :, 1]).sum(1)
    return inputs[:4500], targets[:4500], inputs[4500:], targets[4500:]
