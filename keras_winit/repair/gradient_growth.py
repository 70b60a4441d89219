"""Warns if gradients grow too much, where every unit has mean 0 and variance 1."""

import math
import warnings
from typing import Any

from keras_winit import theory
from keras_winit.models.graph import trace_calls
from keras_winit.models.structure import NORMALIZATIONS, Structure, is_sum

# Growth of squared gradients at which a chain of layers no longer trains well.
LIMIT = 100.0


def growth_note(model: Any) -> tuple[str, ...]:
    """Return a sentence, also given as a warning, if a model needs more than unit variances.

    A layer that follows an activation f and whose units all have mean 0 and variance 1
    multiplies squared gradients by E[f'(z)**2] / Var[f(z)]: 1.47 for ReLU. Normalizations and
    residual sums end a chain of such layers.
    """
    growth, count = _largest_growth(model)
    if growth < LIMIT:
        return ()
    note = (
        f"Squared gradients grow by a factor of about {growth:.2g} along a chain of {count} "
        f"layers, because each unit has mean 0 and variance 1. Use `lsuv` without `per_channel` "
        f"and `center`, or add normalization layers."
    )
    warnings.warn(note, stacklevel=3)
    return (note,)


def _largest_growth(model: Any) -> tuple[float, int]:
    """Return the largest growth along a chain of layers, and the number of layers in it."""
    try:
        calls = trace_calls(model)
    except Exception:
        return 1.0, 0  # Nothing is known of a model that cannot be traced.
    structure = Structure(calls)
    chains: list[tuple[float, int]] = []
    for position, call in enumerate(calls):
        exponent, count = max((chains[source] for source in call.inputs), default=(0.0, 0))
        if is_sum(call) or isinstance(call.operation, NORMALIZATIONS):
            exponent, count = 0.0, 0
        elif structure.kernels[position] and structure.kernel_follows(position):
            exponent += math.log(_growth(structure.first_activation(position)))
            count += 1
        chains.append((exponent, count))
    exponent, count = max(chains, default=(0.0, 0))
    return math.exp(min(exponent, 700.0)), count


def _growth(activation: str | None) -> float:
    try:
        return (
            theory.gain(activation or "linear", "centered")
            / theory.gain(activation or "linear", "backward")
        ) ** 2
    except ValueError:
        return 1.0  # Softmax and others mix the entries of a row.
