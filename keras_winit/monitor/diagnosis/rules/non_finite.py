"""Rule on numbers that are NaN or infinite."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.run_view import View

# Layers whose ranges are shown before the first layer that is not finite.
RANGES_SHOWN = 20


@dataclass(frozen=True)
class NonFinite(Rule):
    """Reports the first NaN or infinite value in the order of execution."""

    id = "non_finite"
    severity = "error"
    statistic = "nonfinite"
    fires = "an input, a layer output, a gradient, a weight or the loss has NaN or infinite values"
    applies = "every input, and the first affected layer; gradients only if the loss is not scaled"
    healthy = "0"
    cause = "a value became NaN or too large for its data type"
    remedy = (
        "use a smaller gain, normalize the inputs, lower the learning rate, clip the gradients, "
        "or compute softmax and loss in float32"
    )
    origin = "a single non-finite value is too many; SageMaker Debugger, ExplodingTensor"
    threshold: float = 0.0

    def check(self, view: View) -> Iterator[Violation]:
        for row in view.inputs:
            count = row["nonfinite"]
            if count > self.threshold:
                cause = f"the data of {row.layer!r} contain {_non_finite(count)}"
                yield Violation(row.layer, count, -1, cause=cause)
        yield from itertools.islice(
            itertools.chain(
                self._check_rows(view), self._check_weights(view), self._check_loss(view)
            ),
            1,
        )

    def _check_rows(self, view: View) -> Iterator[Violation]:
        for row in view.rows:
            count = row["nonfinite"]
            if count > self.threshold:
                kind = "pre-activation" if row.pre_activation else "output"
                cause = (
                    f"the {kind} of layer {row.layer!r} contains {_non_finite(count)}"
                    f"{_explanation(view)}"
                )
                details = self._ranges(view)
                yield Violation(row.layer, count, row.order, cause=cause, details=details)

    def _check_weights(self, view: View) -> Iterator[Violation]:
        for weight in view.weights:
            name, count = weight.kernel.name, weight["gradient_nonfinite"]
            # While the optimizer searches for a scale of the loss, a gradient that overflows
            # only makes the scale smaller.
            if count > self.threshold and not view.model.scaled_loss:
                cause = (
                    f"the gradient of {name!r} contains {_non_finite(count)}{_explanation(view)}"
                )
                yield Violation(weight.layer, count, weight.order, cause=cause)
            norm = weight["weight_norm"]
            if "weight_norm" in weight.values and not math.isfinite(norm):
                cause = f"the norm of the weight {name!r} is {norm:g}{_explanation(view)}"
                yield Violation(weight.layer, math.inf, weight.order, cause=cause)

    def _check_loss(self, view: View) -> Iterator[Violation]:
        loss = view.record.loss
        if loss is not None and not math.isfinite(loss):
            cause = f"the loss is {loss:g}, although all layer outputs and weights are finite"
            yield Violation("loss", math.inf, len(view.rows), cause=cause)

    def _ranges(self, view: View) -> tuple[str, ...]:
        lines = []
        for row in view.rows:
            name = row.layer + ".pre" * row.pre_activation
            lines.append(f"range of {name}: {row['min']:.4g} .. {row['max']:.4g}")
            if row["nonfinite"] > self.threshold:
                break
        return tuple(lines[-RANGES_SHOWN - 1 :])


def _non_finite(count: float) -> str:
    return "a NaN or infinite value" if count == 1 else f"{count:.0f} NaN or infinite values"


def _explanation(view: View) -> str:
    """Return what the records before this one tell about the cause, as the end of a sentence."""
    if len(view.records) < 2:
        return ", from the first recorded step on"
    ratios = view.by_variable("update_ratio", back=2).values()
    largest = max((ratio for ratio in ratios if math.isfinite(ratio)), default=0.0)
    if largest > 0.5:
        step = view.records[-2].step
        return f"; at step {step} an update was {largest:.2g} times as large as its weight"
    return ""
