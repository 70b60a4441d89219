"""Hooks on `keras.layers.Layer.__call__`, shared by everything that observes layer calls."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

Hook = Callable[..., Any]

LOCK = threading.Lock()
HOOKS: list[Hook] = []
# Keras' own `Layer.__call__`, saved while a hook is active.
ORIGINAL_CALL: list[Any] = []


@contextlib.contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Turn every layer call, on all threads, into `hook(call, layer, *args, **kwargs)`.

    Hooks may be added and removed in any order and on any thread. A hook that is added twice
    runs once per call. Removing the last hook restores Keras' own method.
    """
    with LOCK:
        if not HOOKS:
            ORIGINAL_CALL[:] = [keras.layers.Layer.__call__]
        HOOKS.append(hook)
        keras.layers.Layer.__call__ = _call_with_hooks()
    try:
        yield
    finally:
        with LOCK:
            HOOKS.remove(hook)
            keras.layers.Layer.__call__ = _call_with_hooks()


def _call_with_hooks() -> Any:
    return functools.reduce(_add_hook, dict.fromkeys(HOOKS), ORIGINAL_CALL[0])


def _add_hook(call: Any, hook: Hook) -> Any:
    @functools.wraps(call)
    def hooked_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(call, self, *args, **kwargs)

    return hooked_call
