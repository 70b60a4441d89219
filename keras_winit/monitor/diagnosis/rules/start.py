"""Rules on the start of training: inputs, kernels and the first loss."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.run_view import Row, View, Weight
from keras_winit.monitor.diagnosis.rules.scheme_advice import scheme_advice


def _may_repeat(weight: Weight) -> bool:
    """Return whether equal units are intended, or harmless as in an output layer."""
    return weight.kernel.repeats_units or not weight.part.hidden


@dataclass(frozen=True)
class ConstantUnits(Rule):
    """Reports kernels whose units start equal."""

    id = "constant_units"
    severity = "error"
    statistic = "weight_repeated"
    fires = (
        "the share of units that repeat another unit reaches the threshold in a hidden kernel "
        "that is not all zero"
    )
    applies = "hidden kernels at step 0; not schemes that repeat units on purpose, such as ICNR"
    healthy = "0"
    cause = (
        "units with equal weights compute the same output, and stay equal unless something tells "
        "them apart"
    )
    remedy = "initialize the kernel with a random scheme"
    origin = "healthy kernels have 0; a kernel with half of its units equal has just under 0.5"
    threshold: float = 0.3
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Violation]:
        for weight in view.kernels:
            share = weight["weight_repeated"]
            if not _may_repeat(weight) and weight["weight_norm"] > 0 and share >= self.threshold:
                cause = f"{share:.0%} of the units of {weight.kernel.name!r} repeat another unit"
                yield Violation(
                    weight.layer,
                    share,
                    weight.order,
                    cause=f"{cause}: {self.cause}",
                    remedy=scheme_advice(weight.part),
                )


@dataclass(frozen=True)
class SymmetricUnits(Rule):
    """Reports kernels whose units are equal and learn the same."""

    id = "symmetric_units"
    severity = "error"
    statistic = "gradient_repeated"
    fires = (
        "the share of units that repeat another unit reaches the threshold both in a hidden "
        "kernel and in its gradient"
    )
    applies = "hidden kernels; not zeros in output layers or at the ends of residual branches"
    healthy = "0"
    cause = "nothing tells the units apart, so they all learn the same, or nothing"
    remedy = (
        "initialize the kernel with a random scheme; use zeros only in output layers and at the "
        "ends of residual branches"
    )
    origin = (
        "as for constant_units; kernel and gradient must both repeat, because a kernel of zeros "
        "is right in an output layer"
    )
    threshold: float = 0.3
    persistence: int = 3

    def check(self, view: View) -> Iterator[Violation]:
        for weight in view.kernels:
            share = min(weight["weight_repeated"], weight["gradient_repeated"])
            if not _may_repeat(weight) and share >= self.threshold:
                # A kernel of zeros without a gradient will never get one.
                stuck = weight["gradient_norm"] == weight["weight_norm"] == 0
                cause = (
                    f"{share:.0%} of the units of {weight.kernel.name!r} repeat another unit, and "
                    f"so do their gradients: {self.cause}"
                )
                yield Violation(
                    weight.layer,
                    share,
                    weight.order,
                    persistence=2 if stuck else None,
                    cause=cause,
                    remedy=scheme_advice(weight.part),
                )


@dataclass(frozen=True)
class InputScale(Rule):
    """Reports inputs far from zero mean and unit variance."""

    id = "input_scale"
    severity = "info"
    statistic = "mean, stddev"
    fires = (
        "the root mean square of an input, over all records so far, exceeds the threshold, a "
        "warning above 30; or, over 3 records, its |mean| exceeds 5 and 3 standard deviations"
    )
    applies = (
        "inputs of models in which a kernel takes an input without normalization; not what an "
        "embedding looks up"
    )
    healthy = "root mean square near 1"
    cause = "the inputs are far from mean 0 and standard deviation 1, like pixels from 0 to 255"
    remedy = (
        "scale the data, or start the model with `keras.layers.Rescaling` or "
        "`keras.layers.Normalization`"
    )
    origin = (
        "theory: inputs of size s allow a learning rate 1 / s**2 times as high, 1 / 100 for 10 "
        "and 1 / 1000 for 30; sorted rows of standardized data have |mean| < 5 in every batch"
    )
    threshold: float = 10.0
    warns: float = 30.0
    offset: float = 3.0
    least_mean: float = 5.0
    offset_persistence: int = 3

    def check(self, view: View) -> Iterator[Violation]:
        raw = [part for part in view.model.parts.values() if part.takes_raw_input]
        looks_up = any(part.is_embedding for part in raw)
        if all(part.is_embedding for part in raw):
            return
        for row in view.inputs:
            mean, stddev = _pooled_moments(view, row.layer)
            size = math.hypot(mean, stddev)
            is_large = size > self.threshold
            is_offset = abs(mean) > max(self.least_mean, self.offset * stddev)
            if (is_large or is_offset) and not (looks_up and _may_be_indices(row)):
                cause = (
                    f"the data of {row.layer!r} have mean {mean:.3g} and standard deviation "
                    f"{stddev:.3g}; initializers expect about 0 and 1"
                )
                yield Violation(
                    row.layer,
                    size,
                    -1,
                    threshold=self.threshold if is_large else self.least_mean,
                    severity="warning" if size > self.warns else None,
                    persistence=None if is_large else self.offset_persistence,
                    cause=cause,
                )


def _pooled_moments(view: View, name: str) -> tuple[float, float]:
    """Return mean and standard deviation of an input over all records; one batch may be sorted."""
    means, variances = [], []
    for record in view.records:
        if name in record.inputs and {"mean", "stddev"} <= set(record.statistics):
            values = record.input_values[record.inputs.index(name)].tolist()
            mean, stddev = (values[record.statistics.index(s)] for s in ("mean", "stddev"))
            if math.isfinite(mean) and math.isfinite(stddev):
                means.append(mean)
                variances.append(stddev**2)
    if not means:
        return math.nan, math.nan
    return statistics.fmean(means), math.sqrt(
        statistics.fmean(variances) + statistics.pvariance(means)
    )


def _may_be_indices(row: Row) -> bool:
    """Return whether an input may hold rows of an embedding, which are looked up by number."""
    return row["min"] >= 0 and row["min"].is_integer() and row["max"].is_integer()


@dataclass(frozen=True)
class BadInitialLoss(Rule):
    """Reports a first loss far above that of equal guesses."""

    id = "bad_initial_loss"
    statistic = "loss"
    fires = (
        "the first loss exceeds the threshold times log(classes), the loss of equal guesses; or "
        "exceeds 12 and 1.25 times log(classes)"
    )
    applies = "cross-entropy without penalties or sample weights, at step 0"
    healthy = "0.97 .. 2.5 times log(classes)"
    cause = "the untrained model is confident and wrong"
    remedy = 'set kernel_initializer="winit>zeros" or a small scheme in the output layer'
    origin = (
        "healthy maximum 4.7, in residual models without normalization; Keras clips "
        "probabilities at 1e-7, so no loss of probabilities exceeds 16"
    )
    threshold: float = 6.0
    most: float = 12.0
    least: float = 1.25
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Violation]:
        expected = view.model.expected_loss
        loss = view.record.loss
        if not expected or loss is None:
            return
        ratio = loss / expected
        limit = min(self.threshold, max(self.most / expected, self.least))
        if ratio > limit:
            cause = (
                f"the first loss is {loss:.3g}, {ratio:.2g} times the {expected:.3g} of equal "
                f"guesses: {self.cause}"
            )
            yield Violation("loss", ratio, len(view.rows), threshold=limit, cause=cause)
