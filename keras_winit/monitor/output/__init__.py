"""Output of the monitor: the history, printed findings, and writers to files."""
