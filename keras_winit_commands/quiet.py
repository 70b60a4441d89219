"""Hides the messages that TensorFlow writes when it is imported."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def set_log_level() -> None:
    """Let TensorFlow log fatal errors only, unless the user has chosen a level.

    On a machine without a GPU, TensorFlow logs as an error that it found none. What really fails
    raises an exception as well.
    """
    os.environ.setdefault(LOG_LEVEL, "3")


@contextmanager
def quiet_import() -> Iterator[None]:
    """Discard what is written to the standard error, unless the user has chosen log level 0.

    The messages that TensorFlow 2.21 writes while it is loaded heed no log level
    (https://github.com/tensorflow/tensorflow/issues/100442). Its libraries write to the file
    descriptor, hence a replacement of `sys.stderr` would not be enough.
    """
    if sys.stderr is None:
        # The process has no standard error, but some versions of numpy need one to be imported.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  It stays open, as a standard error does.
        yield
        return
    if os.environ.get(LOG_LEVEL) == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
