"""Reads `layers` arguments: patterns, layers, classes and predicates that select layers."""

import fnmatch
from collections.abc import Callable
from typing import Any

import keras

# Whether a layer is selected; the second argument is a function that names it.
LayerPredicate = Callable[[Any, Callable[[Any], str]], bool]


def selection(caller: str, layers: Any) -> LayerPredicate:
    """Return the predicate for the `layers` argument of a public function.

    Args:
        caller: Name of the public function, for the message of an error.
        layers: A pattern of names such as "block*", a layer, a class of layers, a predicate
            `layer -> bool`, or a list of any of these, of which one must fit.

    Raises:
        TypeError: If it is something else.
    """
    listed = layers if isinstance(layers, list | tuple) else [layers]
    tests = [_test(caller, one) for one in listed]
    return lambda layer, name_of: any(test(layer, name_of) for test in tests)


def _test(caller: str, one: Any) -> LayerPredicate:
    if isinstance(one, str):
        return lambda layer, name_of: any(
            fnmatch.fnmatchcase(name, one) for name in (layer.name, name_of(layer))
        )
    if isinstance(one, type):
        return lambda layer, name_of: isinstance(layer, one)
    if isinstance(one, keras.layers.Layer):
        return lambda layer, name_of: layer is one
    if callable(one):
        return lambda layer, name_of: bool(one(layer))
    raise TypeError(
        f"`{caller}(layers=...)` must be a pattern, a layer or its class, a predicate or "
        f"several of them. Received: layers={one!r}."
    )
