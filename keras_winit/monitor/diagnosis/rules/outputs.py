"""Rules on the outputs of a model: constant outputs, targets of another scale, a constant loss."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import LAST_EARLY_STEP, Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import STANDARDIZE
from keras_winit.monitor.diagnosis.rules.run_view import Row, View


def _final_outputs(view: View) -> list[Row]:
    return [row for row in view.outputs if row.part is not None and not row.part.hidden]


def _size(row: Row) -> float:
    """Return the root mean square of a row."""
    return math.hypot(row["mean"], row["stddev"])


@dataclass(frozen=True)
class ConstantOutput(Rule):
    """Reports output layers whose outputs are the same for every sample."""

    id = "constant_output"
    predicate = "has the same output for every sample"
    statistic = "unit_stddev"
    fires = (
        "the standard deviation of the units over the samples, relative to the size of the "
        "output, is below the threshold"
    )
    applies = (
        "layers that no kernel follows, from step 20 on; batches of at least 4 samples whose "
        "inputs and targets vary"
    )
    healthy = "0.002 and more"
    cause = "nothing that the model computes from a sample reaches its output"
    remedy = (
        f"scale the inputs, and train new weights with a lower learning rate: `{STANDARDIZE}`, "
        "`keras_winit.reinitialize(model)` and "
        "`model.compile(keras.optimizers.Adam(1e-4), model.loss)`"
    )
    origin = (
        "between stuck models, 0 .. 6e-5, and the minimum of healthy ones, 0.002; a rounding "
        "error of float32 is 6e-8"
    )
    threshold: float = 1e-3
    persistence: int = 2
    first_step: int = 20

    least_samples: int = 4
    # A regression may vary this little where the targets do, too.
    of_targets: float = 0.1

    def check(self, view: View) -> Iterator[Violation]:
        if _is_constant(view.inputs) or _is_constant(view.targets):
            return
        spread = max((row["unit_stddev"] for row in view.targets), default=math.inf)
        for row in _final_outputs(view):
            if row.unit_samples < self.least_samples:
                continue
            # A flat part of an activation may make it constant though its input varies.
            before = view.pre_activations.get(row.layer, row)
            is_constant = row["unit_stddev"] == 0 or self._ratio(before) < self.threshold
            ratio = self._ratio(row)
            if not (is_constant and ratio < self.threshold):
                continue
            if view.model.is_regression and row["unit_stddev"] > self.of_targets * spread:
                continue
            cause = (
                f"between samples, the outputs of layer {row.layer!r} vary {ratio:.2g} times as "
                f"much as their size: {self.cause}"
            )
            yield Violation(row.layer, ratio, row.order, cause=cause)

    def _ratio(self, row: Row) -> float:
        """Return the variation relative to the size; NaN if all is zero."""
        size = _size(row)
        return row["unit_stddev"] / size if size > 0 else math.nan


def _is_constant(rows: list[Row]) -> bool:
    """Return whether there are rows, and none of them varies."""
    return bool(rows) and all(row["stddev"] == 0 for row in rows)


@dataclass(frozen=True)
class TargetScale(Rule):
    """Reports targets of a regression that are far larger than the outputs."""

    id = "target_scale"
    predicate = "has values far larger than the outputs"
    severity = "info"
    statistic = "mean, stddev"
    fires = (
        "the root mean square of a target exceeds the threshold times that of the output, or "
        "times 1 if that is larger; a warning above 300"
    )
    applies = "models of which every loss is a regression, up to step 12"
    healthy = "near 1"
    cause = "the outputs have to grow far beyond the size that initializers and optimizers expect"
    remedy = (
        "standardize the targets with `y = (y - y.mean()) / y.std()`, and undo it in what the "
        "model predicts"
    )
    origin = (
        "theory: with targets of size s, a step of SGD changes a kernel by about s times the "
        "learning rate, all of it from 100 on at the usual 0.01; a factor of 3 around that"
    )
    threshold: float = 30.0
    warns: float = 300.0
    last_step: int | None = LAST_EARLY_STEP

    def check(self, view: View) -> Iterator[Violation]:
        outputs = _final_outputs(view)
        if not view.model.is_regression or not outputs:
            return
        # Only if there is a single output is it known which output a target belongs to.
        output = max(outputs, key=_size)
        for row in view.targets:
            ratio = _size(row) / max(_size(output), 1.0)
            if ratio > self.threshold:
                cause = (
                    f"{row.layer!r} has mean {row['mean']:.3g} and standard deviation "
                    f"{row['stddev']:.3g}, the outputs of layer {output.layer!r} "
                    f"{output['mean']:.3g} and {output['stddev']:.3g}: {self.cause}"
                )
                severity = "warning" if ratio > self.warns else None
                yield Violation(row.layer, ratio, -1, severity=severity, cause=cause)


@dataclass(frozen=True)
class NothingLearns(Rule):
    """Reports runs in which updates are too small to change anything."""

    id = "nothing_learns"
    predicate = "is not reduced by training"
    statistic = "update_ratio"
    fires = (
        "all updates of all weights, relative to the norm of the weight or to the norm that fits "
        "its fans, whichever is larger, are below the threshold, and the loss is still what it was"
    )
    applies = (
        "runs recorded from step 0 on, at step 50 and later, until the loss is low; not while "
        "gradients are accumulated, vanish, or the updates grow"
    )
    healthy = "3.7e-5 .. 6.4e-2"
    cause = "the learning rate is too low"
    remedy = (
        "raise the learning rate, for example with `model.compile(optimizer="
        "keras.optimizers.Adam(1e-3), loss=model.loss)`"
    )
    origin = (
        "just below the 1 % quantile of single kernels in healthy runs, 3.7e-5; 100 such updates "
        "change a weight by at most 0.3 %"
    )
    threshold: float = 3e-5
    first_step: int = 50

    # The loss has stayed if it is still this share of what it was at first.
    stayed: float = 0.9
    # A weight may have changed its norm by this share.
    changed: float = 3e-3
    # Least change of the loss, relative to the loss, per relative change of a weight.
    sensitivity: float = 0.01
    # Least loss, relative to that of equal guesses, or to the spread of the targets.
    unlearned: float = 0.5
    # Updates that have grown by this factor are being warmed up.
    growth: float = 3.0

    def check(self, view: View) -> Iterator[Violation]:
        if view.records[0].step != 0 or view.model.accumulates:
            return
        if not self._are_tiny(view) or not self._has_stayed(view):
            return
        past = [self._largest_ratio(View([view.records[0], r], view.model)) for r in view.records]
        largest = max(past)
        if largest < self.threshold and past[-1] <= self.growth * past[0]:
            cause = (
                f"in {view.step} steps the loss has stayed at {view.record.loss:.3g}, because "
                f"every update has at most {largest:.2g} times the norm of its weight: {self.cause}"
            )
            rate = _learning_rate(view)
            remedy = self.remedy if rate is None else f"{self.remedy}; it was {rate:.2g}"
            yield Violation("loss", largest, len(view.rows), cause=cause, remedy=remedy)

    def _are_tiny(self, view: View) -> bool:
        """Return whether weights get gradients, but tiny updates, and have kept their norm."""
        loss, sensitivities = abs(view.record.loss or 0.0), [0.0]
        for weight in view.weights:
            size = max(weight["weight_norm"], weight.fitting_norm or 0.0)
            first = weight.first_values.get("weight_norm", math.nan)
            if abs(weight["weight_norm"] - first) > self.changed * size:
                return False
            if weight["gradient_norm"] >= 0:
                sensitivities.append(weight["gradient_norm"] * size)
        return (
            max(sensitivities) > self.sensitivity * loss > 0
            and self._largest_ratio(view) < self.threshold
        )

    def _largest_ratio(self, view: View) -> float:
        """Return the largest relative update; infinite if there is none."""
        ratios = [
            weight["update_norm"] / size
            for weight in view.weights
            if (size := max(weight["weight_norm"], weight.fitting_norm or 0.0)) > 0
        ]
        return max(ratios, default=math.inf)

    def _has_stayed(self, view: View) -> bool:
        losses = [record.loss for record in view.records if record.loss is not None]
        if len(losses) < 6:
            return False
        first, last = statistics.median(losses[:3]), statistics.median(losses[-3:])
        return last >= self.stayed * first and last > self.unlearned * self._chance(view)

    def _chance(self, view: View) -> float:
        """Estimate the loss of a model that ignores its inputs."""
        if view.model.expected_loss:
            return view.model.expected_loss
        spread = max((row["stddev"] for row in view.targets), default=1.0)
        return min(spread, spread**2) if view.model.is_regression else 0.1


def _learning_rate(view: View) -> float | None:
    """Return the learning rate at about the view's step, as the model was compiled."""
    rates = {} if view.model.setup is None else view.model.setup.learning_rates
    return rates[min(rates, key=lambda step: abs(step - view.step))] if rates else None
