"""Rules on the start of training: kernels and the first loss."""

from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import reinitialize_code
from keras_winit.monitor.diagnosis.rules.run_view import View, Weight
from keras_winit.monitor.diagnosis.rules.scheme_advice import scheme_advice


def _anew(weight: Weight) -> str:
    return f"draw its weights anew: {reinitialize_code(weight.layer)}"


def _may_repeat(weight: Weight) -> bool:
    """Return whether equal units are intended, or harmless as in an output layer."""
    return weight.kernel.repeats_units or not weight.part.hidden


def _is_zero_recurrence(view: View, weight: Weight) -> bool:
    """Return whether a weight is of a recurrent layer whose kernels are all zero."""
    kernels = [other for other in view.kernels if other.layer == weight.layer]
    is_recurrent = any(other.kernel.role == "recurrent" for other in kernels)
    return is_recurrent and all(other["weight_norm"] == 0 for other in kernels)


@dataclass(frozen=True)
class ConstantUnits(Rule):
    """Reports kernels whose units start equal."""

    id = "constant_units"
    predicate = "has equal units"
    severity = "error"
    statistic = "weight_repeated"
    fires = (
        "the share of units that repeat another unit reaches the threshold in a hidden kernel "
        "that is not all zero, or in a recurrent layer whose kernels are all zero"
    )
    applies = "hidden kernels at step 0; not schemes that repeat units on purpose, such as ICNR"
    healthy = "0"
    cause = (
        "units with equal weights compute the same output, and stay equal unless something tells "
        "them apart"
    )
    remedy = "draw the weights anew: `keras_winit.reinitialize(model)`"
    origin = "healthy kernels have 0; a kernel with half of its units equal has just under 0.5"
    threshold: float = 0.3
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Violation]:
        for weight in view.kernels:
            share = weight["weight_repeated"]
            can_tell = weight["weight_norm"] > 0 or _is_zero_recurrence(view, weight)
            if not _may_repeat(weight) and can_tell and share >= self.threshold:
                cause = f"{share:.0%} of the units of {weight.kernel.name!r} repeat another unit"
                yield Violation(
                    weight.layer,
                    share,
                    weight.order,
                    cause=f"{cause}: {self.cause}",
                    remedy=scheme_advice(weight.layer, weight.part, _anew(weight)),
                )


@dataclass(frozen=True)
class SymmetricUnits(Rule):
    """Reports kernels whose units are equal and learn the same."""

    id = "symmetric_units"
    predicate = "has units that learn the same"
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
        "draw the weights anew: `keras_winit.reinitialize(model)`; use zeros only in output layers "
        "and at the ends of residual branches"
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
                    remedy=scheme_advice(weight.layer, weight.part, _anew(weight)),
                )


@dataclass(frozen=True)
class BadInitialLoss(Rule):
    """Reports a first loss far above that of equal guesses."""

    id = "bad_initial_loss"
    predicate = "is too high at the first step"
    statistic = "loss"
    fires = (
        "the first loss exceeds the threshold times log(classes), the loss of equal guesses; or "
        "exceeds 12 and 1.25 times log(classes)"
    )
    applies = "cross-entropy without penalties or sample weights, at step 0"
    healthy = "0.97 .. 2.5 times log(classes)"
    cause = "the untrained model is confident and wrong"
    remedy = (
        "start the output layer from zeros: `keras_winit.reinitialize(model, 'winit>zeros', "
        "layers=model.layers[-1])`"
    )
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
            yield Violation(
                "loss",
                ratio,
                len(view.rows),
                threshold=limit,
                cause=cause,
                remedy=self._remedy(view),
            )

    def _remedy(self, view: View) -> str | None:
        ends = [weight.layer for weight in view.kernels if not weight.part.hidden]
        if not ends:
            return None
        code = reinitialize_code(ends[-1]).replace("(model, ", '(model, "winit>zeros", ')
        return f"start the output layer from zeros: {code}"
