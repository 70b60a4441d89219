"""Prints how long a call has taken, once it takes longer than a second; checks `verbose`."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

# Seconds after which the first line is printed. Each further line takes twice as long.
FIRST_LINE = 1.0

VERBOSITIES = ("auto", 0, 1, 2)


def require_verbosity(function: str, verbose: int | str) -> None:
    """Require one of the values that `verbose` has everywhere: "auto", 0, 1 or 2.

    Raises:
        ValueError: If it is another value.
    """
    # Arrays are not compared: they have no truth value.
    if not isinstance(verbose, int | str) or verbose not in VERBOSITIES:
        raise ValueError(
            f"`{function}(verbose=...)` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}."
        )


@contextlib.contextmanager
def elapsed(
    function: str, verbose: int | str, place: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Print how far a call has come after 1, 2, 4, ... seconds, and when it ends.

    The lines go to the standard error. A call that takes less than a second prints nothing.

    Args:
        function: Name of the public function.
        verbose: 0 prints nothing. All other values print.
        place: Returns how far the call has come, in a few words.
    """
    if verbose == 0:
        yield
        return
    start, ended = time.monotonic(), threading.Event()
    printed = threading.Thread(target=_print_lines, args=(function, place, ended), daemon=True)
    printed.start()
    try:
        yield
    finally:
        ended.set()
        printed.join()
        seconds = time.monotonic() - start
        if seconds >= FIRST_LINE:
            _print(f"{function}: ended after {seconds:.1f} s")


def _print_lines(function: str, place: Callable[[], str], ended: threading.Event) -> None:
    seconds, pause = 0.0, FIRST_LINE
    while not ended.wait(pause):
        seconds += pause
        pause = seconds
        _print(f"{function}: {place()}after {seconds:.0f} s")


def _print(line: str) -> None:
    # The stream may be missing or closed, or its disk full.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)
