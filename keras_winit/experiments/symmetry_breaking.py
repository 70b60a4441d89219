"""Symmetry between the units of a layer, before and after training."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_winit import statistics
from keras_winit.experiments.initializers import (
    display_name,
    require_initializer,
    seeded_initializers,
)
from keras_winit.models.seeds import derived_seeds
from keras_winit.theory.checks import require_integer


@dataclass(frozen=True)
class Symmetry:
    """Numbers of different units in each hidden layer; prints as a table.

    Args:
        initializer: Name of the initializer of the kernels.
        units: Number of units in each hidden layer.
        steps: Number of training steps.
        before: Number of different units in each hidden layer, before training.
        after: Number of different units in each hidden layer, after training.
        loss_before: Loss before training.
        loss_after: Loss after training.
    """

    initializer: str
    units: int
    steps: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    loss_before: float
    loss_after: float

    def __str__(self) -> str:
        """Format a title and one line per layer."""
        lines = [
            f"{self.initializer}: {self.steps} steps, loss "
            f"{self.loss_before:.4f} to {self.loss_after:.4f}",
            "layer   units   different at the start   after training",
        ]
        for number, (before, after) in enumerate(zip(self.before, self.after, strict=True), 1):
            lines.append(f"{number:5d}   {self.units:5d}   {before:22d}   {after:14d}")
        return "\n".join(lines)


def symmetry(
    initializer: Any, activation: Any = "tanh", units: int = 16, steps: int = 100, seed: int = 0
) -> Symmetry:
    """Train a small network and count the different units in its two hidden layers.

    With zeros, or with one constant, all units of a layer are equal. They get equal gradients
    and stay equal: however wide the layer is, it computes what a single unit could.

    Args:
        initializer: Initializer of all kernels, as in `propagate`.
        activation: Activation of the hidden layers: a name or a function. Defaults to
            "tanh".
        units: Number of units in each hidden layer, at least 2. Defaults to 16.
        steps: Number of gradient descent steps, each over all samples, at least 0. Defaults
            to 100.
        seed: Seed of the samples and the kernels, at least 0. Defaults to 0.

    Returns:
        A `Symmetry`, which prints as a table.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If a number is too small, or Keras does not know the initializer or the
            activation.

    Example:
        >>> result = symmetry("winit>constant", units=16, steps=20)
        >>> result.before, result.after
        ((1, 1), (1, 1))

    Source: CS231n notes, Neural Networks Part 2, weight initialization.
    """
    for name, number, minimum in (("units", units, 2), ("steps", steps, 0), ("seed", seed, 0)):
        require_integer("symmetry", name, number, minimum)
    require_initializer("symmetry", initializer)
    data_seed, *kernel_seeds = derived_seeds(seed, 4)
    x, y = _regression_data(data_seed)
    first, second, last = (
        keras.layers.Dense(size, function, kernel_initializer=kernel, dtype="float32")
        for size, function, kernel in zip(
            (units, units, 1),
            (activation, activation, None),
            seeded_initializers(initializer, kernel_seeds),
            strict=True,
        )
    )
    model = keras.Sequential([keras.Input((8,)), first, second, last])
    model.compile(keras.optimizers.SGD(0.05), "mse")

    def different_units() -> tuple[int, ...]:
        # Equal units differ in their last bits, because sums are taken in another order, and
        # training enlarges that a little: hence the tolerance.
        return tuple(statistics.distinct_units(layer.kernel, 1e-4) for layer in (first, second))

    before, loss_before = different_units(), float(model.evaluate(x, y, verbose=0))
    for _ in range(steps):
        model.train_on_batch(x, y)
    after, loss_after = different_units(), float(model.evaluate(x, y, verbose=0))
    return Symmetry(display_name(initializer), units, steps, before, after, loss_before, loss_after)


def _regression_data(seed: int) -> tuple[Any, Any]:
    """Draw inputs of shape (256, 8) and targets of shape (256, 1)."""
    x = np.random.default_rng(seed).standard_normal((256, 8)).astype(np.float32)
    return x, np.sin(x[:, :1]) * x[:, 1:2] + x[:, 2:3]
