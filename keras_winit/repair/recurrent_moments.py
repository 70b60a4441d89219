"""Sets the kernels of recurrent layers so that their pre-activations have one variance."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_winit import theory
from keras_winit.initializers.placement import Array
from keras_winit.models.kernels import Kernel
from keras_winit.repair.owners import Owner
from keras_winit.repair.signals import Signal

# Sizes of the batch on which a layer runs, and rounds in which state and kernel settle.
SAMPLES, STEPS, WIDTH, ROUNDS = 32, 24, 8, 4

# The least share of the variance that the inputs give, should the state grow beyond it.
LEAST_SHARE = 0.1


def recurrent_outputs(
    layer: Any,
    owner: Owner,
    signal: Signal,
    shape: tuple[int | None, ...],
    target: float,
    draw: Callable[[Kernel, int, float], None] | None,
) -> Array:
    """Set both kernels of a recurrent layer, and return outputs on draws of its input.

    The recurrent kernel keeps the size of the state; the input kernel gives what is missing from
    the target. As the state depends on the kernel, both settle in a few rounds.

    Args:
        layer: A recurrent layer of Keras.
        owner: The layer or the cell that owns the kernels.
        signal: Its inputs.
        shape: Their shape.
        target: Variance of the pre-activations of the gates.
        draw: Called with a kernel, its number and a variance to draw it. None: nothing is set.
    """
    sizes = [size or default for size, default in zip(shape[2:], [WIDTH] * 9, strict=False)]
    steps = min(shape[1] or STEPS, STEPS)
    count = SAMPLES * steps * math.prod(sizes)
    rng = np.random.default_rng(0)
    values = rng.choice(signal.draws, count).astype(np.float32)
    inputs = values.reshape(SAMPLES, steps, *sizes)
    if draw is None:
        return _run(layer, inputs)
    kernel, recurrent = owner.kernels
    of_input, of_state = (
        theory.fans(part.variable.shape, **vars(part.use))[0] for part in (kernel, recurrent)
    )
    draw(recurrent, owner.number + 1, 1 / of_state)
    square_of_state = 0.0
    incoming = signal.second_moment or 1.0
    for round_number in range(ROUNDS):
        missing = max(target - square_of_state, LEAST_SHARE * target)
        draw(kernel, owner.number, missing / (of_input * incoming))
        outputs = _run(layer, inputs)
        measured = float(np.mean(outputs[:, -1].astype(np.float64) ** 2))
        square_of_state = measured if round_number == 0 else (square_of_state + measured) / 2
    return outputs


def _run(layer: Any, inputs: Array) -> Array:
    """Return the outputs of all steps, or those of the last one on an axis of size 1."""
    outputs = layer.call(keras.ops.convert_to_tensor(inputs, layer.compute_dtype))
    outputs = outputs[0] if layer.return_state else outputs
    values: Array = keras.ops.convert_to_numpy(outputs).astype(np.float32)
    return values if layer.return_sequences else values[:, None]
