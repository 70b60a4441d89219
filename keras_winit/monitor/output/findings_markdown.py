"""Findings as Markdown, for the Text tab of TensorBoard."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit.monitor.diagnosis.findings import describe_consequences

# Characters with a meaning in Markdown. A layer's name must not become a link or an image.
ESCAPES = {ord(character): f"&#{ord(character)};" for character in "|[]*_`\\"}


def findings_markdown(findings: Sequence[Mapping[str, Any]]) -> str:
    """Format each finding as a heading and a list.

    The Text tab would squeeze the cells of a table to the width of a letter.
    """
    return "\n\n".join(map(_section, findings)) or "nothing was found"


def _section(finding: Mapping[str, Any]) -> str:
    severity, rule, layer = (
        _escape(finding.get(name, "")) for name in ("severity", "rule", "layer")
    )
    consequences = finding.get("consequences", ())
    items = {
        "since step": finding.get("first_step", ""),
        "value": f"{finding['value']:.3g}" if "value" in finding else "",
        "why": finding.get("cause", ""),
        "try": finding.get("remedy", ""),
        "hence": describe_consequences((other["rule"], other["layer"]) for other in consequences),
    }
    lines = [f"- {name}: {_escape(text)}" for name, text in items.items() if text != ""]
    return "\n".join([f"#### {severity}: {rule} in {layer}", "", *lines])


def _escape(value: Any) -> str:
    """Return a value as text on one line, without HTML or Markdown."""
    return html.escape(" ".join(str(value).split())).translate(ESCAPES)
