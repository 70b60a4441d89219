"""Rules on the start of training: inputs, kernels and the first loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.run_view import View, Weight
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
    statistic = "stddev"
    fires = (
        "the standard deviation of an input exceeds the threshold, or its |mean| exceeds 3 "
        "standard deviations"
    )
    applies = "inputs of models in which a kernel takes an input without normalization"
    healthy = "mean near 0, standard deviation near 1"
    cause = "the inputs are far from mean 0 and standard deviation 1, like pixels from 0 to 255"
    remedy = (
        "scale the data, or start the model with `keras.layers.Rescaling` or "
        "`keras.layers.Normalization`"
    )
    origin = "10 times the standard deviation that initializers expect; not calibrated"
    threshold: float = 10.0
    offset: float = 3.0

    def check(self, view: View) -> Iterator[Violation]:
        if not any(part.takes_raw_input for part in view.model.parts.values()):
            return
        for row in view.inputs:
            stddev, mean = row["stddev"], row["mean"]
            if stddev > self.threshold or abs(mean) > self.offset * stddev > 0:
                cause = (
                    f"the data of {row.layer!r} have mean {mean:.3g} and standard deviation "
                    f"{stddev:.3g}; initializers expect about 0 and 1"
                )
                yield Violation(row.layer, stddev, -1, cause=cause)


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


@dataclass(frozen=True)
class WrongInit(Rule):
    """Reports kernels whose variance fits neither their fans nor their activation."""

    id = "wrong_init_for_activation"
    severity = "info"
    statistic = "weight_norm"
    fires = (
        "the variance of a kernel differs from the nearest variance that keeps a signal by more "
        "than the factor of the threshold, or, for a small kernel, by more than chance allows; a "
        "warning above a factor of 10"
    )
    applies = (
        "kernels with known fans at step 0, unless a normalization follows; recurrent kernels and "
        "residual branches may be smaller; only an info for output layers and in models with "
        "attention that start from a small standard deviation of about 0.02"
    )
    healthy = "1/2.7 .. 2.7"
    cause = "the variance of the kernel fits neither its fans nor its activation"
    remedy = "use the scheme that fits the activation"
    origin = (
        "2.7 accepts Glorot where gain**2 / fan_in is 2.5 times its variance; of normal entries, "
        "1 kernel in 1000 passes the limits of chance"
    )
    threshold: float = 2.7
    warns: float = 10.0
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Violation]:
        small_by_custom = any(part.makes_scores for part in view.model.parts.values())
        for weight in view.kernels:
            ratio = self._ratio(weight)
            if ratio is None:
                continue
            least, most = _limits_of_chance(weight.kernel.size)
            low, high = min(1 / self.threshold, least), max(self.threshold, most)
            if low <= ratio <= high:
                continue
            far = not min(1 / self.warns, least) <= ratio <= max(self.warns, most)
            is_choice = not weight.part.hidden or (small_by_custom and _is_custom(weight))
            yield Violation(
                weight.layer,
                ratio,
                weight.order,
                threshold=low if ratio < 1 else high,
                severity="warning" if far and not (ratio < 1 and is_choice) else "info",
                cause=_stddev_mismatch(weight),
                remedy=scheme_advice(weight.part),
            )

    def _ratio(self, weight: Weight) -> float | None:
        """Return the variance over the nearest fitting one; None if the rule does not apply."""
        fitting, kernel = weight.kernel.variances, weight.kernel
        # A normalization undoes the size of what it takes.
        if fitting is None or weight.part.normalized or not weight["weight_norm"] > 0:
            return None
        variance = weight["weight_norm"] ** 2 / kernel.size
        ratio = variance / min(max(variance, fitting[0]), fitting[1])
        # A small recurrent kernel or residual branch is a deliberate and stable choice.
        may_be_small = kernel.role == "recurrent" or weight.part.branch is not None
        return None if may_be_small and ratio < 1 else ratio


# Transformers start from 0.02 (BERT, GPT-2), some from half or twice of it.
CUSTOMARY_STDDEV = 0.01, 0.04


def _is_custom(weight: Weight) -> bool:
    least, most = CUSTOMARY_STDDEV
    return least <= weight["weight_norm"] / math.sqrt(weight.kernel.size) <= most


def _limits_of_chance(entries: int) -> tuple[float, float]:
    """Return limits of the mean square of N(0, 1) entries that 1 in 1000 kernels passes.

    It is a chi-square variable over its degrees of freedom, whose cube root is nearly normal
    (Wilson and Hilferty 1931). The limits err on the safe side. Other schemes have shorter tails.
    """
    center, spread = 1 - 2 / (9 * entries), NormalDist().inv_cdf(1 - 0.0005)
    spread *= math.sqrt(2 / (9 * entries))
    return max(center - spread, 0.0) ** 3, (center + spread) ** 3


def _stddev_mismatch(weight: Weight) -> str:
    stddev = weight["weight_norm"] / math.sqrt(weight.kernel.size)
    low, high = (f"{math.sqrt(variance):.3g}" for variance in weight.kernel.variances or (0, 0))
    needed = low if low == high else f"{low} to {high}"
    return (
        f"{weight.kernel.name!r} has standard deviation {stddev:.3g}; its fans and activation "
        f"need {needed}"
    )
