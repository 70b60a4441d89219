"""What a rule is, and what it says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from keras_winit.models.layers import LayerInfo
from keras_winit.monitor.diagnosis.rules.view import View

SEVERITIES = ("info", "warning", "error")

# Schemes for what follows a kernel.
SCHEMES = {
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "elu", "celu"), "winit>he_normal"),
    **dict.fromkeys(("gelu", "silu", "mish", "hard_silu"), "winit>he_normal"),
    "selu": "winit>lecun_normal",
}


def scheme_for(part: LayerInfo | None) -> str:
    """The usual scheme for a layer by the activation that follows."""
    return SCHEMES.get((part and part.activation) or "", "winit>xavier_uniform")


def use(part: LayerInfo | None) -> str:
    """How to say so in code."""
    recurrent = part is not None and any(k.role == "recurrent" for k in part.kernels)
    also = ', recurrent_initializer="winit>orthogonal"' if recurrent else ""
    return f'kernel_initializer="{scheme_for(part)}"{also}'


@dataclass(frozen=True)
class Offence:
    """A layer that breaks a rule at one step.

    Args:
        layer: Its name.
        value: Of the rule's statistic.
        order: The layer's place in the order of execution.
        threshold: That it passed. None: the rule's.
        severity: None: the rule's.
        persistence: None: the rule's.
        cause: In words. None: the rule's.
        remedy: Likewise.
        details: More lines.
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


@dataclass(frozen=True)
class Rule:
    """What must not be, and why it comes about.

    To add one, subclass it as a frozen dataclass and give
    `ActivationMonitor(rules=(*RULES, MyRule()))`. Rules keep no state: what they say depends
    on the records alone.

    Args:
        threshold: Of the statistic.
        persistence: On how many watched steps in a row a layer must offend.
        first_step: Nothing is said before.
        last_step: Nor after. None: it always applies.

    Class attributes: `id`; `severity`, "info", "warning" or "error"; `statistic`, what is
    compared with the threshold; `fires`, when; `applies`, to what; `healthy`, the range seen
    in healthy training; `cause` and `remedy` in words; `origin` of the threshold.

    Example:
        >>> @dataclass(frozen=True)
        ... class Negative(Rule):
        ...     id = "negative_mean"
        ...     threshold: float = -1.0
        ...
        ...     def check(self, view):
        ...         for seen in view.outputs:
        ...             if seen["mean"] < self.threshold:
        ...                 yield Offence(seen.layer, seen["mean"], seen.order)
        >>> Negative(threshold=-2.0).id
        'negative_mean'
    """

    id: ClassVar[str] = "rule"
    severity: ClassVar[str] = "warning"
    statistic: ClassVar[str] = ""
    fires: ClassVar[str] = ""
    applies: ClassVar[str] = "every layer"
    healthy: ClassVar[str] = ""
    cause: ClassVar[str] = ""
    remedy: ClassVar[str] = ""
    origin: ClassVar[str] = ""

    threshold: float = 0.0
    persistence: int = 1
    first_step: int = 0
    last_step: int | None = None

    def check(self, view: View) -> Iterator[Offence]:
        """All layers that offend at the view's step, in the order of execution."""
        raise NotImplementedError

    def applies_at(self, step: int) -> bool:
        """Whether it says anything at this step."""
        return self.first_step <= step and (self.last_step is None or step <= self.last_step)
