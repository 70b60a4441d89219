"""Rules applied step by step: persistence, findings, root causes."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_winit.models.layers import LayerInfo
from keras_winit.models.losses import expected_loss
from keras_winit.monitor.capture.collector import reason
from keras_winit.monitor.diagnosis.findings import Finding, Findings, Found, folded
from keras_winit.monitor.diagnosis.rules import RULES, Model, Offence, Rule, View
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES
from keras_winit.monitor.records import Record


def at_rest(model: Any, parts: Mapping[int, LayerInfo], watch: Any) -> Model:
    """What rules may know of a model, its parts by the names that layers have in records."""
    layers = [layer for layer in model._flatten_layers() if id(layer) in parts]
    return Model(
        parts={watch.names.of(layer): parts[id(layer)] for layer in layers},
        expected_loss=expected_loss(model) if watch.plain_loss else None,
        scaled_loss=isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer),
    )


# Samples that rules look back on, at least.
DEPTH = 64


@dataclass
class _Run:
    """How a layer has fared under a rule."""

    in_a_row: int = 0
    hits: int = 0
    first_step: int = 0
    found: Found | None = None


class Diagnosis:
    """What some rules find in a run, record by record.

    Args:
        rules: To apply.
        keep: How many records rules may look back on, besides the first one; at least those
            that rules of this package need. None: all.

    Raises:
        ValueError: If two rules have the same `id`.
    """

    def __init__(self, rules: Sequence[Rule] = RULES, keep: int | None = None) -> None:
        self.rules = list(rules)
        self.records: list[Record] = []
        self.depth = None if keep is None else max(keep, DEPTH)
        # Where numbers have ended nothing else means anything.
        self.ruined = False
        names = [rule.id for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError(
                "`ActivationMonitor(rules=...)` must have different ids. "
                f"Received: {sorted(names)}."
            )
        self._runs: dict[tuple[str, str], _Run] = {}

    def __call__(self, record: Record, model: Model) -> list[Finding]:
        """Look at one more record.

        Returns:
            What has come up or got worse at this step, unfolded, in the order of the rules.
        """
        self.records.append(record)
        if self.depth is not None:
            # The first one tells how weights began.
            del self.records[1 : -self.depth]
        view, new = View(self.records, model), []
        for rule in [] if self.ruined else list(self.rules):
            if not rule.applies_at(view.step):
                continue
            try:
                offences: dict[str, Offence] = {}
                for offence in rule.check(view):
                    # The first one is nearer to the cause.
                    offences.setdefault(offence.layer, offence)
            except Exception as error:
                self.rules.remove(rule)
                warnings.warn(
                    f"The rule {rule.id!r} is applied no more. Received: {reason(error)}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                continue
            for (name, layer), run in self._runs.items():
                if name == rule.id and layer not in offences:
                    run.in_a_row = 0
            new += [
                found
                for offence in offences.values()
                if (found := self._count(rule, offence, view.step))
            ]
        self.ruined |= any(finding.rule == "non_finite" for finding in new)
        return new

    def resume(self) -> None:
        """Apply rules again: what came to be no number may have been put right."""
        self.ruined = False

    @property
    def findings(self) -> Findings:
        """All so far: one for each cause, the worst first."""
        return folded([run.found for run in self._runs.values() if run.found is not None])

    def _count(self, rule: Rule, offence: Offence, step: int) -> Finding | None:
        """The finding, when it comes up or gets worse."""
        run = self._runs.setdefault((rule.id, offence.layer), _Run(first_step=step))
        if run.in_a_row == 0 and run.found is None:
            run.first_step = step
        run.in_a_row += 1
        run.hits += 1
        needed = rule.persistence if offence.persistence is None else offence.persistence
        new = run.found is None
        if new and run.in_a_row < needed:
            return None
        severity = offence.severity or rule.severity
        if run.found is not None:
            severity = max(severity, run.found.finding.severity, key=SEVERITIES.index)
        threshold = rule.threshold if offence.threshold is None else offence.threshold
        finding = Finding(
            rule=rule.id,
            severity=severity,
            layer=offence.layer,
            step=step,
            value=float(offence.value),
            threshold=float(threshold),
            healthy_range=rule.healthy,
            cause=offence.cause or rule.cause,
            remedy=offence.remedy or rule.remedy,
            first_step=run.first_step,
            hits=run.hits,
            details=offence.details,
        )
        worse = run.found is not None and run.found.finding.severity != severity
        run.found = Found(finding, offence.order)
        return finding if new or worse else None
