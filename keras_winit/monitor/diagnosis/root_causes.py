"""Folds findings under the findings that cause them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras_winit.monitor.diagnosis.findings import Finding, Findings, worst_severity
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES

FORWARD = ("vanishing_forward", "exploding_forward", "dead_units", "saturated")
BACKWARD = ("vanishing_backward", "exploding_backward")
UPDATES = ("update_too_large", "update_frozen")
SYMMETRY = ("constant_units", "symmetric_units")
EFFECTS = (*FORWARD, *BACKWARD, *UPDATES, "bad_initial_loss")

# The rules whose findings a finding of each rule can explain, besides those of the rule itself.
EXPLAINS: dict[str, frozenset[str]] = {
    "non_finite": frozenset((*SYMMETRY, *EFFECTS)),
    "constant_units": frozenset((*SYMMETRY, *EFFECTS, "wrong_init_for_activation", "non_finite")),
    "symmetric_units": frozenset((*EFFECTS, "wrong_init_for_activation")),
    "input_scale": frozenset((*EFFECTS, "non_finite")),
    "wrong_init_for_activation": frozenset((*EFFECTS, "non_finite")),
    "vanishing_forward": frozenset((*FORWARD, *BACKWARD, *UPDATES, "symmetric_units")),
    "exploding_forward": frozenset((*EFFECTS, "non_finite")),
    "dead_units": frozenset((*FORWARD, *BACKWARD, *UPDATES, "bad_initial_loss")),
    "saturated": frozenset((*FORWARD, *BACKWARD, *UPDATES, "bad_initial_loss")),
    "bad_initial_loss": frozenset((*FORWARD, *BACKWARD, *UPDATES, "non_finite")),
    "exploding_backward": frozenset((*FORWARD, *BACKWARD, *UPDATES, "non_finite")),
    "update_too_large": frozenset((*FORWARD, *BACKWARD, "update_frozen", "non_finite")),
    "vanishing_backward": frozenset(("update_frozen",)),
}

# The rules in the order in which their findings are tried as root causes.
TIERS = (
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
TIER_OF = {rule: tier for tier, rules in enumerate(TIERS) for rule in rules}
AFTER_START = len(TIER_OF)
LAST = AFTER_START + 1


@dataclass(frozen=True)
class LocatedFinding:
    """A finding with the place of its layer in the order of execution."""

    finding: Finding
    order: int

    @property
    def cause_order(self) -> tuple[Any, ...]:
        """Sort key that puts causes before their consequences."""
        finding = self.finding
        tier, start = TIER_OF.get(finding.rule, AFTER_START), finding.first_step
        # What was healthy at step 0 was spoiled by training, so the step counts first.
        if start > 0 and finding.rule in (*FORWARD, *BACKWARD, "non_finite"):
            return (AFTER_START, start, tier, self.order, finding.rule)
        if _is_mild_variance(finding):
            return (LAST, 0, 0, self.order, finding.rule)
        # Gradients run backward: the layer nearest to the loss comes first.
        place = -self.order if finding.rule == "vanishing_backward" else self.order
        return (tier, place, start, 0, finding.rule)


def fold_consequences(located: Sequence[LocatedFinding]) -> Findings:
    """Return one finding for each root cause with its consequences, the worst first."""
    roots: list[tuple[LocatedFinding, list[Finding]]] = []
    for candidate in sorted(located, key=lambda one: one.cause_order):
        for root, consequences in roots:
            if _explains(root, candidate):
                consequences.append(candidate.finding)
                break
        else:
            roots.append((candidate, []))
    folded = [
        replace(
            root.finding,
            severity=worst_severity(root.finding, *consequences),
            consequences=tuple(consequences),
        )
        for root, consequences in roots
    ]
    return Findings(sorted(folded, key=lambda finding: -SEVERITIES.index(finding.severity)))


def _explains(root: LocatedFinding, other: LocatedFinding) -> bool:
    cause, effect = root.finding, other.finding
    if cause.rule == effect.rule:
        return True
    if _is_mild_variance(effect):
        return cause.severity != "info" and cause.rule in EXPLAINS and cause.rule not in UPDATES
    if effect.rule not in EXPLAINS.get(cause.rule, ()):
        return False
    # At the start a signal runs forward only; training can spoil any layer.
    runs_forward = effect.rule in FORWARD and effect.first_step == 0
    return not runs_forward or root.order <= other.order or cause.rule in SYMMETRY


def _is_mild_variance(finding: Finding) -> bool:
    """Return whether a variance is only slightly off, which any worse finding explains."""
    return finding.rule == "wrong_init_for_activation" and finding.severity == "info"
