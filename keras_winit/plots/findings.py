"""Severities of findings: the worst in each layer, and how pictures mark it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from keras_winit.plots.protocols import Finding


class Mark(NamedTuple):
    """The color and the matplotlib marker of a severity."""

    color: str
    marker: str


# The worst severity comes first. Shapes and colors both differ, for readers who cannot tell red
# from green.
MARKS = {
    "error": Mark("#b2182b", "X"),
    "warning": Mark("#d95f02", "^"),
    "info": Mark("#636363", "o"),
}

Findings = Iterable[Finding | Mapping[str, Any]]


def worst_severities(findings: Findings) -> dict[str, str]:
    """Return the worst severity in each layer, consequences included, by the layer's name.

    Args:
        findings: Findings as objects, or as the mappings that writers get.
    """
    ranks = list(MARKS)
    worst: dict[str, str] = {}
    pending: list[Any] = list(findings)
    while pending:
        finding = pending.pop()
        if isinstance(finding, Mapping):
            layer, severity = finding["layer"], finding["severity"]
            pending += finding.get("consequences", ())
        else:
            layer, severity = finding.layer, finding.severity
            pending += finding.consequences
        worst[layer] = min(worst.get(layer, severity), severity, key=ranks.index)
    return worst
