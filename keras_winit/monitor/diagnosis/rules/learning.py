"""Rules on gradients and on the updates that come of them."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Offence, Rule, use
from keras_winit.monitor.diagnosis.rules.view import View, Weight


def _by_branch(view: View) -> list[list[Weight]]:
    """Kernels that may be compared: of the main path, and of each residual branch."""
    groups: dict[int | None, list[Weight]] = {}
    for weight in view.kernels:
        # What chooses whom to attend to hardly matters at first.
        if weight.part.activation != "softmax" or not weight.part.hidden:
            groups.setdefault(weight.part.branch, []).append(weight)
    return list(groups.values())


@dataclass(frozen=True)
class VanishingBackward(Rule):
    """A gradient that does not reach a layer."""

    id = "vanishing_backward"
    severity = "error"
    statistic = "gradient_norm"
    fires = "norm of a kernel's gradient, as a share of the largest; or all are zero"
    applies = "kernels that are not zero, while there is a loss; a residual branch by itself"
    healthy = "0.008 .. 0.94"
    cause = "each layer on the way back makes the gradient smaller"
    remedy = "a scheme for the activation"
    origin = "healthy 1 % quantile .008; AUTOTRAINER's 1e-3 without its absolute bound"
    threshold: float = 1e-3
    persistence: int = 3

    # Of the first loss; and what is left of a cross-entropy where Keras clips probabilities.
    learned: float = 1e-4
    least: float = 2e-7

    def check(self, view: View) -> Iterator[Offence]:
        if self._nothing_left(view):
            return
        for group in _by_branch(view):
            norms = [weight["gradient_norm"] for weight in group]
            largest = max((norm for norm in norms if math.isfinite(norm)), default=math.nan)
            for weight, norm in zip(group, norms, strict=True):
                ratio = norm / largest if largest > 0 else norm
                if ratio < self.threshold and weight["weight_norm"] > 0:
                    yield Offence(weight.layer, ratio, weight.order, remedy=use(weight.part))

    def _nothing_left(self, view: View) -> bool:
        """Whether all has been learned that there was to learn."""
        first, loss = view.records[0].loss, view.record.loss
        if first is None or loss is None or not loss >= 0:
            return False
        moves = any(norm > 0 for norm in view.column("gradient_norm").values())
        return loss <= self.learned * first or (loss <= self.least and not moves)


@dataclass(frozen=True)
class ExplodingBackward(Rule):
    """A gradient that grows on its way back, or from step to step."""

    id = "exploding_backward"
    statistic = "gradient_norm"
    fires = (
        "norm of a kernel's gradient over the median of all; or all 10 times their running median"
    )
    applies = "kernels; a residual branch by itself; over time from 5 watched steps on"
    healthy = "up to 16 times"
    cause = "each layer on the way back makes the gradient larger"
    remedy = "clipping, a lower learning rate, a smaller gain, orthogonal recurrent kernels"
    origin = "not calibrated"
    threshold: float = 1e3
    growth: float = 10.0
    window: int = 32
    persistence: int = 3

    def check(self, view: View) -> Iterator[Offence]:
        weights = [w for w in view.kernels if math.isfinite(w["gradient_norm"])]
        if not weights:
            return
        for group in _by_branch(view):
            group = [weight for weight in group if math.isfinite(weight["gradient_norm"])]
            norms = [weight["gradient_norm"] for weight in group]
            middle = statistics.median(norms) if norms else 0.0
            for weight, norm in zip(group, norms, strict=True):
                if norm > self.threshold * middle > 0:
                    yield Offence(weight.layer, norm / middle, weight.order)
        past = [record.gradient_norm for record in view.records[-1 - self.window : -1]]
        past = [norm for norm in past if norm > 0]
        growth = view.record.gradient_norm / statistics.median(past) if len(past) >= 5 else 0.0
        if growth > self.growth:
            largest = max(weights, key=lambda weight: weight["gradient_norm"])
            yield Offence(
                largest.layer,
                growth,
                largest.order,
                threshold=self.growth,
                cause="gradients have grown from step to step",
            )


@dataclass(frozen=True)
class UpdateTooLarge(Rule):
    """Updates that leave little of the weights."""

    id = "update_too_large"
    statistic = "update_ratio"
    fires = "norm of an update over that of the kernel, or what fits it; at once above 0.5"
    applies = "kernels that did not start at zero, or of which it is known what fits"
    healthy = "3.7e-5 .. 6.4e-2"
    cause = "a step changes a good part of what the kernel is"
    remedy = "a lower learning rate, or a warm-up"
    origin = "healthy 99 % quantile .064"
    threshold: float = 0.1
    persistence: int = 3
    at_once: float = 0.5

    def check(self, view: View) -> Iterator[Offence]:
        for weight in view.kernels:
            ratio = self._ratio(weight)
            if ratio > self.at_once:
                yield Offence(
                    weight.layer, ratio, weight.order, threshold=self.at_once, persistence=1
                )
            elif ratio > self.threshold:
                yield Offence(weight.layer, ratio, weight.order)

    def _ratio(self, weight: Weight) -> float:
        """To the kernel as it is, or as it should be if it is smaller."""
        if weight.kernel.variances is None:
            return math.nan if weight.started_at_zero else weight["update_ratio"]
        usual = math.sqrt(weight.kernel.size * weight.kernel.variances[0])
        return weight["update_norm"] / max(weight["weight_norm"], usual)


@dataclass(frozen=True)
class UpdateFrozen(Rule):
    """A kernel that does not learn while others do."""

    id = "update_frozen"
    statistic = "update_ratio"
    fires = "norm of an update over that of the kernel, while others have a hundred times it"
    applies = (
        "trainable kernels, and other weights with two axes that get none at all; not between "
        "the updates of accumulated gradients"
    )
    healthy = "3.7e-5 .. 6.4e-2"
    cause = "no gradient reaches the layer"
    remedy = "look for dead or saturated layers behind it, a stopped gradient, an unused output"
    origin = "a hundredth of the healthy 1 % quantile; not calibrated"
    threshold: float = 1e-7
    persistence: int = 3

    def check(self, view: View) -> Iterator[Offence]:
        ratios = [self._ratio(weight) for weight in view.weights]
        moving = max((ratio for ratio in ratios if math.isfinite(ratio)), default=0.0)
        # If all stand still the rate is low, or gradients are being collected.
        if moving < 100 * self.threshold:
            return
        for weight, ratio in zip(view.weights, ratios, strict=True):
            # How small an update may be nobody knows of a weight of unknown use.
            slow = ratio < self.threshold if weight.multiplies else ratio == 0
            if slow and weight["weight_norm"] > 0:
                cause = None if ratio == 0 else "what reaches the layer is too little to move it"
                yield Offence(weight.layer, ratio, weight.order, cause=cause)

    def _ratio(self, weight: Weight) -> float:
        return 0.0 if weight["update_norm"] == 0 else weight["update_ratio"]
