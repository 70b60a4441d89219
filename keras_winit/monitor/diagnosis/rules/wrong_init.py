"""Rule on kernels whose variance fits neither their fans nor their activation."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from keras_winit.models.activations import Nonlinearity
from keras_winit.models.kernel_chains import is_odd
from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import reinitialize_code
from keras_winit.monitor.diagnosis.rules.run_view import View, Weight
from keras_winit.monitor.diagnosis.rules.scheme_advice import scheme_advice

# The remedy for a layer whose kernel is not what its scheme would draw.
NEW_WEIGHTS = "the layer has a fitting initializer, but other weights; draw them anew: "


@dataclass(frozen=True)
class WrongInit(Rule):
    """Reports kernels whose variance fits neither their fans nor their activation."""

    id = "wrong_init_for_activation"
    predicate = "has kernels of unsuitable variance"
    severity = "info"
    statistic = "weight_norm"
    fires = (
        "the variance of a kernel differs from the nearest variance that keeps a signal by more "
        "than the factor of the threshold, or, for a small kernel, by more than chance allows; a "
        "warning above a factor of 10"
    )
    applies = (
        "kernels with known fans at step 0, unless a normalization follows; recurrent kernels, "
        "residual branches, output layers and a first kernel before an odd activation may be "
        "smaller; only an info in models with attention that start from a small standard "
        "deviation of about 0.02"
    )
    healthy = "1/2.7 .. 2.7"
    cause = "the variance of the kernel fits neither its fans nor its activation"
    remedy = "draw the weights anew: `keras_winit.reinitialize(model)`"
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
            is_choice = small_by_custom and _is_custom(weight)
            yield Violation(
                weight.layer,
                ratio,
                weight.order,
                threshold=low if ratio < 1 else high,
                severity="warning" if far and not (ratio < 1 and is_choice) else "info",
                cause=_stddev_mismatch(weight),
                remedy=scheme_advice(
                    weight.layer, weight.part, NEW_WEIGHTS + reinitialize_code(weight.layer)
                ),
            )

    def _ratio(self, weight: Weight) -> float | None:
        """Return the variance over the nearest fitting one; None if the rule does not apply."""
        fitting, kernel = weight.kernel.variances, weight.kernel
        # A normalization undoes the size of what it takes.
        if fitting is None or weight.part.normalized or not weight["weight_norm"] > 0:
            return None
        variance = weight["weight_norm"] ** 2 / kernel.size
        ratio = variance / min(max(variance, fitting[0]), fitting[1])
        # A small recurrent kernel, residual branch or output is a deliberate and stable choice.
        part = weight.part
        may_be_small = kernel.role == "recurrent" or part.branch is not None or not part.hidden
        keeps_linear = part.takes_raw_input and _is_odd(part.activation) and ratio > NEAR_LINEAR
        return None if (may_be_small or keeps_linear) and ratio < 1 else ratio


# A first kernel may keep what follows in the range where these are nearly linear, as
# `winit>near_linear_orthogonal` does with a hundredth of the variance. Widths account for the rest.
NEAR_LINEAR = 1 / 300

# Transformers start from 0.02 (BERT, GPT-2), some from half or twice of it.
CUSTOMARY_STDDEV = 0.01, 0.04


def _is_odd(activation: str | None) -> bool:
    return activation is not None and bool(is_odd(Nonlinearity(activation, activation), 1))


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
