"""Initializers of an experiment: seeds derived from one seed, and the name in a title."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_winit.initializers import Scheme
from keras_winit.initializers.arguments import find_initializer
from keras_winit.initializers.kernels import reseeded


def derived_seeds(seed: int, count: int) -> list[int]:
    """Derive independent seeds, small enough for any initializer, from one seed."""
    states = np.random.SeedSequence(seed).generate_state(count)
    return [int(state) >> 1 for state in states]


def seeded_initializers(initializer: Any, seeds: Sequence[int]) -> list[Any]:
    """Return the initializer once for each seed, with that seed in place of its own."""
    return [reseeded(find_initializer(initializer), seed) for seed in seeds]


def require_initializer(caller: str, initializer: Any) -> None:
    """Refuse None, which Keras takes for its default initializer, without our seed."""
    if initializer is None:
        raise ValueError(f"`{caller}(initializer=...)` must be an initializer. Received: None.")


def display_name(initializer: Any) -> str:
    """Return the name of an initializer for the title of a table."""
    if isinstance(initializer, str):
        return initializer
    return repr(initializer) if isinstance(initializer, Scheme) else str(initializer)
