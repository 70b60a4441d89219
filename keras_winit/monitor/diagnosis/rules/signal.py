"""Rules on the signal that runs forward: its size, and the units that carry it."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Offence, Rule, use
from keras_winit.monitor.diagnosis.rules.view import Seen, View

# Sampled steps at which the signal tells of the start, and not of what was learned.
EARLY = 12

# Samples of a unit that say little of it.
FEW = 8


def _stretches(view: View) -> Iterator[tuple[Seen | None, Sequence[Seen]]]:
    """Hidden layers that may be compared, and what the first of them is compared with.

    The main path starts from the input; a residual branch is compared with itself.
    """
    groups: dict[int | None, list[Seen]] = {}
    for seen in view.outputs:
        part = seen.part
        if part is not None and part.hidden and not part.is_embedding:
            groups.setdefault(part.branch, []).append(seen)
    for branch, group in groups.items():
        first = group[0].part
        fed = view.inputs[0] if branch is None and len(view.inputs) == 1 else None
        yield (fed if first is not None and first.takes_raw_input else None), group


def _is_zero(seen: Seen) -> bool:
    """Whether every entry is zero."""
    return seen["mean"] == 0 and seen["stddev"] == 0


@dataclass(frozen=True)
class VanishingForward(Rule):
    """A signal that no longer tells one input from another."""

    id = "vanishing_forward"
    severity = "error"
    statistic = "unit_stddev"
    fires = "stddev of units over the samples, as a share of the first hidden layer's"
    applies = "hidden layers with kernels; a residual branch by itself; not before normalization"
    healthy = "0.064 .. 0.975"
    cause = "each layer shrinks the differences between inputs until none are left"
    remedy = "a scheme for the activation"
    origin = "healthy 1 % quantile .064; SageMaker's PoorWeightInitialization uses 10 a layer"
    threshold: float = 1e-2
    persistence: int = 2
    last_step: int | None = EARLY

    def check(self, view: View) -> Iterator[Offence]:
        for fed, group in _stretches(view):
            reference = math.nan if fed is None else fed["unit_stddev"]
            for place, seen in enumerate(group):
                spread = seen["unit_stddev"]
                # Of one sample, or of equal ones, units have no spread to lose.
                ratio = spread / reference if reference > 0 else float(not _is_zero(seen))
                if place == 0:
                    reference = spread
                if self._excused(view, seen) or not ratio < self.threshold:
                    continue
                yield Offence(seen.layer, ratio, seen.order, remedy=use(seen.part))

    def _excused(self, view: View, seen: Seen) -> bool:
        part, weight = seen.part, view.weight_of(seen.layer)
        if part is None or weight is None:
            return True
        ends_at_zero = part.ends_branch and weight.started_at_zero
        # All units dead is a rule of its own.
        all_dead = seen["dead_share"] >= 0.99 and weight["weight_norm"] > 0
        return ends_at_zero or all_dead or (part.normalized and seen["unit_stddev"] > 0)


@dataclass(frozen=True)
class ExplodingForward(Rule):
    """A signal that grows from layer to layer."""

    id = "exploding_forward"
    severity = "error"
    statistic = "stddev"
    fires = "stddev of a pre-activation: above 100, or 50 times the first hidden layer's"
    applies = "hidden layers with kernels; not before normalization"
    healthy = "0.07 .. 1.3"
    cause = "each layer makes the signal larger"
    remedy = "a scheme for the activation"
    origin = "healthy 99 % quantile 1.3"
    threshold: float = 100.0
    growth: float = 50.0
    last_step: int | None = EARLY

    def check(self, view: View) -> Iterator[Offence]:
        first = math.nan
        for seen in view.outputs:
            part = seen.part
            if part is None or not part.hidden or part.is_embedding:
                continue
            stddev = view.pre_activations.get(seen.layer, seen)["stddev"]
            if math.isnan(first) and stddev > 0:
                first = stddev
            limit = min(self.threshold, self.growth * first)
            if stddev > limit and not part.normalized:
                branch = "a smaller gain at the end of residual branches, or normalization in them"
                remedy = use(part) if part.branch is None else branch
                yield Offence(seen.layer, stddev, seen.order, threshold=limit, remedy=remedy)


@functools.cache
def most_dead(units: int, share: float, tail: float = 1e-3) -> int:
    """The 1 - `tail` quantile of Binomial(units, share)."""
    total = 0.0
    for count in range(units + 1):
        ways = math.lgamma(units + 1) - math.lgamma(count + 1) - math.lgamma(units - count + 1)
        total += math.exp(ways + count * math.log(share) + (units - count) * math.log1p(-share))
        if total >= 1 - tail:
            return count
    return units


@dataclass(frozen=True)
class DeadUnits(Rule):
    """Units of a rectifier that are zero for the whole batch."""

    id = "dead_units"
    statistic = "dead_share"
    fires = "more than 99.9 % of layers would have with this share dead; error if >= 99 %"
    applies = "rectifiers of hidden layers; of 5 units, or 8 samples, or less all must be dead"
    healthy = "0 .. 0.385"
    cause = "units that are zero for every input get no gradient, and seldom come back"
    remedy = "zero or positive biases, a lower learning rate, or a leaky activation"
    origin = "healthy 99 % quantile .385, maximum .52, of batches of 256"
    threshold: float = 0.35
    persistence: int = 3

    def check(self, view: View) -> Iterator[Offence]:
        for seen in view.seen:
            count, share = seen["dead_units"], seen["dead_share"]
            if seen.before or seen.part is None or not seen.part.hidden or not count * share > 0:
                continue
            units = round(count / share)
            # Of few samples a unit may be zero for all by chance.
            few = units <= 5 or seen.samples <= FEW
            most = units - 1 if few else most_dead(units, self.threshold)
            weight = view.weight_of(seen.layer)
            # Of a kernel of zeros the units are no worse than the kernel.
            if count <= most or (weight is not None and weight["weight_norm"] == 0):
                continue
            ruined = share >= 0.99
            yield Offence(
                seen.layer,
                share,
                seen.order,
                threshold=most / units,
                severity="error" if ruined else None,
                persistence=min(2, self.persistence) if ruined else None,
                remedy=f"{self.remedy}; {use(seen.part)}",
            )


@dataclass(frozen=True)
class Saturated(Rule):
    """Units where the activation is flat."""

    id = "saturated"
    statistic = "saturated_share"
    fires = "share of entries where the slope is under 5 % of the steepest; info from step 30"
    applies = "hidden layers whose activation is flat somewhere, save at zero"
    healthy = "0 .. 0.06"
    cause = "pre-activations lie where the activation is flat and lets no gradient through"
    remedy = "a smaller gain, or inputs of stddev 1"
    origin = "far above the healthy 99 % quantile .06, since many recover"
    threshold: float = 0.5
    persistence: int = 3
    warns_until: int = 30

    def check(self, view: View) -> Iterator[Offence]:
        for seen in view.seen:
            share, part = seen["saturated_share"], seen.part
            if part is None or not part.hidden or seen.before or not share > self.threshold:
                continue
            severity = None if view.step <= self.warns_until else "info"
            remedy = f"{use(part)}, inputs of stddev 1"
            yield Offence(seen.layer, share, seen.order, severity=severity, remedy=remedy)
