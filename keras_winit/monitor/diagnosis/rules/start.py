"""Rules on how training starts: inputs, kernels, the first loss; and on what is no number."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Offence, Rule, use
from keras_winit.monitor.diagnosis.rules.view import View, Weight

# Ranges to show before the first layer that is not finite.
SHOWN = 20


@dataclass(frozen=True)
class NonFinite(Rule):
    """NaN or infinite: the first layer in the order of execution."""

    id = "non_finite"
    severity = "error"
    statistic = "nonfinite"
    fires = "any NaN or infinity in an output, a gradient, a weight or the loss"
    healthy = "0"
    cause = "a number is NaN or too large for its type"
    remedy = (
        "a smaller gain, normalized inputs, a lower learning rate, clipping, or softmax and "
        "loss in float32"
    )
    origin = "any is too many; SageMaker Debugger, ExplodingTensor"
    threshold: float = 0.0

    def check(self, view: View) -> Iterator[Offence]:
        for seen in view.inputs:
            if seen["nonfinite"] > self.threshold:
                yield Offence(seen.layer, seen["nonfinite"], -1, cause="the data hold NaN or inf")
        for seen in view.seen:
            if seen["nonfinite"] > self.threshold:
                yield Offence(
                    seen.layer,
                    seen["nonfinite"],
                    seen.order,
                    cause=self._why(view),
                    details=self._ranges(view),
                )
                return
        for weight in view.weights:
            bad = weight["gradient_nonfinite"]
            # Where the loss is scaled, a gradient that overflows only makes the scale smaller.
            if bad > self.threshold and not view.model.scaled_loss:
                cause = f"in a gradient; {self._why(view)}"
                yield Offence(weight.layer, bad, weight.order, cause=cause)
                return
            if "weight_norm" in weight.values and not math.isfinite(weight["weight_norm"]):
                cause = f"in a weight; {self._why(view)}"
                yield Offence(weight.layer, math.inf, weight.order, cause=cause)
                return
        if view.record.loss is not None and not math.isfinite(view.record.loss):
            yield Offence("loss", math.inf, len(view.seen), cause="the loss alone is not finite")

    def _why(self, view: View) -> str:
        if len(view.records) < 2:
            return "it is so from the start: " + self.cause
        ratios = view.column("update_ratio", back=2)
        largest = max((r for r in ratios.values() if math.isfinite(r)), default=0.0)
        if largest > 0.5:
            before = view.records[-2].step
            return f"at step {before} an update was {largest:.2g} times the weights it changed"
        return self.cause

    def _ranges(self, view: View) -> tuple[str, ...]:
        rows = []
        for seen in view.seen:
            rows.append(
                f"{seen.layer}{'.pre' * seen.before} {seen['min']:.4g} .. {seen['max']:.4g}"
            )
            if seen["nonfinite"] > self.threshold:
                break
        return tuple(rows[-SHOWN - 1 :])


@dataclass(frozen=True)
class ConstantUnits(Rule):
    """Units of a kernel that start alike."""

    id = "constant_units"
    severity = "error"
    statistic = "weight_repeated"
    fires = "share of equal units in a hidden kernel that is not all zero"
    applies = "hidden kernels at step 0; not schemes that repeat on purpose, as ICNR"
    healthy = "0"
    cause = "units with equal weights compute the same and, if nothing tells them apart, stay so"
    remedy = "a random scheme"
    origin = "healthy 0; a kernel of two equal halves has just under half"
    threshold: float = 0.3
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Offence]:
        for weight in view.kernels:
            share = weight["weight_repeated"]
            meant = weight.kernel.repeats_units or not weight.part.hidden
            if not meant and weight["weight_norm"] > 0 and share >= self.threshold:
                yield Offence(weight.layer, share, weight.order, remedy=use(weight.part))


@dataclass(frozen=True)
class SymmetricUnits(Rule):
    """Units of a kernel that are alike and learn alike."""

    id = "symmetric_units"
    severity = "error"
    statistic = "gradient_repeated"
    fires = "share of equal units in a hidden kernel and in its gradient as well"
    applies = "hidden kernels; not zero heads, nor zero ends of residual branches"
    healthy = "0"
    cause = "nothing tells the units apart, so that all learn the same, or nothing"
    remedy = "a random scheme; zeros only for heads and for the ends of residual branches"
    origin = "as constant_units; both kernel and gradient, since a zero head is right"
    threshold: float = 0.3
    persistence: int = 3

    def check(self, view: View) -> Iterator[Offence]:
        for weight in view.kernels:
            share = min(weight["weight_repeated"], weight["gradient_repeated"])
            meant = weight.kernel.repeats_units or not weight.part.hidden
            if not meant and share >= self.threshold:
                # Zeros that get no gradient will not get one.
                soon = 2 if weight["gradient_norm"] == weight["weight_norm"] == 0 else None
                yield Offence(
                    weight.layer, share, weight.order, persistence=soon, remedy=use(weight.part)
                )


@dataclass(frozen=True)
class InputScale(Rule):
    """Inputs far from zero mean and unit variance."""

    id = "input_scale"
    severity = "info"
    statistic = "stddev"
    fires = "standard deviation of an input, or |mean| above 3 of them"
    applies = "inputs that reach a kernel without normalization"
    healthy = "mean near 0, stddev near 1"
    cause = "inputs are far from mean 0 and stddev 1, as pixels from 0 to 255"
    remedy = 'scale the data, or put `keras.layers.Rescaling` or "Normalization" first'
    origin = "10 times what initializers expect; not calibrated"
    threshold: float = 10.0
    offset: float = 3.0

    def check(self, view: View) -> Iterator[Offence]:
        if not any(part.takes_raw_input for part in view.model.parts.values()):
            return
        for seen in view.inputs:
            stddev, mean = seen["stddev"], seen["mean"]
            if stddev > self.threshold or abs(mean) > self.offset * stddev > 0:
                cause = f"{self.cause}: mean {mean:.3g}, stddev {stddev:.3g}"
                yield Offence(seen.layer, stddev, -1, cause=cause)


@dataclass(frozen=True)
class BadInitialLoss(Rule):
    """A first loss far above that of a guess."""

    id = "bad_initial_loss"
    statistic = "loss"
    fires = "first loss over that of an equal guess, log(classes); or above 12, and 1.25 times it"
    applies = "cross-entropy without penalties or weights of samples, step 0"
    healthy = "0.97 .. 2.5 times"
    cause = "before it has learned anything the model is sure, and wrong"
    remedy = 'a small or zero output kernel: kernel_initializer="winit>zeros"'
    origin = (
        "healthy maximum 4.7, of residual models without normalization; of probabilities, which "
        "Keras clips at 1e-7, no loss is above 16"
    )
    threshold: float = 6.0
    most: float = 12.0
    least: float = 1.25
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Offence]:
        expected = view.model.expected_loss
        loss = view.record.loss
        if not expected or loss is None:
            return
        limit = min(self.threshold, max(self.most / expected, self.least))
        if loss / expected > limit:
            yield Offence("loss", loss / expected, len(view.seen), threshold=limit)


@dataclass(frozen=True)
class WrongInit(Rule):
    """A kernel whose variance fits neither fan nor activation."""

    id = "wrong_init_for_activation"
    severity = "info"
    statistic = "weight_norm"
    fires = "variance of a kernel over the nearest that keeps a signal; warning beyond 10"
    applies = (
        "kernels of known layers at step 0; residual branches may have less, and heads: info; "
        "before normalization an info"
    )
    healthy = "1/2.7 .. 2.7"
    cause = "its variance fits neither its fans nor its activation"
    remedy = "the scheme for the activation"
    origin = "2.7 passes Glorot where gain**2 / fan_in is 2.5 times as much"
    threshold: float = 2.7
    warns: float = 10.0
    last_step: int | None = 0

    def check(self, view: View) -> Iterator[Offence]:
        for weight in view.kernels:
            ratio = self._ratio(weight)
            if ratio is None or 1 / self.threshold <= ratio <= self.threshold:
                continue
            far = not 1 / self.warns <= ratio <= self.warns
            exempt = weight.part.normalized or (ratio < 1 and not weight.part.hidden)
            stddev = weight["weight_norm"] / math.sqrt(weight.kernel.size)
            low, high = (math.sqrt(v) for v in weight.kernel.variances or (0, 0))
            cause = f"stddev {stddev:.3g} of {weight.kernel.name!r}; {low:.3g} .. {high:.3g} fit"
            yield Offence(
                weight.layer,
                ratio,
                weight.order,
                threshold=1 / self.threshold if ratio < 1 else self.threshold,
                severity="warning" if far and not exempt else "info",
                cause=cause,
                remedy=use(weight.part),
            )

    def _ratio(self, weight: Weight) -> float | None:
        """To the nearest of the variances that fit; None if there is nothing to say."""
        fits, kernel = weight.kernel.variances, weight.kernel
        if fits is None or not weight["weight_norm"] > 0:
            return None
        variance = weight["weight_norm"] ** 2 / kernel.size
        ratio = variance / min(max(variance, fits[0]), fits[1])
        # Less of a recurrent kernel, or of a branch, is a choice, and a stable one.
        chosen = kernel.role == "recurrent" or weight.part.branch is not None
        return None if chosen and ratio < 1 else ratio
