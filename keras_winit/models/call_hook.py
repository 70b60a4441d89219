"""The one way into the calls of layers, for all who look on."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

Hook = Callable[..., Any]

LOCK = threading.Lock()
HOOKS: list[Hook] = []
PLAIN: list[Any] = []


@contextlib.contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Every call of a layer becomes `hook(call, layer, *args, **kwargs)`, on all threads.

    Hooks may come and go in any order, on any thread; one that is there twice acts once. The
    last one to go puts Keras' own method back.
    """
    with LOCK:
        if not HOOKS:
            PLAIN[:] = [keras.layers.Layer.__call__]
        HOOKS.append(hook)
        keras.layers.Layer.__call__ = _through_all()
    try:
        yield
    finally:
        with LOCK:
            HOOKS.remove(hook)
            keras.layers.Layer.__call__ = _through_all()


def _through_all() -> Any:
    return functools.reduce(_through, dict.fromkeys(HOOKS), PLAIN[0])


def _through(call: Any, hook: Hook) -> Any:
    @functools.wraps(call)
    def through(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(call, self, *args, **kwargs)

    return through
