"""Findings of the rules, and their tables as text and HTML."""

import html
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keras_winit.monitor.diagnosis.rules import RULES
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES
from keras_winit.plots.labels import shortened

# Columns of the table: the heading, and the most characters that a cell may have.
COLUMNS = (
    ("severity", 8),
    ("rule", 26),
    ("layer", 40),
    ("step", 13),
    ("value", 10),
    ("threshold", 10),
)

# Most characters in a line of text below a row of the table, and in one text.
LINE_WIDTH = 96
TEXT_LENGTH = 400

# Most layers of a rule that are listed as consequences.
LAYERS_LISTED = 3

# Names of rows that are not layers.
NOUN = re.compile(r"(input|target|sample_weight)(?::\d+)?")

# The clause with which each rule describes a layer.
PREDICATES = {rule.id: rule.predicate for rule in RULES}


@dataclass(frozen=True)
class Finding:
    """A layer that violated a rule on as many recorded steps as the rule requires.

    Args:
        rule: The `id` of the rule.
        severity: "info", "warning" or "error"; the worst of the finding and its consequences.
        layer: Name of the layer, of an input or of targets, such as "input" or "target:1"; "loss",
            "model", "optimizer" or "sample_weight".
        step: Last step on which the layer violated the rule.
        value: Value of the rule's statistic at that step.
        threshold: Threshold that the value passed.
        healthy_range: Range of the statistic in healthy training, in words.
        cause: Cause in words.
        remedy: Remedy in words.
        first_step: First of these steps.
        hits: Recorded steps on which the layer violated the rule.
        details: Further lines of text.
        consequences: Findings that this one explains.
    """

    rule: str
    severity: str
    layer: str
    step: int
    value: float
    threshold: float
    healthy_range: str
    cause: str
    remedy: str
    first_step: int
    hits: int
    details: tuple[str, ...] = ()
    consequences: tuple["Finding", ...] = ()

    def __str__(self) -> str:
        return str(Findings([self]))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, including those of the consequences."""
        return asdict(self)


class FindingError(ValueError):
    """Error that ends training with `ActivationMonitor(on_finding="raise")`.

    Args:
        finding: The finding for which training was ended.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(
            f"`ActivationMonitor` found {finding.rule} in {finding.layer!r} at step "
            f"{finding.step}: {finding.cause}. Received: value={finding.value:.4g}, "
            f"threshold={finding.threshold:.4g}, healthy={finding.healthy_range!r}. "
            f"{finding.remedy[:1].upper()}{finding.remedy[1:]}."
        )
        self.finding = finding

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.finding,)


class Findings(tuple[Finding, ...]):
    """Findings, the worst first: a tuple that prints as a table, in a notebook as HTML."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self:
            return "nothing was found"
        rows = [_cells(finding) for finding in self]
        headings = [heading for heading, _ in COLUMNS]
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        lines = [_aligned(headings, widths)]
        for finding, row in zip(self, rows, strict=True):
            lines.append(_aligned(row, widths))
            for text in _texts(finding):
                lines += _wrapped(text)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>nothing was found</p>"
        headings = "".join(f"<th>{heading}</th>" for heading, _ in COLUMNS)
        body = []
        for finding in self:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(finding))
            texts = "<br>".join(html.escape(text) for text in _texts(finding))
            note = f'<td colspan="{len(COLUMNS)}" style="text-align:left">{texts}</td>'
            body.append(f"<tr>{cells}</tr><tr>{note}</tr>")
        return f"<table><thead><tr>{headings}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _wrapped(text: str) -> list[str]:
    """Return the indented lines of a text; code between backticks stays on one line."""
    parts = text.split("`")
    # A space that does not break stands for each one in code.
    parts[1::2] = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts[1::2]]
    lines = textwrap.wrap(
        "`".join(parts),
        LINE_WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip()


def _cells(finding: Finding) -> list[str]:
    steps = str(finding.first_step)
    if finding.step != finding.first_step:
        steps = f"{steps} .. {finding.step}"
    numbers = (f"{finding.value:.3g}", f"{finding.threshold:.3g}")
    cells = (finding.severity, finding.rule, finding.layer, steps, *numbers)
    return [shortened(cell, most) for cell, (_, most) in zip(cells, COLUMNS, strict=True)]


def _texts(finding: Finding) -> Iterator[str]:
    yield f"cause: {shortened(finding.cause, TEXT_LENGTH)}"
    yield f"remedy: {shortened(finding.remedy, TEXT_LENGTH)}"
    if finding.details:
        yield f"details: {'; '.join(shortened(line, 80) for line in finding.details)}"
    if finding.consequences:
        pairs = ((other.rule, other.layer) for other in finding.consequences)
        yield f"consequence: {describe_consequences(pairs)}"


def describe_consequences(consequences: Iterable[tuple[str, str]]) -> str:
    """Return one line such as "layer 'bad' is saturated" for pairs of a rule and a layer."""
    layers_of: dict[str, list[str]] = {}
    for rule, layer in consequences:
        layers_of.setdefault(rule, []).append(layer)
    return "; ".join(_clause(rule, layers) for rule, layers in layers_of.items())


def _clause(rule: str, layers: Sequence[str]) -> str:
    predicate = PREDICATES.get(rule, f"has a finding of the rule {shortened(rule, 40)!r}")
    if list(layers) in (["loss"], ["model"], ["optimizer"]):
        return f"the {layers[0]} {predicate}"
    nouns = {match[1] if (match := NOUN.fullmatch(layer)) else "layer" for layer in layers}
    noun = nouns.pop() if len(nouns) == 1 else "layer"
    names = [f"'{shortened(layer, 40)}'" for layer in layers[:LAYERS_LISTED]]
    if len(layers) == 1:
        return f"{noun} {names[0]} {predicate}"
    if len(layers) > LAYERS_LISTED:
        names.append(f"{len(layers) - LAYERS_LISTED} more")
    verb, _, rest = predicate.partition(" ")
    plural = {"has": "have", "is": "are"}[verb]
    return f"{noun}s {', '.join(names[:-1])} and {names[-1]} {plural} {rest}"


def worst_severity(*findings: Finding) -> str:
    """Return the highest severity of some findings."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index)
