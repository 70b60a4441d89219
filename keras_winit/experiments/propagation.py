"""Propagation of a random signal through a stack of dense layers."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit import statistics
from keras_winit.experiments.initializers import (
    display_name,
    require_initializer,
    seeded_initializers,
)
from keras_winit.initializers.distributions import LargeNormal
from keras_winit.models.seeds import derived_seeds
from keras_winit.theory.checks import require_integer

# Bins of a layer's histogram.
BINS = 120


@dataclass(frozen=True)
class LayerOutput:
    """Statistics of one layer's output.

    Args:
        mean: Mean of all finite entries.
        stddev: Standard deviation of all finite entries.
        unit_stddev: Standard deviation of a unit over the samples, averaged over the units.
        saturated_share: Share of entries where the slope of the activation is below 5 % of
            its steepest slope.
        dead_share: Share of units that are zero for every sample.
        nonfinite: Number of entries that are NaN or infinite.
        counts: Histogram of the finite entries, n counts.
        edges: The n + 1 edges of the histogram's bins.
    """

    mean: float
    stddev: float
    unit_stddev: float
    saturated_share: float
    dead_share: float
    nonfinite: int
    counts: tuple[int, ...]
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Propagation:
    """Statistics of a signal in every layer of a stack; prints as a table.

    Args:
        initializer: Name of the initializer of the kernels.
        activation: Name of the activation.
        width: Number of units in each layer.
        samples: Number of inputs.
        batch_normalization: Whether the pre-activations were normalized.
        layers: Statistics of each layer's output, from first to last.
    """

    initializer: str
    activation: str
    width: int
    samples: int
    batch_normalization: bool
    layers: tuple[LayerOutput, ...]

    def __str__(self) -> str:
        """Format a title and one line per layer."""
        normalized = ", batch normalization" if self.batch_normalization else ""
        lines = [
            f"{self.initializer}: {len(self.layers)} {self.activation} layers of "
            f"{self.width} units{normalized}, {self.samples} samples of N(0, 1)",
            "layer        mean      stddev   unit stddev   saturated     dead",
        ]
        overflowed = any(layer.nonfinite for layer in self.layers)
        lines[-1] += "   not finite" if overflowed else ""
        for number, layer in enumerate(self.layers, 1):
            lines.append(
                f"{number:5d}  {layer.mean:10.2g}  {layer.stddev:10.4g}    "
                f"{layer.unit_stddev:10.4g}    {layer.saturated_share:8.1%} {layer.dead_share:8.1%}"
                + (f"{layer.nonfinite:13d}" if overflowed else "")
            )
        return "\n".join(lines)


def propagate(
    initializer: Any,
    activation: Any = "tanh",
    depth: int = 10,
    width: int = 500,
    samples: int = 1000,
    seed: int = 0,
    batch_normalization: bool = False,
) -> Propagation:
    """Send N(0, 1) inputs through a stack of equal dense layers and measure each output.

    The result shows the two signs of a healthy start: means near zero, and the same standard
    deviation in every layer.

    Args:
        initializer: Initializer of the kernels: a name such as "winit>he_normal", or
            anything else that `kernel_initializer` takes. Each layer draws with a seed of
            its own, derived from `seed`. A seed of the initializer is ignored.
        activation: The name of an activation of Keras, or a function. Defaults to "tanh".
        depth: Number of layers, at least 1. Defaults to 10.
        width: Number of units in each layer and in the input, at least 1. Defaults to 500.
        samples: Number of inputs, at least 1. Defaults to 1000.
        seed: Seed of the inputs and the kernels, at least 0. Defaults to 0.
        batch_normalization: Whether each layer normalizes its pre-activations over the
            samples. Defaults to False.

    Returns:
        A `Propagation`, which prints as a table. Its `layers` hold the mean, the standard
        deviation, the shares of saturated entries and dead units, and the histogram of each
        output.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If a number is too small, Keras does not know the initializer or the
            activation, or the activation does not act on each entry by itself.

    Example:
        >>> result = propagate("winit>lecun_normal", "tanh", depth=3)
        >>> [round(layer.stddev, 2) for layer in result.layers]
        [0.63, 0.49, 0.41]

    Source: CS231n lecture on training neural networks, activation statistics: weights of
        stddev 0.01 (`winit>small_normal`), 1 (`winit>large_normal`) and 1/sqrt(fan_in)
        (`winit>lecun_normal`).
    """
    for name, number in (("depth", depth), ("width", width), ("samples", samples)):
        require_integer("propagate", name, number, 1)
    require_integer("propagate", "seed", seed, 0)
    function = _elementwise_activation(activation)
    require_initializer("propagate", initializer)
    input_seed, *kernel_seeds = derived_seeds(seed, depth + 1)
    signal = LargeNormal(seed=input_seed)((samples, width), "float32")
    layers = []
    for kernel in seeded_initializers(initializer, kernel_seeds):
        signal = keras.layers.Dense(width, kernel_initializer=kernel, dtype="float32")(signal)
        if batch_normalization:
            signal = keras.layers.BatchNormalization(dtype="float32")(signal, training=True)
        saturated = statistics.saturated_share(signal, function)
        signal = function(signal)
        layers.append(_layer_output(signal, saturated))
    return Propagation(
        initializer=display_name(initializer),
        activation=getattr(function, "__name__", str(function)),
        width=width,
        samples=samples,
        batch_normalization=batch_normalization,
        layers=tuple(layers),
    )


def _elementwise_activation(activation: Any) -> Any:
    try:
        function = keras.activations.get(activation)
    except (ValueError, TypeError):
        raise ValueError(
            "`propagate(activation=...)` must be an activation of Keras or a function. "
            f"Received: activation={activation!r}."
        ) from None
    if not statistics.elementwise(function):
        raise ValueError(
            "`propagate(activation=...)` must act on each entry by itself. "
            f"Received: activation={activation!r}."
        )
    return function


def _layer_output(output: Any, saturated_share: Any) -> LayerOutput:
    output = ops.stop_gradient(output)
    tensors, _ = statistics.join_units([statistics.reduce_units(*statistics.flatten(output))])
    arrays = (ops.convert_to_numpy(tensor)[None].astype(np.float64) for tensor in tensors)
    units = statistics.Units(*arrays)
    summary = {name: float(value[0]) for name, value in statistics.summary(units).items()}
    values = ops.convert_to_numpy(output).astype(np.float64)
    counts, edges = np.histogram(values[np.isfinite(values)], BINS)
    return LayerOutput(
        mean=summary["mean"],
        stddev=summary["stddev"],
        unit_stddev=summary["unit_stddev"],
        saturated_share=float(saturated_share),
        # These units are zero for every sample. The summary's share counts units without positive
        # outputs, which are dead only behind a rectifier.
        dead_share=float(np.mean((units.low == 0) & (units.high == 0))),
        nonfinite=int(summary["nonfinite"]),
        counts=tuple(counts.tolist()),
        edges=tuple(edges.tolist()),
    )
