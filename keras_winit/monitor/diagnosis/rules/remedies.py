"""Builds the code that remedies suggest, for a model `model` and its data `x` and `y`."""

import re
from typing import Any

COMPILE = "`model.compile(model.optimizer, model.loss)`"
# A built optimizer does not accept other weights on JAX.
RECOMPILE = "`model.compile(model.optimizer.from_config(model.optimizer.get_config()), model.loss)`"
STANDARDIZE = "x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-7)"
LOOK = "`print(keras_winit.signal_report(model, x, y))`"
WHERE_IT_ENDS = f"to see where the gradient ends: {LOOK}"

# The remedy for a layer that has the scheme which fits its activation.
NORMALIZE = "scale the kernels on your data: `keras_winit.lsuv(model, x)`, or add a normalization"

# The relative update that a lowered learning rate aims at, well within the healthy range.
HEALTHY_UPDATE = 0.01


def reinitialize_code(layer: str) -> str:
    """Return the code that draws the weights of one layer anew."""
    # Square brackets, stars and question marks have a meaning in patterns.
    pattern = re.sub(r"([\[*?])", r"[\1]", layer)
    return f'`keras_winit.reinitialize(model, layers="{pattern}")`'


def set_activation(code: str, layer: str, activation: str, loss: str = "model.loss") -> str:
    """Return how to set the activation of a layer.

    Args:
        code: Expression of the layer. Empty if there is none.
        layer: Name of the layer.
        activation: Name of the activation in `keras.activations`.
        loss: Expression of the loss to compile the model with.
    """
    compiled = f"`model.compile(model.optimizer, {loss})`"
    if not code:
        return f'set activation="{activation}" in layer {layer!r} and {compiled}'
    return f"`{code}.activation = keras.activations.{activation}` and {compiled}"


def freeze(view: Any, layer: str) -> str:
    """Return how to freeze a layer that no gradient is to reach."""
    setup = view.model.setup
    code = "" if setup is None else setup.codes.get(layer, "")
    set_frozen = f"`{code}.trainable = False`" if code else f"set trainable=False in {layer!r}"
    return f"if its gradient is stopped on purpose, freeze it: {set_frozen} and {RECOMPILE}"


def array_code(name: str) -> str:
    """Return the code of the array behind the name of an input or a target, such as "input:1"."""
    kind, _, number = name.partition(":")
    array = {"input": "x", "target": "y"}.get(kind, kind)
    return f"{array}[{number}]" if number else array


def clean_data(name: str) -> str:
    """Return how to remove the samples of an input or target that are not finite."""
    array = array_code(name)
    finite = f"`ok = np.isfinite({array}).reshape(len({array}), -1).all(axis=1)`"
    if ":" in name:
        return f"clean the data: {finite} is false for the samples to remove"
    return f"clean the data, here by removing samples: {finite} and `x, y = x[ok], y[ok]`"


def lower_rate(view: Any, ratio: float) -> str:
    """Return how to lower the learning rate if updates have a relative size of `ratio`."""
    rates = {} if view.model.setup is None else view.model.setup.learning_rates
    rate = next(iter(rates.values()), 0.0)
    if len(rates) != 1 or not rate > 0:
        return "lower the learning rate: `model.compile(keras.optimizers.Adam(1e-4), model.loss)`"
    lower = rate * HEALTHY_UPDATE / ratio
    return f"lower the learning rate: `model.optimizer.learning_rate = {lower:.1g}`"
