"""Biases with which an output layer starts at the best constant prediction of the targets."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_winit.initializers.bias import PriorBias
from keras_winit.models.inspect import KernelContext
from keras_winit.repair.choose import Choice

Array = npt.NDArray[Any]


def output_biases(model: Any, heads: dict[str, KernelContext], y: Any) -> dict[int, Choice]:
    """Return the bias for each output layer with targets, by the `id` of the bias variable.

    Args:
        model: Built model, compiled or not.
        heads: The kernels that make outputs, by the name of the layer.
        y: Targets of the only output, or a dictionary of targets by the name of the layer.

    Raises:
        ValueError: If the targets do not belong to the output layers, or do not fit one.
    """
    by_layer = y if isinstance(y, dict) else dict.fromkeys(heads, y)
    if not set(by_layer) <= set(heads) or (not isinstance(y, dict) and len(heads) != 1):
        names = ", ".join(map(repr, heads)) or "none"
        raise ValueError(
            f"`reinitialize(y=...)` must be the targets of the only output layer, or a dictionary "
            f"with the names of output layers. Received: {len(heads)} output layers ({names})."
        )
    result = {}
    for name, targets in by_layer.items():
        bias = getattr(heads[name].owner, "bias", None)
        if bias is not None:
            values = np.asarray(keras.ops.convert_to_numpy(targets))
            result[id(bias)] = _output_bias(model, heads[name], bias.shape[-1], values)
    return result


def _output_bias(model: Any, head: KernelContext, units: int, targets: Array) -> Choice:
    activation = None if head.activation is None else head.activation.name
    kind = {"softmax": "classes", "log_softmax": "classes", "sigmoid": "probabilities"}.get(
        activation or "", _kind_without_activation(model, units, targets)
    )
    if activation is not None and kind == "mean":
        return Choice(None, f"no rule for an output bias before {activation}")
    if kind == "classes":
        counts = _class_counts(targets, units)
        return Choice(PriorBias(frequencies=counts), "log of the class frequencies")
    try:
        columns = targets.reshape(-1, units).astype(np.float64)
    except ValueError:
        raise _misfit(targets, units) from None
    if kind == "probabilities":
        shares = columns.mean(axis=0)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise _misfit(targets, units)
        # A target that is always 0 or always 1 would need an infinite bias.
        within = (shares > 0) & (shares < 1)
        smooth = (columns.sum(axis=0) + 0.5) / (len(columns) + 1)
        probabilities = np.where(within, shares, smooth).tolist()
        return Choice(PriorBias(probability=probabilities), "log odds of the targets")
    return Choice(keras.initializers.Constant(columns.mean(axis=0)), "mean of the targets")


def _kind_without_activation(model: Any, units: int, targets: Array) -> str:
    """Return what the output means if it has no activation, by the loss or by the targets."""
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    name = name.lower().replace("_", "")
    if "categoricalcrossentropy" in name:
        return "classes"
    if "binarycrossentropy" in name:
        return "probabilities"
    if loss is not None:
        return "mean"
    holds_classes = targets.dtype.kind in "iub" and targets.shape[1:] in ((), (1,))
    return "classes" if holds_classes and units > 1 else "mean"


def _class_counts(targets: Array, units: int) -> list[float]:
    """Return the frequency of each class, from class numbers or from rows of probabilities."""
    if targets.ndim > 1 and targets.shape[-1] == units:
        counts = targets.reshape(-1, units).sum(axis=0).astype(np.float64)
    else:
        classes = targets.reshape(-1).astype(np.int64)
        if classes.size == 0 or classes.min() < 0 or classes.max() >= units:
            raise _misfit(targets, units)
        counts = np.bincount(classes, minlength=units).astype(np.float64)
    # A class without targets would need an infinite bias.
    smooth: list[float] = (counts if counts.min() > 0 else counts + 1).tolist()
    return smooth


def _misfit(targets: Array, units: int) -> ValueError:
    return ValueError(
        f"`reinitialize(y=...)` must fit an output layer with {units} units. Received: targets of "
        f"shape {targets.shape} and dtype {targets.dtype}."
    )
