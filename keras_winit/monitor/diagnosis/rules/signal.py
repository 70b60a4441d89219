"""Rules on the forward signal: its size, and the units that carry it."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import LAST_EARLY_STEP, Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import reinitialize_code
from keras_winit.monitor.diagnosis.rules.run_view import Row, View
from keras_winit.monitor.diagnosis.rules.scheme_advice import scheme_advice

# In layers of at most this many units, only all of them together can be called dead.
FEW_UNITS = 5

# Probability of a false alarm that rules out chance.
TAIL = 1e-3


def _comparable_rows(view: View) -> Iterator[tuple[Row | None, Sequence[Row]]]:
    """Yield groups of hidden layers whose signals may be compared, each with its input.

    The main path is compared with the model's input if it takes a single input as it is; a
    residual branch is compared with its own first layer.
    """
    groups: dict[int | None, list[Row]] = {}
    for row in view.outputs:
        part = row.part
        if part is not None and part.hidden and not part.is_embedding:
            groups.setdefault(part.branch, []).append(row)
    for branch, group in groups.items():
        first = group[0].part
        single_input = view.inputs[0] if branch is None and len(view.inputs) == 1 else None
        yield (single_input if first is not None and first.takes_raw_input else None), group


def _is_zero(row: Row) -> bool:
    return row["mean"] == 0 and row["stddev"] == 0


@dataclass(frozen=True)
class VanishingForward(Rule):
    """Reports layers whose output no longer tells one sample from another."""

    id = "vanishing_forward"
    predicate = "has a vanishing signal"
    severity = "error"
    statistic = "unit_stddev"
    fires = (
        "the standard deviation of the units over the samples, relative to the first hidden layer "
        "(or, for that layer, to the input), is below the threshold"
    )
    applies = (
        "hidden layers with kernels up to step 12; each residual branch by itself; not before "
        "normalization"
    )
    healthy = "0.064 .. 0.975"
    cause = "each layer shrinks the differences between samples until none are left"
    remedy = "draw the weights anew: `keras_winit.reinitialize(model)`"
    origin = (
        "1 % quantile of healthy runs 0.064; SageMaker's PoorWeightInitialization uses a factor "
        "of 10 per layer"
    )
    threshold: float = 1e-2
    persistence: int = 2
    last_step: int | None = LAST_EARLY_STEP

    def check(self, view: View) -> Iterator[Violation]:
        for input_row, group in _comparable_rows(view):
            reference = math.nan if input_row is None else input_row["unit_stddev"]
            compared_with = "the input"
            for place, row in enumerate(group):
                spread = row["unit_stddev"]
                # With one sample, or equal samples, the units have no spread to lose.
                ratio = spread / reference if reference > 0 else float(not _is_zero(row))
                if ratio < self.threshold and not self._is_exempt(view, row):
                    yield Violation(
                        row.layer,
                        ratio,
                        row.order,
                        cause=self._cause(row, ratio, compared_with),
                        remedy=scheme_advice(row.layer, row.part),
                    )
                if place == 0:
                    reference, compared_with = spread, f"those of layer {row.layer!r}"

    def _cause(self, row: Row, ratio: float, compared_with: str) -> str:
        if _is_zero(row):
            return f"all outputs of layer {row.layer!r} are zero"
        return (
            f"between samples, the outputs of layer {row.layer!r} vary {ratio:.2g} times as much "
            f"as {compared_with}: {self.cause}"
        )

    def _is_exempt(self, view: View, row: Row) -> bool:
        part, weight = row.part, view.weight_of(row.layer)
        if part is None or weight is None:
            return True
        ends_branch_at_zero = part.ends_branch and weight.started_at_zero
        # In a branch a small kernel is a choice: the signal runs along the other path.
        variances, size = weight.kernel.variances, weight.kernel.size
        small = variances is not None and weight["weight_norm"] ** 2 < size * variances[0]
        if part.branch is not None and small and not _is_zero(row):
            return True
        # The rule `dead_units` reports these.
        all_dead = row["dead_share"] >= 0.99 and weight["weight_norm"] > 0
        normalized = part.normalized and row["unit_stddev"] > 0
        return ends_branch_at_zero or all_dead or normalized


@dataclass(frozen=True)
class ExplodingForward(Rule):
    """Reports layers whose signal has grown too large."""

    id = "exploding_forward"
    predicate = "has an exploding signal"
    severity = "error"
    statistic = "stddev"
    fires = (
        "the standard deviation of a pre-activation exceeds the threshold, or 50 times that of "
        "the first hidden layer"
    )
    applies = "hidden layers with kernels up to step 12; not before normalization"
    healthy = "0.07 .. 1.3"
    cause = "each layer makes the signal larger"
    remedy = "draw the weights anew: `keras_winit.reinitialize(model)`"
    origin = "99 % quantile of healthy runs 1.3"
    threshold: float = 100.0
    growth: float = 50.0
    last_step: int | None = LAST_EARLY_STEP

    def check(self, view: View) -> Iterator[Violation]:
        first = math.nan
        for row in view.outputs:
            part = row.part
            if part is None or not part.hidden or part.is_embedding:
                continue
            signal = view.pre_activations.get(row.layer, row)
            stddev = signal["stddev"]
            if math.isnan(first) and stddev > 0:
                first = stddev
            limit = min(self.threshold, self.growth * first)
            if stddev > limit and not part.normalized:
                kind = "pre-activation" if signal.pre_activation else "output"
                cause = f"the {kind} of layer {row.layer!r} has standard deviation {stddev:.3g}"
                in_branch = (
                    "scale the residual branches: `keras_winit.reinitialize(model)`, or normalize "
                    "in them"
                )
                yield Violation(
                    row.layer,
                    stddev,
                    row.order,
                    threshold=limit,
                    cause=f"{cause}: {self.cause}",
                    remedy=scheme_advice(row.layer, part) if part.branch is None else in_branch,
                )


@functools.cache
def most_dead(units: int, share: float) -> int:
    """Return the 99.9 % quantile of Binomial(units, share)."""
    total = 0.0
    for count in range(units + 1):
        ways = math.lgamma(units + 1) - math.lgamma(count + 1) - math.lgamma(units - count + 1)
        total += math.exp(ways + count * math.log(share) + (units - count) * math.log1p(-share))
        if total >= 1 - TAIL:
            return count
    return units


def records_needed(units: int, share: float) -> int:
    """Return in how many records all units together must be dead to rule out chance."""
    return math.ceil(math.log(TAIL) / (units * math.log(share)))


@dataclass(frozen=True)
class DeadUnits(Rule):
    """Reports rectifier units that are zero for the whole batch."""

    id = "dead_units"
    predicate = "has dead units"
    statistic = "dead_share"
    fires = (
        "more units are dead than in 99.9 % of layers whose units die with the probability of the "
        "threshold, or, if it is active for 10 % of the samples only, by chance of the batch; an "
        "error from 99 % of the units on"
    )
    applies = (
        "rectifiers in hidden layers; of at most 5 units all must be dead; the smaller the batch "
        "and the layer, the more steps are required"
    )
    healthy = "0 .. 0.385 with batches of 256"
    cause = "a unit that is zero for every sample gets no gradient, and seldom recovers"
    remedy = (
        "draw the weights anew: `keras_winit.reinitialize(model)`; if units die again, use a lower "
        "learning rate or a leaky activation"
    )
    origin = (
        "theory: with random signs and no biases, a unit is dead as often as it is active for all "
        "samples, so at most 1 / 2 are; training adds to that, 0.70 of 128 units in a model with "
        "accuracy 0.94. A unit that is active for a share p of the samples is off for n of them "
        "with probability (1 - p)**n; positions of one sample are not independent"
    )
    threshold: float = 0.6
    persistence: int = 3

    # Least share of the samples for which a healthy unit is active.
    active: float = 0.1

    def check(self, view: View) -> Iterator[Violation]:
        probability = self._probability(view.batch)
        for row in view.rows:
            dead, share = row["dead_units"], row["dead_share"]
            hidden = row.part is not None and row.part.hidden
            if row.pre_activation or not hidden or not dead * share > 0:
                continue
            units = round(dead / share)
            most = units - 1
            if units > FEW_UNITS:
                most = min(most, most_dead(units, probability))
            weight = view.weight_of(row.layer)
            # The units of a kernel of zeros are dead because of the kernel.
            if dead <= most or (weight is not None and weight["weight_norm"] == 0):
                continue
            all_dead = share >= 0.99
            least = min(2, self.persistence) if all_dead else self.persistence
            again = f"draw its weights anew: {reinitialize_code(row.layer)}"
            cause = f"{dead:.0f} of {units} units of layer {row.layer!r} are zero on this batch"
            yield Violation(
                row.layer,
                share,
                row.order,
                threshold=most / units,
                severity="error" if all_dead else None,
                persistence=max(least, records_needed(units, probability)),
                cause=f"{cause}: {self.cause}",
                remedy=f"{scheme_advice(row.layer, row.part, again)}; if units die again, use "
                "a lower learning rate or a leaky activation",
            )

    def _probability(self, samples: float) -> float:
        """Return the probability that a healthy unit is zero for as many samples, at most."""
        by_chance: float = (1 - self.active) ** max(samples, 1)
        return self.threshold + (1 - self.threshold) * by_chance


@dataclass(frozen=True)
class Saturated(Rule):
    """Reports layers whose pre-activations lie where the activation is flat."""

    id = "saturated"
    predicate = "is saturated"
    statistic = "saturated_share"
    fires = (
        "the share of outputs where the slope of the activation is below 5 % of its steepest "
        "exceeds the threshold; only an info after step 30"
    )
    applies = "hidden layers whose activation is flat somewhere; the zeros of a rectifier excepted"
    healthy = "0 .. 0.06"
    cause = "the pre-activations lie where the activation is flat and passes hardly any gradient"
    remedy = "draw the weights anew: `keras_winit.reinitialize(model)`"
    origin = "far above the 99 % quantile of healthy runs, 0.06, because many layers recover"
    threshold: float = 0.5
    persistence: int = 3
    warns_until: int = 30

    def check(self, view: View) -> Iterator[Violation]:
        for row in view.rows:
            share, part = row["saturated_share"], row.part
            if part is None or not part.hidden or row.pre_activation or not share > self.threshold:
                continue
            cause = (
                f"{share:.0%} of the outputs of layer {row.layer!r} lie where the activation is "
                "flat and passes hardly any gradient"
            )
            yield Violation(
                row.layer,
                share,
                row.order,
                severity=None if view.step <= self.warns_until else "info",
                cause=cause,
                remedy=scheme_advice(row.layer, part),
            )
