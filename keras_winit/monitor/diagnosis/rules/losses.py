"""Rules on the loss: whether it suits the last activation and the targets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.models.losses import OF_REGRESSION, LossSetup
from keras_winit.models.setup import OutputSetup
from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import set_activation
from keras_winit.monitor.diagnosis.rules.run_view import Row, View
from keras_winit.monitor.diagnosis.rules.setup import order_of

# Activations whose outputs each lie in 0..1.
UNIT_RANGE = ("sigmoid", "hard_sigmoid")
# Keras divides the outputs by their sum, so any positive outputs are probabilities of classes.
POSITIVE = ("softmax", "exponential", "softplus")
RECTIFIERS = ("relu", "relu6")
# The values between which the outputs of an activation lie.
RANGES = {
    **dict.fromkeys((*UNIT_RANGE, "softmax"), (0.0, 1.0)),
    **dict.fromkeys(("tanh", "hard_tanh", "softsign"), (-1.0, 1.0)),
    **dict.fromkeys(("relu", "softplus", "exponential"), (0.0, math.inf)),
    "relu6": (0.0, 6.0),
}

# The classes in `keras.losses`, to quote in a remedy.
CLASSES = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
}


@dataclass(frozen=True)
class LossMismatch(Rule):
    """Reports a loss that does not suit the last activation."""

    id = "loss_mismatch"
    predicate = "has outputs that the loss takes for something else"
    severity = "error"
    statistic = "activation"
    fires = (
        "a cross-entropy or a divergence takes outputs of another kind: probabilities with "
        "`from_logits=True`, "
        "logits without it, or independent probabilities for classes that exclude each other, "
        "and the reverse; a warning where such models still train"
    )
    applies = (
        "outputs with a known last activation and a cross-entropy or Kullback-Leibler divergence "
        "of Keras"
    )
    healthy = "softmax or sigmoid without `from_logits`, no activation with it"
    cause = "the loss takes the outputs of the last layer for something else than they are"
    remedy = (
        "use no activation in the last layer: "
        "`model.layers[-1].activation = keras.activations.linear` and "
        "`model.compile(model.optimizer, "
        "keras.losses.SparseCategoricalCrossentropy(from_logits=True))`"
    )
    origin = (
        "digits, 15 epochs of Adam: an error where the accuracy stays below 0.3 or the loss is "
        "constant or NaN; a warning at 0.76 to 0.98, against 0.98; ReLU before a binary "
        "cross-entropy is an error at 0.94 to 0.97, because it can start dead"
    )

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        if setup is None or view.record.loss is None:
            return
        for end in setup.outputs:
            mismatch = _mismatch(end)
            if mismatch is not None:
                severity, cause, remedy = mismatch
                order = order_of(view, end.layer)
                yield Violation(
                    end.layer, 1.0, order, severity=severity, cause=cause, remedy=remedy
                )


def _mismatch(end: OutputSetup) -> tuple[str, str, str] | None:
    """Return severity, cause and remedy if the loss of an output does not suit it."""
    loss, activation = end.loss, end.activation
    if loss is None or activation is None or loss.axis != -1:
        return None
    if end.units == 1 and activation == "softmax":
        return None  # The rule `one_unit_softmax` reports these.
    if end.units == 1 and loss.is_categorical:
        return (
            "error",
            f"{loss.name} over the single unit of layer {end.layer!r} is constant, because the "
            "only class always has probability 1",
            set_activation(end.code, end.layer, "sigmoid", '"binary_crossentropy"'),
        )
    if loss.from_logits:
        return _logits_mismatch(end, loss, activation)
    if loss.is_categorical:
        return _classes_mismatch(end, loss, activation)
    if loss.is_binary:
        return _binary_mismatch(end, loss, activation)
    if loss.name == "kl_divergence" and activation not in (*POSITIVE, *UNIT_RANGE):
        return "error", _not_probabilities(end, loss), _activation_remedy(end, "softmax")
    return None


def _logits_mismatch(
    end: OutputSetup, loss: LossSetup, activation: str
) -> tuple[str, str, str] | None:
    if activation in ("softmax", *UNIT_RANGE):
        cause = (
            f"{loss.name} with from_logits=True takes the probabilities of the {activation} in "
            f"layer {end.layer!r} for logits: no class can become likely, and the loss stays high "
            "(on TensorFlow, Keras warns and leaves the activation out)"
        )
    elif activation in RECTIFIERS:
        cause = (
            f"the {activation} in layer {end.layer!r} lets no logit be negative, and passes no "
            f"gradient where it is 0"
        )
    else:
        return None
    return "warning", cause, _activation_remedy(end, "linear")


def _classes_mismatch(
    end: OutputSetup, loss: LossSetup, activation: str
) -> tuple[str, str, str] | None:
    if activation in POSITIVE:
        return None
    if activation in UNIT_RANGE:
        cause = (
            f"{loss.name} is for classes that exclude each other, but the {activation} in layer "
            f"{end.layer!r} gives each class a probability of its own"
        )
        return "warning", cause, _activation_remedy(end, "softmax")
    return "error", _not_probabilities(end, loss), _logits_remedy(end, loss)


def _binary_mismatch(
    end: OutputSetup, loss: LossSetup, activation: str
) -> tuple[str, str, str] | None:
    if activation in UNIT_RANGE:
        return None
    if activation == "softmax":
        cause = (
            f"{loss.name} takes the classes of the softmax in layer {end.layer!r} for independent "
            "questions, so its value and its accuracy are not those of the classes"
        )
        return "warning", cause, '`model.compile(model.optimizer, "categorical_crossentropy")`'
    severity = "error" if activation in RECTIFIERS else "warning"
    return severity, _not_probabilities(end, loss), _logits_remedy(end, loss)


def _not_probabilities(end: OutputSetup, loss: LossSetup) -> str:
    has = "has no activation" if end.activation == "linear" else f"ends in {end.activation}"
    return (
        f"{loss.name} needs probabilities, but layer {end.layer!r} {has}: Keras clips its outputs "
        "to 0 .. 1, and what is clipped passes no gradient"
    )


def _logits_remedy(end: OutputSetup, loss: LossSetup) -> str:
    compiled = (
        f"`model.compile(model.optimizer, keras.losses.{CLASSES[loss.name]}(from_logits=True))`"
    )
    if end.activation in ("linear", "log_softmax"):
        activation = "sigmoid" if loss.is_binary else "softmax"
        return f"{compiled}; or {_activation_remedy(end, activation)}"
    return f"{_activation_remedy(end, 'sigmoid' if loss.is_binary else 'softmax')}"


def _activation_remedy(end: OutputSetup, activation: str) -> str:
    return set_activation(end.code, end.layer, activation)


@dataclass(frozen=True)
class TargetRange(Rule):
    """Reports targets that the loss cannot take or the outputs cannot reach."""

    id = "target_range"
    predicate = "has targets that the loss cannot take"
    severity = "error"
    statistic = "max"
    fires = (
        "targets lie outside 0 .. 1 in a binary cross-entropy, or outside 0 .. classes - 1 in a "
        "sparse one; targets of a regression lie outside the range of the last activation by more "
        "than half their standard deviation, a warning unless their mean does; or a loss that "
        "cannot be negative is below zero"
    )
    applies = (
        "outputs with a loss of Keras; a negative loss only without penalties and sample weights"
    )
    healthy = "targets within the range of the loss"
    cause = "the loss is not defined for such targets"
    remedy = (
        "for numbers, use `model.layers[-1].activation = keras.activations.linear` and "
        '`model.compile(model.optimizer, "mse")`'
    )
    origin = "by definition; a tolerance of 0.001 for rounding"
    tolerance: float = 1e-3

    def check(self, view: View) -> Iterator[Violation]:
        setup, found = view.model.setup, False
        if setup is None:
            return
        targets = {row.layer: row for row in view.targets}
        for end in setup.outputs:
            row = targets.get(end.target or "")
            if row is not None and end.loss is not None:
                for violation in self._check_targets(row, end, end.loss):
                    found = True
                    yield violation
        loss = view.record.loss
        can_judge = setup.never_negative and view.model.plain_loss and loss is not None
        if can_judge and loss is not None and loss < -self.tolerance and not found:
            cause = f"the loss is {loss:.3g}, but this loss is never below zero for valid targets"
            yield Violation("loss", loss, len(view.rows), threshold=0.0, cause=cause)

    def _check_targets(self, row: Row, end: OutputSetup, loss: LossSetup) -> Iterator[Violation]:
        least, most = row["min"], row["max"]
        shown = f"the targets {row.layer!r} of layer {end.layer!r} lie in {least:.4g} .. {most:.4g}"
        if loss.is_binary:
            outside = least if least < -self.tolerance else most
            if least < -self.tolerance or most > 1 + self.tolerance:
                cause = f"{shown}, but {loss.name} takes targets from 0 to 1"
                numbers = set_activation(end.code, end.layer, "linear", '"mse"')
                remedy = f"for classes: {_more_units(end, loss)}; or, for numbers: {numbers}"
                if (least, most) == (-1, 1):
                    remedy = "number the classes 0 and 1: `y = (y + 1) / 2`"
                limit = 0.0 if least < -self.tolerance else 1.0
                yield Violation(row.layer, outside, -1, limit, cause=cause, remedy=remedy)
        elif loss.name == "sparse_categorical_crossentropy" and loss.axis == -1 and end.units:
            yield from self._check_classes(row, end, end.units, loss, shown)
        elif loss.name in OF_REGRESSION and end.activation in RANGES:
            yield from self._check_reach(row, end, shown)

    def _check_reach(self, row: Row, end: OutputSetup, shown: str) -> Iterator[Violation]:
        """Compare the targets of a regression with the range of the last activation."""
        low, high = RANGES[end.activation or ""]
        mean, margin = row["mean"], max(row["stddev"] / 2, self.tolerance)
        for value, limit, excess in (
            (row["min"], low, low - row["min"]),
            (row["max"], high, row["max"] - high),
        ):
            if excess > margin:
                cause = f"{shown}, but the outputs of {end.activation} lie in {low:g} .. {high:g}"
                remedy = _activation_remedy(end, "linear")
                remedy = f"{remedy}; scale the targets: `y = (y - y.mean()) / y.std()`"
                severity = None if not low <= mean <= high else "warning"
                yield Violation(
                    row.layer, value, -1, limit, severity=severity, cause=cause, remedy=remedy
                )
                return

    def _check_classes(
        self, row: Row, end: OutputSetup, classes: int, loss: LossSetup, shown: str
    ) -> Iterator[Violation]:
        least, most = row["min"], row["max"]
        for value, limit, is_outside in (
            (least, 0, least < 0),
            (most, classes - 1, most > classes - 1),
        ):
            if is_outside and value != loss.ignored_class:
                cause = f"{shown}, but {loss.name} over {classes} units takes 0 to {classes - 1}"
                remedy = (
                    f"number the classes from 0: `y = y - y.min()`; or {_more_units(end, loss)}"
                )
                if most - max(least, 1) >= classes:
                    remedy = _more_units(end, loss)
                if value < 0:
                    remedy = (
                        "number the classes from 0: `y = y - y.min()`; or leave padding out: "
                        "`model.compile(model.optimizer, keras.losses.SparseCategoricalCrossentropy"
                        f"(from_logits={loss.from_logits}, ignore_class={value:.0f}))`"
                    )
                yield Violation(row.layer, value, -1, float(limit), cause=cause, remedy=remedy)
                return


def _more_units(end: OutputSetup, loss: LossSetup) -> str:
    """Return how to give a functional model an output for each class of the targets."""
    activation = "None" if loss.from_logits else '"softmax"'
    compiled = f"keras.losses.SparseCategoricalCrossentropy(from_logits={loss.from_logits})"
    return (
        f"`end = keras.layers.Dense(int(y.max()) + 1, {activation})`, "
        f"`model = keras.Model(model.inputs, end(model.layers[-1].input))` and "
        f"`model.compile(keras.optimizers.Adam(), {compiled})`"
    )
