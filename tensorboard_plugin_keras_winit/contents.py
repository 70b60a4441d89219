"""Checks what the event files of a run hold, as any program can write under our tags."""

import json
from typing import Any

import numpy as np

# Version of the descriptions that the tab reads.
VERSION = 1

KINDS = ("layers", "variables")


def parsed_json(text: bytes | str) -> Any:
    """Return the value of a JSON text, or None if the text cannot be read."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def is_layout(content: Any) -> bool:
    """Return whether a description names the rows and columns of a table, or announces findings."""
    if not isinstance(content, dict) or content.get("version") != VERSION:
        return False
    if content.get("kind") == "findings":
        return True
    names = [content.get(key) for key in ("rows", "tags", "columns")]
    if content.get("kind") not in KINDS or not all(map(_is_list_of_names, names)):
        return False
    return len(content["rows"]) == len(content["tags"])


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(name, str) for name in value)


def is_table(values: Any, shape: tuple[int, int]) -> bool:
    """Return whether an array holds real numbers, and has the shape of a table."""
    return values.shape == shape and values.dtype.kind in "fiu"


def is_histogram(bins: Any) -> bool:
    """Return whether an array of shape (B, 3) holds left edge, right edge and count of B bins."""
    return (
        bins.dtype.kind in "fiu"
        and bins.ndim == 2
        and bins.shape[1] == 3
        and len(bins) > 0
        and bool(np.isfinite(bins).all())
        # The page assumes that the first bin is the lowest, and the last the highest.
        and bool((np.diff(bins[:, :2].ravel()) >= 0).all())
        and bool((bins[:, 2] >= 0).all())
    )


def parsed_findings(text: Any) -> list[dict[str, Any]] | None:
    """Return the findings in an array of one JSON text, or None if it holds something else."""
    findings = parsed_json(text.item()) if text.size == 1 else None
    return findings if _is_findings(findings) else None


def _is_findings(value: Any, are_consequences: bool = False) -> bool:
    return isinstance(value, list) and all(
        isinstance(finding, dict)
        and all(
            _is_findings(entry, are_consequences=True)
            if name == "consequences" and not are_consequences
            else _is_plain(entry)
            for name, entry in finding.items()
        )
        for finding in value
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text, null, or a list of such values."""
    if isinstance(value, list):
        return not any(isinstance(entry, list | dict) for entry in value)
    return not isinstance(value, dict)
