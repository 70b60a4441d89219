"""Writes for each layer of a model the expression that reaches it, such as `model.head`."""

import json
from collections import Counter
from typing import Any

import keras

from keras_winit.models.names import Names


def layer_codes(model: Any, names: Names) -> dict[str, str]:
    """Return Python expressions by the names of the layers; the model itself is `model`.

    A layer inside a model is reached by `get_layer`, one inside another layer by a public
    attribute. Layers that neither reaches are left out.
    """
    codes: dict[str, str] = {}
    _add_inner(model, "model", names, codes)
    return codes


def _add_inner(outer: Any, code: str, names: Names, codes: dict[str, str]) -> None:
    inner_layers = list(outer._flatten_layers(include_self=False, recursive=False))
    counts = Counter(inner.name for inner in inner_layers)
    attributes = dict(_attributes(outer))
    for inner in inner_layers:
        if isinstance(outer, keras.Model) and counts[inner.name] == 1:
            step = f".get_layer({json.dumps(inner.name)})"
        else:
            step = attributes.get(id(inner), "")
        if step and names.of(inner) not in codes:
            codes[names.of(inner)] = code + step
            _add_inner(inner, code + step, names, codes)


def _attributes(outer: Any) -> list[tuple[int, str]]:
    """Return pairs of the `id` of an inner layer and the attribute that holds it."""
    pairs = []
    for name, value in vars(outer).items():
        if not name.startswith("_"):
            pairs.append((id(value), f".{name}"))
            if isinstance(value, list | tuple):
                pairs += [(id(one), f".{name}[{place}]") for place, one in enumerate(value)]
    return pairs
