"""What is wrong, since when, why, and what to do: as records and as tables."""

import html
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from keras_winit.monitor.diagnosis.rules.base import SEVERITIES

# Of the table: heading and the longest that a cell may be.
COLUMNS = (("severity", 8), ("rule", 26), ("layer", 40), ("step", 13), ("value", 10), ("limit", 10))

# Of a line of text under a row.
WIDTH = 96


@dataclass(frozen=True)
class Finding:
    """Something wrong with a layer.

    Args:
        rule: The rule's `id`.
        severity: "info", "warning" or "error"; the worst of it and its consequences.
        layer: The layer's name, "loss", or "input".
        step: At which it was last seen.
        value: Of the rule's statistic at that step.
        threshold: That it passed.
        healthy_range: What healthy training shows.
        cause: In words.
        remedy: What to do.
        first_step: At which it was first seen.
        hits: On how many watched steps it was seen.
        details: More lines.
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
        """As plain values; the consequences as well."""
        return asdict(self)


class FindingError(ValueError):
    """Training was stopped for what was found.

    Args:
        finding: What.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(
            f"`ActivationMonitor` found {finding.rule} in {finding.layer!r} at step "
            f"{finding.step}: {finding.cause}. Received: {finding.value:.4g}, healthy "
            f"{finding.healthy_range}. {_sentence(finding.remedy)}"
        )
        self.finding = finding

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.finding,)


class Findings(tuple[Finding, ...]):
    """Findings as a table, the worst first; in a notebook as HTML."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self:
            return "nothing was found"
        rows = [_cells(finding) for finding in self]
        heads = [head for head, _ in COLUMNS]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [_aligned(heads, widths)]
        for finding, row in zip(self, rows, strict=True):
            lines.append(_aligned(row, widths))
            for text in _texts(finding):
                lines += textwrap.wrap(
                    text,
                    WIDTH,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>nothing was found</p>"
        heads = "".join(f"<th>{head}</th>" for head, _ in COLUMNS)
        body = []
        for finding in self:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(finding))
            texts = "<br>".join(html.escape(text) for text in _texts(finding))
            note = f'<td colspan="{len(COLUMNS)}" style="text-align:left">{texts}</td>'
            body.append(f"<tr>{cells}</tr><tr>{note}</tr>")
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip()


def _cells(finding: Finding) -> list[str]:
    steps = str(finding.first_step)
    if finding.step != finding.first_step:
        steps = f"{steps} .. {finding.step}"
    numbers = (f"{finding.value:.3g}", f"{finding.threshold:.3g}")
    cells = (finding.severity, finding.rule, finding.layer, steps, *numbers)
    return [shortened(cell, most) for cell, (_, most) in zip(cells, COLUMNS, strict=True)]


def shortened(text: str, most: int) -> str:
    """On one line, printable, its end kept."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return text if len(text) <= most else "…" + text[1 - most :]


def _texts(finding: Finding) -> Iterator[str]:
    yield f"why: {shortened(finding.cause, 400)}"
    yield f"try: {shortened(finding.remedy, 400)}"
    if finding.details:
        yield f"ranges before: {'; '.join(shortened(line, 80) for line in finding.details)}"
    if finding.consequences:
        yield f"hence: {hence((one.rule, one.layer) for one in finding.consequences)}"


def severities(findings: Iterable[Any]) -> dict[str, str]:
    """The worst that was found in each layer, in itself or as a consequence."""
    worst: dict[str, str] = {}
    rows = [row if isinstance(row, Mapping) else row.as_dict() for row in findings]
    while rows:
        row = rows.pop()
        rows += row.get("consequences", ())
        known = worst.get(row["layer"], row["severity"])
        worst[row["layer"]] = max(known, row["severity"], key=SEVERITIES.index)
    return worst


def hence(consequences: Iterable[tuple[str, str]]) -> str:
    """What follows from a finding, rules and layers, as one line."""
    by_rule: dict[str, list[str]] = {}
    for rule, layer in consequences:
        by_rule.setdefault(rule, []).append(shortened(layer, 40))
    parts = []
    for rule, names in by_rule.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        parts.append(f"{rule} in {', '.join(names[:3])}{more}")
    return "; ".join(parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


# What a rule's finding can be the cause of, in itself and in layers behind.
FORWARD = ("vanishing_forward", "exploding_forward", "dead_units", "saturated")
BACKWARD = ("vanishing_backward", "exploding_backward")
UPDATES = ("update_too_large", "update_frozen")
SYMMETRY = ("constant_units", "symmetric_units")
REST = (*FORWARD, *BACKWARD, *UPDATES, "bad_initial_loss")
CAUSES: dict[str, frozenset[str]] = {
    "non_finite": frozenset((*SYMMETRY, *REST)),
    "constant_units": frozenset((*SYMMETRY, *REST, "wrong_init_for_activation", "non_finite")),
    "symmetric_units": frozenset((*REST, "wrong_init_for_activation")),
    "input_scale": frozenset((*REST, "non_finite")),
    "wrong_init_for_activation": frozenset((*REST, "non_finite")),
    "vanishing_forward": frozenset((*FORWARD, *BACKWARD, *UPDATES, "symmetric_units")),
    "exploding_forward": frozenset((*REST, "non_finite")),
    "dead_units": frozenset((*FORWARD, *BACKWARD, *UPDATES, "bad_initial_loss")),
    "saturated": frozenset((*FORWARD, *BACKWARD, *UPDATES, "bad_initial_loss")),
    "bad_initial_loss": frozenset((*FORWARD, *BACKWARD, *UPDATES, "non_finite")),
    "exploding_backward": frozenset((*FORWARD, *BACKWARD, *UPDATES, "non_finite")),
    "update_too_large": frozenset((*FORWARD, *BACKWARD, "update_frozen", "non_finite")),
    "vanishing_backward": frozenset(("update_frozen",)),
}
TIERS = {
    name: tier
    for tier, names in enumerate(
        (
            ("non_finite",),
            SYMMETRY,
            ("input_scale",),
            ("wrong_init_for_activation",),
            FORWARD,
            ("bad_initial_loss",),
            ("exploding_backward",),
            ("vanishing_backward",),
            UPDATES,
        )
    )
    for name in names
}
LATE = len(TIERS)


@dataclass(frozen=True)
class Found:
    """A finding with the order of its layer's execution."""

    finding: Finding
    order: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Causes sort before consequences: by what it is and where, or when it came up."""
        finding = self.finding
        tier, start = TIERS.get(finding.rule, LATE), finding.first_step
        # What was well at first has been spoiled by training.
        if start > 0 and finding.rule in (*FORWARD, *BACKWARD, "non_finite"):
            return (LATE, start, tier, self.order, finding.rule)
        if _is_slight(finding):
            return (LATE + 1, 0, 0, self.order, finding.rule)
        # Gradients come from behind.
        place = -self.order if finding.rule == "vanishing_backward" else self.order
        return (tier, place, start, 0, finding.rule)


def _is_slight(finding: Finding) -> bool:
    """A variance that is a little off goes with anything worse."""
    return finding.rule == "wrong_init_for_activation" and finding.severity == "info"


def folded(found: Sequence[Found]) -> Findings:
    """One finding for each cause, its consequences within; the worst first."""
    roots: list[tuple[Found, list[Finding]]] = []
    for one in sorted(found, key=lambda one: one.key):
        for root, consequences in roots:
            if _explains(root, one):
                consequences.append(one.finding)
                break
        else:
            roots.append((one, []))
    made = [
        replace(
            root.finding,
            severity=max(
                (root.finding.severity, *(c.severity for c in consequences)), key=SEVERITIES.index
            ),
            consequences=tuple(consequences),
        )
        for root, consequences in roots
    ]
    return Findings(sorted(made, key=lambda f: -SEVERITIES.index(f.severity)))


def _explains(root: Found, other: Found) -> bool:
    one, two = root.finding, other.finding
    if one.rule == two.rule:
        return True
    if _is_slight(two):
        return one.severity != "info" and one.rule in CAUSES and one.rule not in UPDATES
    if two.rule not in CAUSES.get(one.rule, ()):
        return False
    # A signal runs forward, unless it was training that spoiled it.
    forward = two.rule in FORWARD and two.first_step == 0
    return not forward or root.order <= other.order or one.rule in SYMMETRY
