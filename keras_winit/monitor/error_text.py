"""Turns errors into one line of text."""

import re

# Keras puts this line before the message of an error in a layer's `call`.
OF_A_LAYER = "Exception encountered when calling"


def one_line(error: Exception) -> str:
    """Return the type and first line of an error, and the next line if it came from a layer."""
    text = re.sub(r"\x1b\[\d*m", "", f"{type(error).__name__}: {error}")
    first, *others = (line.strip() for line in text.splitlines() if line.strip())
    return f"{first} {others[0]}" if OF_A_LAYER in first and others else first
