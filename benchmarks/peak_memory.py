"""Measures the peak memory of a call, and its CPU time."""

import time
from pathlib import Path

# Peak memory of this process, and the file whose content "5" resets it.
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(field):
    """Return a number of `/proc/self/status` in MiB, and 0 where there is no such file."""
    if not STATUS.exists():
        return 0.0
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


def measured(function):
    """Call a function; return its result, its CPU seconds and its peak memory in MiB."""
    if RESET.exists():
        RESET.write_text("5")
    held, start = memory("VmRSS"), time.process_time()
    result = function()
    return result, time.process_time() - start, max(memory("VmHWM") - held, 0.0)
