"""Tells which of several processes that train one model together writes and prints."""

import keras


def is_chief() -> bool:
    """Return whether this process writes and prints; on JAX, that of index 0 does.

    The processes of a `keras.distribution` hold the same records, so that one is enough.
    """
    if keras.backend.backend() != "jax":
        return True
    import jax

    return int(jax.process_index()) == 0
