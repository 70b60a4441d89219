"""Warns in the middle of a training, which goes on even where warnings are errors."""

import sys
import warnings

from keras_winit.monitor.output.finding_reporter import print_safely


def warn(message: str, stacklevel: int) -> None:
    """Warn; print the message instead if a filter turns the warning into an error.

    Args:
        message: Text of the warning.
        stacklevel: As of `warnings.warn`, counted from the caller.
    """
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=stacklevel + 1)
    except RuntimeWarning as warning:
        print_safely(f"{type(warning).__name__}: {warning}", sys.stderr)
