"""Base class of the diagnostic rules, and the violations that rules report."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from keras_winit.monitor.diagnosis.rules.run_view import View

SEVERITIES = ("info", "warning", "error")

# Last step at which signal and outputs still show the initialization rather than what was learned.
LAST_EARLY_STEP = 12


@dataclass(frozen=True)
class Violation:
    """A layer that violates a rule at one step.

    Args:
        layer: The layer's name; "loss" for the loss, the input's name for an input.
        value: Value of the rule's statistic.
        order: Place of the layer in the order of execution.
        threshold: Threshold that the value passed. None: the rule's.
        severity: "info", "warning" or "error". None: the rule's.
        persistence: Recorded steps in a row after which this becomes a finding. None: the
            rule's.
        cause: Cause in words. None: the rule's.
        remedy: Remedy in words. None: the rule's.
        details: Further lines of text.
        is_root: Whether no other finding can be its cause, as with NaN in the data.
        since: First step at which the cause was there. None: that of the violation.
    """

    layer: str
    value: float
    order: int = 0
    threshold: float | None = None
    severity: str | None = None
    persistence: int | None = None
    cause: str | None = None
    remedy: str | None = None
    details: tuple[str, ...] = ()
    is_root: bool = False
    since: int | None = None


@dataclass(frozen=True)
class Rule:
    """A condition that no layer should meet, with its cause and its remedy.

    To add a rule, subclass this class as a frozen dataclass and pass
    `ActivationMonitor(rules=(*RULES, MyRule()))`. A rule keeps no state: its violations
    depend on the records alone.

    Args:
        threshold: Limit of the statistic.
        persistence: Recorded steps in a row on which a layer must violate the rule before it
            becomes a finding.
        first_step: First step at which the rule is applied.
        last_step: Last step at which the rule is applied. None: no limit.

    Class attributes, all of them texts:

    - `id`: unique name.
    - `severity`: "info", "warning" or "error".
    - `statistic`: name of the statistic that is compared with the threshold.
    - `fires`: condition, as a clause that continues "the rule fires when".
    - `applies`: layers and steps that the rule checks.
    - `healthy`: range of the statistic in healthy training.
    - `predicate`: clause that says of a layer what the rule found there, such as "is saturated".
    - `cause`: usual cause.
    - `remedy`: usual remedy.
    - `origin`: source of the threshold.

    Example:
        >>> @dataclass(frozen=True)
        ... class Negative(Rule):
        ...     id = "negative_mean"
        ...     threshold: float = -1.0
        ...
        ...     def check(self, view):
        ...         for row in view.outputs:
        ...             if row["mean"] < self.threshold:
        ...                 yield Violation(row.layer, row["mean"], row.order)
        >>> Negative(threshold=-2.0).id
        'negative_mean'
    """

    id: ClassVar[str] = "rule"
    severity: ClassVar[str] = "warning"
    statistic: ClassVar[str] = ""
    fires: ClassVar[str] = ""
    applies: ClassVar[str] = "every layer"
    healthy: ClassVar[str] = ""
    predicate: ClassVar[str] = ""
    cause: ClassVar[str] = ""
    remedy: ClassVar[str] = ""
    origin: ClassVar[str] = ""

    threshold: float = 0.0
    persistence: int = 1
    first_step: int = 0
    last_step: int | None = None

    def check(self, view: View) -> Iterator[Violation]:
        """Yield the violations at the view's step, in the order of execution."""
        raise NotImplementedError

    def applies_at(self, step: int) -> bool:
        """Return whether the rule is applied at a step."""
        return self.first_step <= step and (self.last_step is None or step <= self.last_step)
