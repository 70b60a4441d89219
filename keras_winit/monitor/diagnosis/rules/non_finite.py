"""Rule on numbers that are NaN or infinite."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import clean_data
from keras_winit.monitor.diagnosis.rules.run_view import Row, View, Weight

# Largest numbers of layers: those whose ranges are shown before the first layer that is not
# finite, and those that are named between two others.
RANGES_SHOWN = 20
LAYERS_NAMED = 3

# Values and gradients up to here come near no limit of float32 or, in a sum, of float16.
MODERATE = 1e4

# An update of this share of its weight may be why values became infinite.
LARGE_UPDATE = 0.5

ANEW = (
    "`keras_winit.reinitialize(model, reset_statistics=True)` and "
    "`model.compile(keras.optimizers.Adam(1e-4, clipnorm=1.0), model.loss)`"
)
SMALLER_UPDATES = f"lower the learning rate and clip the gradients, with new weights: {ANEW}"
SINGULAR_VALUE = (
    "look at what it computes: put an epsilon inside a root, a logarithm or a quotient, as in "
    "`keras.ops.log(x + 1e-7)`; in float16, compute it in float32"
)
SINGULAR_DERIVATIVE = (
    "put the epsilon inside the root, the logarithm or the quotient, as in "
    "`keras.ops.sqrt(keras.ops.sum(x**2, axis=-1) + 1e-12)`; to select finite results by "
    "ops.where does not help, because the gradient passes the other ones as well"
)
SINGULAR_LOSS = (
    "put an epsilon inside a root, a logarithm or a quotient of the loss, as in "
    "`keras.ops.log(x + 1e-7)`, or use a loss of Keras on logits"
)


@dataclass(frozen=True)
class NonFinite(Rule):
    """Reports the first NaN or infinite value in the order of execution."""

    id = "non_finite"
    predicate = "has NaN or infinite values"
    severity = "error"
    statistic = "nonfinite"
    fires = (
        "an input, a target, a layer output, a gradient, a weight or the loss has NaN or infinite "
        "values"
    )
    applies = (
        "every input and target, and the first affected layer; gradients only if the loss is not "
        "scaled"
    )
    healthy = "0"
    cause = "a value became NaN or too large for its data type"
    remedy = (
        f"start anew with smaller weights and updates: {ANEW}; in float16, compute softmax and "
        "loss in float32"
    )
    origin = "a single non-finite value is too many; SageMaker Debugger, ExplodingTensor"
    threshold: float = 0.0

    def check(self, view: View) -> Iterator[Violation]:
        data = [row for row in (*view.inputs, *view.targets) if row["nonfinite"] > self.threshold]
        for row in data:
            count = row["nonfinite"]
            cause = f"the data of {row.layer!r} contain {_non_finite(count)}"
            yield Violation(
                row.layer, count, row.order, cause=cause, remedy=clean_data(row.layer), is_root=True
            )
        in_training = itertools.chain(
            self._check_rows(view, bool(data)),
            self._check_weights(view, bool(data)),
            self._check_loss(view, bool(data)),
        )
        yield from itertools.islice(in_training, 1)

    def _check_rows(self, view: View, bad_data: bool) -> Iterator[Violation]:
        for row in view.rows:
            count = row["nonfinite"]
            if count > self.threshold:
                kind = "pre-activation" if row.pre_activation else "output"
                cause = f"the {kind} of layer {row.layer!r} contains {_non_finite(count)}"
                singular = not bad_data and _is_singular(view, row)
                if singular:
                    cause += ", although all values before it are finite and moderate"
                else:
                    cause += _explanation(view)
                yield Violation(
                    row.layer,
                    count,
                    row.order,
                    cause=cause,
                    remedy=SINGULAR_VALUE if singular else _remedy_of_growth(view),
                    details=self._ranges(view),
                    is_root=singular,
                )

    def _check_weights(self, view: View, bad_data: bool) -> Iterator[Violation]:
        if not bad_data and self._derivative_is_singular(view):
            yield self._singular_derivative(view)
        for weight in view.weights:
            name, count = weight.kernel.name, weight["gradient_nonfinite"]
            # While the optimizer searches for a scale of the loss, a gradient that overflows
            # only makes the scale smaller.
            if count > self.threshold and not view.model.scaled_loss:
                cause = (
                    f"the gradient of {name!r} contains {_non_finite(count)}{_explanation(view)}"
                )
                yield Violation(
                    weight.layer, count, weight.order, cause=cause, remedy=_remedy_of_growth(view)
                )
            if not _is_finite(weight):
                cause = (
                    f"the norm of the weight {name!r} is {weight['weight_norm']:g}"
                    f"{_explanation(view)}"
                )
                yield Violation(
                    weight.layer,
                    math.inf,
                    weight.order,
                    cause=cause,
                    remedy=_remedy_of_growth(view),
                )

    def _derivative_is_singular(self, view: View) -> bool:
        """Return whether a gradient is not finite although nothing that it comes from is large."""
        if view.model.scaled_loss or not all(map(_is_finite, view.weights)):
            return False
        loss, norms = view.record.loss, view.by_variable("gradient_norm").values()
        gradients = [abs(norm) for norm in norms if math.isfinite(norm)]
        loss_is_finite = loss is None or math.isfinite(loss)
        is_moderate = _are_moderate(view.rows) and max(gradients, default=0.0) <= MODERATE
        found = any(weight["gradient_nonfinite"] > self.threshold for weight in view.weights)
        return found and loss_is_finite and is_moderate

    def _singular_derivative(self, view: View) -> Violation:
        """Return the violation at the last layer, on the way forward, with such a gradient."""
        bad = [w for w in view.weights if w["gradient_nonfinite"] > self.threshold]
        last = max(bad, key=lambda weight: weight.order)
        count = last["gradient_nonfinite"]
        after = [w for w in view.weights if w.order > last.order and w["gradient_nonfinite"] == 0]
        end = min(after, key=lambda weight: weight.order, default=None)
        end_order = len(view.rows) if end is None else end.order
        between = dict.fromkeys(
            row.layer
            for row in view.rows
            if last.order < row.order < end_order and row.layer != last.layer
        )
        where = f"between layer {last.layer!r} and " + (
            "the loss" if end is None else f"layer {end.layer!r}"
        )
        names = [repr(name) for name in between]
        if names:
            more = [f"{len(names) - LAYERS_NAMED} more"] if len(names) > LAYERS_NAMED else []
            where += f" ({', '.join([*names[:LAYERS_NAMED], *more])})"
        cause = (
            f"the gradient of {last.kernel.name!r} contains {_non_finite(count)}, although all "
            f"outputs, weights and the loss are finite: a derivative at a singular point {where}, "
            "such as that of a square root, a norm or a standard deviation at zero"
        )
        return Violation(
            last.layer, count, last.order, cause=cause, remedy=SINGULAR_DERIVATIVE, is_root=True
        )

    def _check_loss(self, view: View, bad_data: bool) -> Iterator[Violation]:
        loss = view.record.loss
        if loss is not None and not math.isfinite(loss):
            cause = f"the loss is {loss:g}, although all layer outputs and weights are finite"
            singular = not bad_data and _are_moderate((*view.rows, *view.targets))
            yield Violation(
                "loss",
                math.inf,
                len(view.rows),
                cause=cause,
                remedy=SINGULAR_LOSS if singular else _remedy_of_growth(view),
                is_root=singular,
            )

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


def _is_finite(weight: Weight) -> bool:
    """Return whether a weight is finite, or was not measured."""
    return "weight_norm" not in weight.values or math.isfinite(weight["weight_norm"])


def _are_moderate(rows: Iterable[Row]) -> bool:
    """Return whether no value is so large that a sum of products could become infinite."""
    return not any(max(abs(row["min"]), abs(row["max"])) > MODERATE for row in rows)


def _is_singular(view: View, row: Row) -> bool:
    """Return whether a layer makes values that are not finite, of finite and moderate ones."""
    weight = view.weight_of(row.layer)
    # Products with a kernel make none, unless the kernel itself is not finite.
    multiplies = weight is not None and weight.multiplies
    before = [*view.inputs, *(other for other in view.rows if other.order < row.order)]
    weights_are_finite = all(map(_is_finite, view.weights))
    return weights_are_finite and not multiplies and _are_moderate(before)


def _largest_update(view: View) -> float:
    ratios = view.by_variable("update_ratio", back=2).values()
    return max((ratio for ratio in ratios if math.isfinite(ratio)), default=0.0)


def _remedy_of_growth(view: View) -> str | None:
    """Return the remedy for an update that was too large, if there was one; else None."""
    too_large = len(view.records) > 1 and _largest_update(view) > LARGE_UPDATE
    return SMALLER_UPDATES if too_large else None


def _explanation(view: View) -> str:
    """Return what the records before this one tell about the cause, as the end of a sentence."""
    if len(view.records) < 2:
        return ", from the first recorded step on"
    largest = _largest_update(view)
    if largest > LARGE_UPDATE:
        step = view.records[-2].step
        return f"; at step {step} an update was {largest:.2g} times as large as its weight"
    return ""
