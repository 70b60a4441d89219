"""Folds findings under the findings that cause them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from keras_winit.monitor.diagnosis.findings import Finding, Findings, worst_severity
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES

FORWARD = ("vanishing_forward", "exploding_forward", "dead_units", "saturated")
VANISHING = ("vanishing_forward", "vanishing_backward")
BACKWARD = ("vanishing_backward", "exploding_backward")
UPDATES = ("update_too_large", "update_frozen")
SYMMETRY = ("constant_units", "symmetric_units")
# Rules whose findings say that the model's outputs or its loss stand still.
STUCK = ("constant_output", "nothing_learns")
EFFECTS = (*FORWARD, *BACKWARD, *UPDATES, *STUCK, "dead_output", "bad_initial_loss", "non_finite")
WRONG_INIT = "wrong_init_for_activation"


class Effects(NamedTuple):
    """The rules whose findings a cause can bring about directly.

    Args:
        at_once: At the step of the cause and at later steps.
        later: Only at later steps, through an update.
    """

    at_once: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


# The rules that each rule can cause. Effects are direct: those of an effect need no place here.
CAUSES: dict[str, Effects] = {
    # The model and how it was compiled.
    "nothing_trainable": Effects(("vanishing_backward", "update_frozen", *STUCK)),
    "learning_rate": Effects((*UPDATES, *STUCK), EFFECTS),
    "loss_mismatch": Effects(
        (*BACKWARD, *STUCK, "bad_initial_loss", "dead_output", "target_range", "non_finite"),
        (*FORWARD, *UPDATES),
    ),
    "one_unit_softmax": Effects(
        ("vanishing_backward", "update_frozen", "bad_initial_loss", "target_range", *STUCK)
    ),
    "double_softmax": Effects((*VANISHING, "saturated", "update_frozen", *STUCK)),
    # Without activations a model learns less than it could, and shows nothing else.
    "no_activation": Effects(),
    "high_dropout": Effects((*FORWARD, *BACKWARD, *STUCK, "bad_initial_loss")),
    # The data.
    "target_range": Effects(
        ("exploding_backward", "update_too_large", "bad_initial_loss", "non_finite", *STUCK),
        (*FORWARD, "dead_output"),
    ),
    "target_scale": Effects(
        ("exploding_backward", "update_too_large", "bad_initial_loss", "non_finite", *STUCK),
        (*FORWARD, "dead_output"),
    ),
    "input_scale": Effects(EFFECTS),
    # The kernels as they start.
    "equal_kernels": Effects(("symmetric_units",)),
    "constant_units": Effects((*EFFECTS, "symmetric_units", "equal_kernels", WRONG_INIT)),
    "symmetric_units": Effects((*EFFECTS, "equal_kernels", WRONG_INIT)),
    f"{WRONG_INIT}, too small": Effects(
        (*VANISHING, "dead_units", "exploding_backward", "update_frozen", *STUCK)
    ),
    f"{WRONG_INIT}, too large": Effects(EFFECTS),
    # The signal and what it does to the loss.
    "non_finite": Effects((*EFFECTS, "symmetric_units")),
    "vanishing_forward": Effects(
        (*BACKWARD, *STUCK, "dead_units", "update_frozen", "symmetric_units")
    ),
    "exploding_forward": Effects(EFFECTS),
    "dead_units": Effects((*VANISHING, *STUCK, "exploding_backward", "update_frozen")),
    "saturated": Effects(
        (*VANISHING, *STUCK, "exploding_backward", "update_frozen", "bad_initial_loss")
    ),
    "dead_output": Effects(
        ("vanishing_backward", "update_frozen", "bad_initial_loss", "non_finite", *STUCK)
    ),
    "bad_initial_loss": Effects(("exploding_backward", "update_too_large"), EFFECTS),
    # Gradients and updates. Gradients vanish relative to the largest one.
    "exploding_backward": Effects(
        ("vanishing_backward", *UPDATES), (*FORWARD, *STUCK, "dead_output", "non_finite")
    ),
    "vanishing_backward": Effects(("update_frozen", *STUCK)),
    "update_too_large": Effects(
        ("update_frozen",),
        (*FORWARD, *BACKWARD, *STUCK, "dead_output", "symmetric_units", "non_finite"),
    ),
    "update_frozen": Effects(STUCK),
    "constant_output": Effects(("nothing_learns",)),
}

# The faults that these rules find were there before the first step, whenever they are found.
FROM_START = (
    *("nothing_trainable", "learning_rate", "loss_mismatch", "one_unit_softmax", "double_softmax"),
    *("no_activation", "high_dropout", "target_range", "target_scale", "input_scale"),
    *("equal_kernels", "constant_units", WRONG_INIT),
)

# The rules in the order in which their findings of one step follow from each other. Along a
# signal the place of the layer decides, so its rules share a tier.
TIERS = (
    ("nothing_trainable", "learning_rate"),
    ("loss_mismatch", "one_unit_softmax", "double_softmax", "no_activation", "high_dropout"),
    ("target_range", "target_scale", "input_scale"),
    SYMMETRY,
    ("equal_kernels",),
    (WRONG_INIT,),
    (*FORWARD, "dead_output", "non_finite"),
    ("bad_initial_loss",),
    ("exploding_backward",),
    ("vanishing_backward",),
    UPDATES,
    ("constant_output",),
    ("nothing_learns",),
)
TIER_OF = {rule: tier for tier, rules in enumerate(TIERS) for rule in rules}

# A kernel whose variance is off by less is no cause, unless several add up to it.
LEAST_VARIANCE_RATIO = 10.0

# Gradients grow at most with the square of a signal: it enters through the error and through the
# derivative. An update of a healthy model has at most this share of its kernel.
LARGEST_HEALTHY_UPDATE = 0.1
# A size that a finding does not tell, such as that of a bad first loss, explains updates up to
# this many times the norm of their kernel.
MOST_BY_UNKNOWN_SIZE = 1e3
SIZES_TOLD = ("input_scale", "exploding_forward", "exploding_backward")
# Causes that explain an update of any size: they have no size, or that of the error itself.
ANY_UPDATE = ("learning_rate", "target_scale", "target_range", "loss_mismatch", "non_finite")


@dataclass(frozen=True)
class LocatedFinding:
    """A finding with what its place among causes and effects depends on.

    Args:
        finding: The finding.
        order: Place of its layer in the order of execution.
        first_value: Value of the rule's statistic at the first step of the finding.
        is_root: Whether no other finding can be its cause.
    """

    finding: Finding
    order: int
    first_value: float = math.nan
    is_root: bool = False

    @property
    def start(self) -> int:
        """First step at which its cause may have been there."""
        return 0 if self.finding.rule in FROM_START else self.finding.first_step

    @property
    def cause(self) -> str:
        """The name of the finding in `CAUSES`."""
        rule = self.finding.rule
        if rule != WRONG_INIT:
            return rule
        return f"{rule}, too {'small' if self.first_value < 1 else 'large'}"

    @property
    def cause_order(self) -> tuple[Any, ...]:
        """Sort key that puts causes before their effects."""
        rule = self.finding.rule
        # Gradients run backward: the layer nearest to the loss comes first.
        place = -self.order if rule == "vanishing_backward" else self.order
        tier = -1 if self.is_root else TIER_OF.get(rule, len(TIERS))
        return (self.start, tier, place, self.finding.first_step, rule)


def fold_consequences(located: Sequence[LocatedFinding]) -> Findings:
    """Return one finding for each root cause with its consequences, the worst first.

    A finding goes under the nearest earlier one that can cause it, and with that one under its
    root. One that is only an info is taken as a cause if there is no other.
    """
    ordered = sorted(_with_joint_values(located), key=lambda one: one.cause_order)
    roots: list[int] = []
    consequences: dict[int, list[Finding]] = {}
    # Places of the findings so far, by cause and by whether they are more than infos. A deep
    # model may have thousands, of which an effect looks at few.
    earlier: dict[tuple[str, bool], list[int]] = {}
    for place, effect in enumerate(ordered):
        nearest = _nearest_cause(ordered, earlier, effect)
        roots.append(place if nearest is None else roots[nearest])
        if nearest is not None:
            consequences.setdefault(roots[place], []).append(effect.finding)
        key = effect.cause, effect.finding.severity != "info"
        earlier.setdefault(key, []).append(place)
    folded = []
    for place in dict.fromkeys(roots):
        finding, explained = ordered[place].finding, consequences.get(place, [])
        severity = worst_severity(finding, *explained)
        folded.append(replace(finding, severity=severity, consequences=tuple(explained)))
    return Findings(sorted(folded, key=lambda finding: -SEVERITIES.index(finding.severity)))


def _nearest_cause(
    ordered: Sequence[LocatedFinding],
    earlier: Mapping[tuple[str, bool], Sequence[int]],
    effect: LocatedFinding,
) -> int | None:
    """Return the place of the nearest earlier finding that can cause a finding, if any."""
    nearest: tuple[bool, int] | None = None
    # The kinds whose last finding is the latest come first: once one of them fits, the search
    # through the others ends early.
    for (cause, is_strong), places in sorted(earlier.items(), key=lambda kind: -kind[1][-1]):
        effects, rule = CAUSES.get(cause, Effects()), ordered[places[0]].finding.rule
        if effect.finding.rule not in (rule, *effects.at_once, *effects.later):
            continue
        for place in reversed(places):
            if nearest is not None and (is_strong, place) < nearest:
                break
            if _can_cause(ordered[place], effect):
                nearest = is_strong, place
                break
    return None if nearest is None else nearest[1]


def _can_cause(cause: LocatedFinding, effect: LocatedFinding) -> bool:
    """Return whether a finding came before another one and can bring it about."""
    if effect.is_root or cause.start > effect.start:
        return False
    if cause.finding.rule == effect.finding.rule:
        return True
    effects, rule = CAUSES.get(cause.cause, Effects()), effect.finding.rule
    same_step = cause.start == effect.start
    if rule not in effects.at_once and (same_step or rule not in effects.later):
        return False
    return _reaches(cause, effect) and _is_large_enough(cause, effect)


def _reaches(cause: LocatedFinding, effect: LocatedFinding) -> bool:
    """Return whether a signal runs from cause to effect; training can spoil any layer."""
    along_signal = (*FORWARD, "non_finite", WRONG_INIT)
    one_pass = cause.start == effect.start and cause.finding.rule in along_signal
    return not one_pass or effect.finding.rule not in FORWARD or cause.order <= effect.order


def _is_large_enough(cause: LocatedFinding, effect: LocatedFinding) -> bool:
    rule, size = cause.finding.rule, cause.first_value
    if rule == WRONG_INIT and cause.finding.severity == "info":
        # Slight deviations show at once or not at all.
        far = max(size, 1 / size) >= LEAST_VARIANCE_RATIO
        return far and effect.start == 0
    if effect.finding.rule == "update_too_large" and rule not in ANY_UPDATE:
        by_size = LARGEST_HEALTHY_UPDATE * size**2 if rule in SIZES_TOLD else MOST_BY_UNKNOWN_SIZE
        least = 0.0 if rule == "input_scale" else MOST_BY_UNKNOWN_SIZE
        return effect.first_value <= max(by_size, least)
    return True


def _with_joint_values(located: Sequence[LocatedFinding]) -> list[LocatedFinding]:
    """Give the findings of each group that acts together the joint value of the group.

    The groups are kernels that are all too small or all too large, whose variances multiply along
    the signal, and updates that are too large, of which the largest tells the learning rate.
    """
    largest_update, product = 0.0, {True: 1.0, False: 1.0}
    for one in located:
        if one.finding.rule == "update_too_large":
            largest_update = max(largest_update, one.first_value)
        elif one.finding.rule == WRONG_INIT:
            product[one.first_value < 1] *= one.first_value
    joint = {"update_too_large": lambda _: largest_update}
    joint[WRONG_INIT] = lambda value: product[value < 1]
    return [
        replace(one, first_value=joint[one.finding.rule](one.first_value))
        if one.finding.rule in joint
        else one
        for one in located
    ]
