"""Rules on gradients that vanish or explode."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import LOOK
from keras_winit.monitor.diagnosis.rules.run_view import View, Weight
from keras_winit.monitor.diagnosis.rules.scheme_advice import PASS_GRADIENTS, scheme_advice


def _comparable_kernels(view: View) -> list[list[Weight]]:
    """Return groups of kernels to compare: the main path, and each residual branch."""
    groups: dict[int | None, list[Weight]] = {}
    for weight in view.kernels:
        # Scores of attention hardly affect the loss at first.
        if not weight.part.makes_scores:
            groups.setdefault(weight.part.branch, []).append(weight)
    return list(groups.values())


@dataclass(frozen=True)
class VanishingBackward(Rule):
    """Reports kernels that the gradient hardly reaches."""

    id = "vanishing_backward"
    predicate = "has a vanishing gradient"
    severity = "error"
    statistic = "gradient_norm"
    fires = (
        "the norm of a kernel's gradient, relative to the largest, is below the threshold, or all "
        "gradients are zero"
    )
    applies = (
        "kernels that are not all zero, until the loss has nearly vanished; each residual branch "
        "by itself; not attention scores"
    )
    healthy = "0.008 .. 0.94"
    cause = "each layer on the way back from the loss makes the gradient smaller"
    remedy = "draw the weights anew: `keras_winit.reinitialize(model)`"
    origin = "1 % quantile of healthy runs 0.008; AUTOTRAINER's 1e-3 without its absolute bound"
    threshold: float = 1e-3
    persistence: int = 3

    # Remedy if no gradient is left that a scheme could balance.
    blocked: ClassVar[str] = (
        "look for a constant output, a rectifier that is off, a saturated activation or a stopped "
        f"gradient before the loss: {LOOK}"
    )

    # Nothing is left to learn below this share of the first loss, or, if no gradient moves,
    # below this loss: a cross-entropy of probabilities, which Keras clips, ends near it.
    learned: float = 1e-4
    least: float = 2e-7

    def check(self, view: View) -> Iterator[Violation]:
        if self._is_learned(view):
            return
        for group in _comparable_kernels(view):
            norms = [weight["gradient_norm"] for weight in group]
            largest = max((norm for norm in norms if math.isfinite(norm)), default=math.nan)
            for weight, norm in zip(group, norms, strict=True):
                ratio = norm / largest if largest > 0 else norm
                if ratio < self.threshold and weight["weight_norm"] > 0:
                    cause = (
                        f"the gradient of {weight.kernel.name!r} has norm {norm:.2g}, {ratio:.2g} "
                        f"times the largest: {self.cause}"
                        if largest > 0
                        else f"the gradient of {weight.kernel.name!r} is zero, like all others"
                    )
                    remedy = (
                        scheme_advice(weight.layer, weight.part, PASS_GRADIENTS)
                        if largest > 0
                        else self.blocked
                    )
                    yield Violation(weight.layer, ratio, weight.order, cause=cause, remedy=remedy)

    def _is_learned(self, view: View) -> bool:
        """Return whether hardly any loss is left that could make a gradient."""
        first, loss = view.records[0].loss, view.record.loss
        if first is None or loss is None or not loss >= 0:
            return False
        moves = any(norm > 0 for norm in view.by_variable("gradient_norm").values())
        return loss <= self.learned * first or (loss <= self.least and not moves)


@dataclass(frozen=True)
class ExplodingBackward(Rule):
    """Reports gradients that grow on their way back, or from step to step."""

    id = "exploding_backward"
    predicate = "has an exploding gradient"
    statistic = "gradient_norm"
    fires = (
        "the norm of a kernel's gradient exceeds the threshold times the median of all kernels, "
        "or the norm of all gradients exceeds 10 times its median over the last 32 records"
    )
    applies = "kernels; each residual branch by itself; growth over time from 5 records on"
    healthy = "up to 16 times the median"
    cause = "each layer on the way back from the loss makes the gradient larger"
    remedy = (
        "draw the weights anew, lower the learning rate and clip the gradients: "
        "`keras_winit.reinitialize(model)` and "
        "`model.compile(keras.optimizers.Adam(1e-4, clipnorm=1.0), model.loss)`"
    )
    origin = "not calibrated"
    threshold: float = 1e3
    growth: float = 10.0
    window: int = 32
    persistence: int = 3

    def check(self, view: View) -> Iterator[Violation]:
        weights = [weight for weight in view.kernels if math.isfinite(weight["gradient_norm"])]
        if weights:
            yield from self._check_depth(view)
            yield from self._check_time(view, weights)

    def _check_depth(self, view: View) -> Iterator[Violation]:
        for kernels in _comparable_kernels(view):
            group = [weight for weight in kernels if math.isfinite(weight["gradient_norm"])]
            norms = [weight["gradient_norm"] for weight in group]
            median = statistics.median(norms) if norms else 0.0
            for weight, norm in zip(group, norms, strict=True):
                if norm > self.threshold * median > 0:
                    ratio = norm / median
                    cause = (
                        f"the gradient of {weight.kernel.name!r} has norm {norm:.3g}, {ratio:.3g} "
                        f"times the median: {self.cause}"
                    )
                    yield Violation(weight.layer, ratio, weight.order, cause=cause)

    def _check_time(self, view: View, weights: list[Weight]) -> Iterator[Violation]:
        past = [record.gradient_norm for record in view.records[-1 - self.window : -1]]
        past = [norm for norm in past if norm > 0]
        growth = view.record.gradient_norm / statistics.median(past) if len(past) >= 5 else 0.0
        if growth > self.growth:
            largest = max(weights, key=lambda weight: weight["gradient_norm"])
            cause = (
                f"the gradients have grown to {growth:.3g} times their median over the last "
                f"{len(past)} records; that of {largest.kernel.name!r} is the largest"
            )
            yield Violation(
                largest.layer, growth, largest.order, threshold=self.growth, cause=cause
            )
