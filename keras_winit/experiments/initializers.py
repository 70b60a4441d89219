"""Initializers of an experiment: copies with seeds of their own, and the name in a title."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_winit.initializers import Scheme
from keras_winit.initializers.kernels import reseeded


def seeded_initializers(initializer: Any, seeds: Sequence[int]) -> list[Any]:
    """Return the initializer once for each seed, with that seed in place of its own."""
    return [reseeded(keras.initializers.get(initializer), seed) for seed in seeds]


def require_initializer(caller: str, initializer: Any) -> None:
    """Refuse None, which Keras takes for its default initializer, without our seed."""
    if initializer is None:
        raise ValueError(f"`{caller}(initializer=...)` must be an initializer. Received: None.")


def display_name(initializer: Any) -> str:
    """Return the name of an initializer for the title of a table."""
    if isinstance(initializer, str):
        return initializer
    return repr(initializer) if isinstance(initializer, Scheme) else str(initializer)
