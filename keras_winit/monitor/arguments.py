"""Checks the arguments of `ActivationMonitor`: schedule, layers, statistics and lists."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_winit.models.selection import LayerPredicate, selection
from keras_winit.monitor.capture.plan import ALL, CHEAP

# The default schedule is dense at the start, where most runs are decided.
DENSE = frozenset((0, 1, 2, 3, 5, 8, 12, 20, 30))
SPARSE = 50

# Layers that only move entries have the statistics of the layer before.
UNWATCHED = (
    keras.layers.InputLayer,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
)


def usual(step: int) -> bool:
    """Return whether the default schedule records a step.

    It records steps 0, 1, 2, 3, 5, 8, 12, 20, 30, then every 50th.
    """
    return step in DENSE or (step > 0 and step % SPARSE == 0)


def require_whole(name: str, number: Any, call: str = "ActivationMonitor") -> None:
    """Raise an error unless an argument of the named call is an integer >= 1."""
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole or number < 1:
        raise (ValueError if whole else TypeError)(
            f"`{call}({name}=...)` must be an integer >= 1. Received: {name}={number!r}."
        )


def schedule(every: Any) -> Callable[[int], bool]:
    """Return the predicate `step -> bool` that an `every` argument means."""
    if every is None:
        return usual
    if callable(every):
        return lambda step: bool(every(step))
    require_whole("every", every)
    return lambda step: step % every == 0


def statistics(chosen: Any) -> tuple[str, ...]:
    """Return the names of the statistics to measure."""
    if chosen is None:
        return CHEAP
    names: tuple[str, ...]
    if isinstance(chosen, str):
        names = ALL if chosen == "all" else (chosen,)
    else:
        try:
            names = tuple(chosen)
        except TypeError:  # Arrays without axes raise it too, although they seem iterable.
            names = ()
    if not names or any(not isinstance(name, str) or name not in ALL for name in names):
        raise (ValueError if names else TypeError)(
            f"`ActivationMonitor(statistics=...)` must be names out of {', '.join(ALL)}. "
            f"Received: statistics={chosen!r}."
        )
    return names


def several(name: str, given: Any, each: Callable[[Any], bool], what: str) -> list[Any]:
    """Return a list argument whose entries all pass a check."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(map(each, given)):
        raise TypeError(
            f"`ActivationMonitor({name}=...)` must be a list of {what}. Received: {name}={given!r}."
        )
    return list(given)


def choice(layers: Any) -> LayerPredicate:
    """Return the predicate for a `layers` argument, of a layer and a function that names it."""
    if layers is None:
        return lambda layer, name_of: not isinstance(layer, UNWATCHED) and not _only_holds(layer)
    return selection("ActivationMonitor", layers)


def _only_holds(layer: Any) -> bool:
    """Return whether a layer only contains others: its output is that of one of them."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations")
    )
