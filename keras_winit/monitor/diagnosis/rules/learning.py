"""Rules on gradients, and on the updates that the optimizer makes of them."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.run_view import View, Weight
from keras_winit.monitor.diagnosis.rules.scheme_advice import scheme_advice


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
    remedy = "use the scheme that fits the activation"
    origin = "1 % quantile of healthy runs 0.008; AUTOTRAINER's 1e-3 without its absolute bound"
    threshold: float = 1e-3
    persistence: int = 3

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
                    remedy = scheme_advice(weight.part)
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
    statistic = "gradient_norm"
    fires = (
        "the norm of a kernel's gradient exceeds the threshold times the median of all kernels, "
        "or the norm of all gradients exceeds 10 times its median over the last 32 records"
    )
    applies = "kernels; each residual branch by itself; growth over time from 5 records on"
    healthy = "up to 16 times the median"
    cause = "each layer on the way back from the loss makes the gradient larger"
    remedy = (
        "clip the gradients, lower the learning rate, use a smaller gain, or use orthogonal "
        "recurrent kernels"
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


@dataclass(frozen=True)
class UpdateTooLarge(Rule):
    """Reports updates that leave little of a kernel."""

    id = "update_too_large"
    statistic = "update_ratio"
    fires = (
        "the norm of an update, relative to the norm of the kernel or to the norm that fits its "
        "fans, whichever is larger, exceeds the threshold; above 0.5 at once"
    )
    applies = "kernels that did not start at zero, or whose fitting norm is known"
    healthy = "3.7e-5 .. 6.4e-2"
    cause = "one step changes a large part of the kernel"
    remedy = "lower the learning rate, or warm it up"
    origin = "99 % quantile of healthy runs 0.064"
    threshold: float = 0.1
    persistence: int = 3
    at_once: float = 0.5

    def check(self, view: View) -> Iterator[Violation]:
        for weight in view.kernels:
            fitting_norm = _fitting_norm(weight)
            ratio = self._ratio(weight, fitting_norm)
            huge = ratio > self.at_once
            if not (huge or ratio > self.threshold):
                continue
            is_small = fitting_norm is not None and weight["weight_norm"] < fitting_norm
            reference = "a kernel of fitting size" if is_small else "the kernel itself"
            yield Violation(
                weight.layer,
                ratio,
                weight.order,
                threshold=self.at_once if huge else None,
                persistence=1 if huge else None,
                cause=f"an update of {weight.kernel.name!r} has {ratio:.2g} times the norm of "
                f"{reference}: {self.cause}",
            )

    def _ratio(self, weight: Weight, fitting_norm: float | None) -> float:
        if fitting_norm is None:
            return math.nan if weight.started_at_zero else weight["update_ratio"]
        return weight["update_norm"] / max(weight["weight_norm"], fitting_norm)


def _fitting_norm(weight: Weight) -> float | None:
    """Return the smallest norm that keeps the signal or the gradient; None if unknown."""
    variances = weight.kernel.variances
    return None if variances is None else math.sqrt(weight.kernel.size * variances[0])


@dataclass(frozen=True)
class UpdateFrozen(Rule):
    """Reports weights that do not learn while others do."""

    id = "update_frozen"
    statistic = "update_ratio"
    fires = (
        "the norm of an update, relative to the norm of the kernel, is below the threshold, while "
        "for another kernel it is at least 100 times the threshold"
    )
    applies = (
        "trainable kernels, and other weights with two axes that get no update at all; not "
        "between the updates of accumulated gradients"
    )
    healthy = "3.7e-5 .. 6.4e-2"
    cause = "no gradient reaches the layer"
    remedy = (
        "look between the layer and the loss for dead or saturated layers, a stopped gradient or "
        "an unused output"
    )
    origin = "a hundredth of the 1 % quantile of healthy runs; not calibrated"
    threshold: float = 1e-7
    persistence: int = 3

    def check(self, view: View) -> Iterator[Violation]:
        ratios = [self._ratio(weight) for weight in view.weights]
        largest = max((ratio for ratio in ratios if math.isfinite(ratio)), default=0.0)
        # If all stand still, the learning rate is low or gradients are being accumulated.
        if largest < 100 * self.threshold:
            return
        for weight, ratio in zip(view.weights, ratios, strict=True):
            # For a weight of unknown use there is no telling which updates are too small.
            frozen = ratio < self.threshold if weight.multiplies else ratio == 0
            if frozen and weight["weight_norm"] > 0:
                name = weight.kernel.name
                cause = (
                    f"{name!r} is not updated while others are: {self.cause}"
                    if ratio == 0
                    else f"an update of {name!r} has {ratio:.2g} times its norm: the gradient that "
                    "reaches the layer is too small"
                )
                yield Violation(weight.layer, ratio, weight.order, cause=cause)

    def _ratio(self, weight: Weight) -> float:
        return 0.0 if weight["update_norm"] == 0 else weight["update_ratio"]
