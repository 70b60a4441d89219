"""Strict JSON, which has no NaN or infinity: they become null, "inf" and "-inf"."""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: Any) -> str:
    """Encode a value as one line of strict JSON; NaN becomes null, infinities "inf" and "-inf".

    `float` parses these strings. NumPy scalars and arrays become numbers and lists.
    """
    return json.dumps(json_value(value), allow_nan=False)


def json_value(value: Any) -> Any:
    """Return a value with everything in it that strict JSON cannot hold replaced."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): json_value(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
