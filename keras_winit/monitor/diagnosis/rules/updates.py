"""Rules on the updates of kernels: those that are too large, and those that are missing."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import WHERE_IT_ENDS, freeze, lower_rate
from keras_winit.monitor.diagnosis.rules.run_view import Row, View, Weight


@dataclass(frozen=True)
class UpdateTooLarge(Rule):
    """Reports updates that leave little of a kernel, or nothing of the units behind it."""

    id = "update_too_large"
    predicate = "has updates that are too large"
    statistic = "update_ratio"
    fires = (
        "the norm of an update, relative to the norm of the kernel or to the norm that fits its "
        "fans, whichever is larger, exceeds the threshold; above 0.5 at once; in LSTM and GRU "
        "layers 2.5 times as much; above 0.03 if 90 % of the units of a rectifier have died since"
    )
    applies = "kernels that did not start at zero, or whose fitting norm is known"
    healthy = "3.7e-5 .. 6.4e-2; up to 0.2, and 0.48 in LSTM and GRU layers, at high rates"
    cause = "one step changes a large part of the kernel"
    remedy = "lower the learning rate: `model.compile(keras.optimizers.Adam(1e-4), model.loss)`"
    origin = (
        "small models over rates of SGD with momentum, Adam and RMSprop: MLPs, SimpleRNN and "
        "batch normalization train up to 0.2 and fail from 0.27 on, LSTM trains up to 0.48; "
        "updates of 0.2 in random directions replace a kernel in 25 steps"
    )
    threshold: float = 0.2
    persistence: int = 3
    at_once: float = 0.5
    gated: float = 2.5

    # Smallest update that may have killed units, and the share of them that died since.
    kills: float = 0.03
    dead: float = 0.9
    alive: float = 0.5

    def check(self, view: View) -> Iterator[Violation]:
        yield from self._check_size(view)
        yield from self._check_deaths(view)

    def _check_size(self, view: View) -> Iterator[Violation]:
        for weight in view.kernels:
            ratio = self._ratio(weight)
            scale = self.gated if _is_gated(weight) else 1.0
            huge = ratio > self.at_once * scale
            if not (huge or ratio > self.threshold * scale):
                continue
            is_small = weight["weight_norm"] < (weight.fitting_norm or 0.0)
            reference = "a kernel of fitting size" if is_small else "the kernel itself"
            yield Violation(
                weight.layer,
                ratio,
                weight.order,
                threshold=(self.at_once if huge else self.threshold) * scale,
                persistence=1 if huge else None,
                cause=f"an update of {weight.kernel.name!r} has {ratio:.2g} times the norm of "
                f"{reference}: {self.cause}",
                remedy=lower_rate(view, ratio),
            )

    def _check_deaths(self, view: View) -> Iterator[Violation]:
        """Yield the kernel with the largest update, if units have died since."""
        row = next((row for row in self._died(view)), None)
        if row is None:
            return
        updates = [
            (ratio, record.step, weight)
            for record in view.records[:-1]
            for weight in View([view.records[0], record], view.model).kernels
            if math.isfinite(ratio := self._ratio(weight))
        ]
        ratio, step, weight = max(updates, key=lambda one: one[0], default=(0.0, 0, None))
        if weight is not None and ratio > self.kills:
            cause = (
                f"an update of {weight.kernel.name!r} had {ratio:.2g} times its norm, and by now "
                f"{row['dead_share']:.0%} of the units of layer {row.layer!r} have died"
            )
            yield Violation(
                weight.layer,
                ratio,
                weight.order,
                since=step,
                threshold=self.kills,
                persistence=min(2, self.persistence),
                cause=cause,
                remedy=f"{lower_rate(view, ratio)} and `keras_winit.reinitialize(model)`",
            )

    def _died(self, view: View) -> Iterator[Row]:
        """Yield hidden layers of which most units are dead that were alive in the first record."""
        first = view.records[0]
        for name, row in zip(view.record.layers, view.rows, strict=True):
            hidden = row.part is not None and row.part.hidden
            if hidden and not row.pre_activation and row["dead_share"] >= self.dead:
                share = first.lookup(name, "dead_share")
                if share is not None and share <= self.alive:
                    yield row

    def _ratio(self, weight: Weight) -> float:
        fitting_norm = weight.fitting_norm
        if fitting_norm is None:
            return math.nan if weight.started_at_zero else weight["update_ratio"]
        return weight["update_norm"] / max(weight["weight_norm"], fitting_norm)


def _is_gated(weight: Weight) -> bool:
    """Return whether the layer is recurrent with gates, as LSTM and GRU, which bound its state.

    Its recurrent kernel is square for each gate, with a fitting variance of 1 / units.
    """
    recurrent = [kernel for kernel in weight.part.kernels if kernel.role == "recurrent"]
    return any(
        kernel.variances and kernel.size * kernel.variances[0] ** 2 > 1 for kernel in recurrent
    )


@dataclass(frozen=True)
class UpdateFrozen(Rule):
    """Reports weights that do not learn while others do."""

    id = "update_frozen"
    predicate = "is not updated"
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
        "draw dead and saturated layers between it and the loss anew: "
        "`keras_winit.reinitialize(model)`"
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
                remedy = f"{self.remedy}; or, {freeze(view, weight.layer)}; {WHERE_IT_ENDS}"
                yield Violation(weight.layer, ratio, weight.order, cause=cause, remedy=remedy)

    def _ratio(self, weight: Weight) -> float:
        return 0.0 if weight["update_norm"] == 0 else weight["update_ratio"]
