"""Short names of initializers for tables."""

import dataclasses
import re
from typing import Any

from keras_winit.initializers import Scheme
from keras_winit.initializers.combinators import Scaled

# Arguments that say where values go, and not how large they are.
HIDDEN = ("seed", "input_axes", "output_axes", "strides")


def scheme_text(initializer: Any) -> str:
    """Return a name such as "he_normal", with the arguments that differ from their defaults."""
    if isinstance(initializer, Scaled):
        return f"{initializer.gain:.4g} x {scheme_text(initializer.inner)}"
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(initializer).__name__).lower()
    if not isinstance(initializer, Scheme):
        return name
    arguments = []
    for field in dataclasses.fields(initializer):
        value = getattr(initializer, field.name)
        if field.name not in HIDDEN and value != field.default:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            arguments += [f"{field.name}={text}"] * isinstance(value, int | float | str)
    return f"{name}({', '.join(arguments)})" if arguments else name
