"""Applies rules to records, and turns violations that persist into findings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.findings import Finding, Findings
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.root_causes import LocatedFinding, fold_consequences
from keras_winit.monitor.diagnosis.rules import RULES, Rule, View, Violation
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES
from keras_winit.monitor.error_text import one_line
from keras_winit.monitor.records import Record
from keras_winit.monitor.warning import warn

# Number of records, besides the first of the run, that rules look back on: a step must not cost
# more the longer a run is.
LOOKBACK = 64


@dataclass
class _Tally:
    """Violations of one rule by one layer."""

    in_a_row: int = 0
    hits: int = 0
    first_step: int = 0
    first_value: float = math.nan
    located: LocatedFinding | None = None


class Diagnosis:
    """Findings of a run, updated record by record.

    Args:
        rules: Rules to apply.
        single: Whether there will be one record only. What violates a rule in it is a finding,
            unless it must persist for longer than the rule asks for, because one batch may
            show it by chance. Defaults to False.

    Raises:
        ValueError: If two rules have the same `id`.
    """

    def __init__(self, rules: Sequence[Rule] = RULES, single: bool = False) -> None:
        self.rules, self._single = list(rules), single
        self.records: list[Record] = []
        # After a non-finite value no other number means anything.
        self._suspended = False
        self._tallies: dict[tuple[str, str], _Tally] = {}
        ids = [rule.id for rule in self.rules]
        if len(set(ids)) < len(ids):
            raise ValueError(
                "`ActivationMonitor(rules=...)` must hold rules with different ids. "
                f"Received: ids={sorted(ids)}."
            )

    def __call__(self, record: Record, model: ModelFacts) -> list[Finding]:
        """Apply the rules to one more record.

        Returns:
            The findings that are new or have become worse, in the order of the rules and
            without consequences.
        """
        self.records.append(record)
        # The first record is needed for what the weights were at the start.
        del self.records[1:-LOOKBACK]
        if self._suspended:
            return []
        view, new = View(self.records, model), []
        for rule in list(self.rules):
            if not rule.applies_at(view.step):
                continue
            violations = self._violations(rule, view)
            if violations is None:
                continue
            for (rule_id, layer), tally in self._tallies.items():
                if rule_id == rule.id and layer not in violations:
                    tally.in_a_row = 0
            findings = [self._count(rule, one, view.step) for one in violations.values()]
            new += [finding for finding in findings if finding is not None]
        self._suspended = any(finding.rule == "non_finite" for finding in new)
        return new

    def add(self, violations: Sequence[Violation], step: int) -> list[Finding]:
        """Take non-finite values at a step that has no record; return the new findings."""
        rule = next((rule for rule in self.rules if rule.id == "non_finite"), None)
        if rule is None or self._suspended:
            return []
        findings = [self._count(rule, violation, step) for violation in violations]
        self._suspended = True
        return [finding for finding in findings if finding is not None]

    def resume(self) -> None:
        """Apply the rules again after a non-finite value, which may have been repaired."""
        self._suspended = False

    @property
    def findings(self) -> Findings:
        """All findings so far: one for each root cause, the worst first."""
        located = [tally.located for tally in self._tallies.values()]
        return fold_consequences([one for one in located if one is not None])

    def _violations(self, rule: Rule, view: View) -> dict[str, Violation] | None:
        """Return the violations by layer; None, and no longer apply the rule, if it fails."""
        violations: dict[str, Violation] = {}
        try:
            for violation in rule.check(view):
                # If there are several in one layer, the first is the nearest to the cause.
                violations.setdefault(violation.layer, violation)
        except Exception as error:
            self.rules.remove(rule)
            warn(
                f"The rule {rule.id!r} failed and is no longer applied. "
                f"Received: {one_line(error)}",
                stacklevel=3,
            )
            return None
        return violations

    def _count(self, rule: Rule, violation: Violation, step: int) -> Finding | None:
        """Count a violation; return the finding if it is new or has become worse."""
        tally = self._tallies.setdefault((rule.id, violation.layer), _Tally())
        known = None if tally.located is None else tally.located.finding
        if tally.in_a_row == 0 and known is None:
            tally.first_step, tally.first_value = step, float(violation.value)
        tally.in_a_row += 1
        tally.hits += 1
        persistence = rule.persistence if violation.persistence is None else violation.persistence
        persisted = rule.persistence if self._single else tally.in_a_row
        if known is None and persisted < persistence:
            return None
        finding = _finding(rule, violation, step, tally, known)
        tally.located = LocatedFinding(
            finding, violation.order, tally.first_value, violation.is_root
        )
        return finding if known is None or known.severity != finding.severity else None


def _finding(
    rule: Rule, violation: Violation, step: int, tally: _Tally, known: Finding | None
) -> Finding:
    """Return the finding of a violation; it is never less severe than the known one."""
    severity = violation.severity or rule.severity
    if known is not None:
        severity = max(severity, known.severity, key=SEVERITIES.index)
    threshold = rule.threshold if violation.threshold is None else violation.threshold
    return Finding(
        rule=rule.id,
        severity=severity,
        layer=violation.layer,
        step=step,
        value=float(violation.value),
        threshold=float(threshold),
        healthy_range=rule.healthy,
        cause=violation.cause or rule.cause,
        remedy=violation.remedy or rule.remedy,
        first_step=tally.first_step if violation.since is None else violation.since,
        hits=tally.hits,
        details=violation.details,
    )
