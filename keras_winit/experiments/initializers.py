"""Initializers of an experiment: copies with seeds of their own, and the name in a title."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from keras_winit.initializers import Scheme
from keras_winit.initializers.arguments import find_initializer
from keras_winit.initializers.wrapping import reseeded


def seeded_initializers(initializer: Any, seeds: Sequence[int]) -> list[Any]:
    """Return the initializer once for each seed, with that seed in place of its own."""
    return [reseeded(find_initializer(initializer), seed) for seed in seeds]


def require_initializer(caller: str, initializer: Any) -> None:
    """Raise an error for no initializer, and for None: Keras' default would lack our seed."""
    found = None
    with suppress(ValueError, TypeError):
        found = None if initializer is None else find_initializer(initializer)
    if found is None:
        raise ValueError(
            f"`{caller}(initializer=...)` must be an initializer. Received: {initializer!r}."
        )


def display_name(initializer: Any) -> str:
    """Return the name of an initializer for the title of a table."""
    if isinstance(initializer, str):
        return initializer
    return repr(initializer) if isinstance(initializer, Scheme) else str(initializer)
