"""Rules on how a model was compiled, and on layers that cannot train well as they are."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import (
    COMPILE,
    reinitialize_code,
    set_activation,
)
from keras_winit.monitor.diagnosis.rules.run_view import View

# Names under which findings on no single layer are reported.
MODEL, OPTIMIZER = "model", "optimizer"


def order_of(view: View, layer: str) -> int:
    """Return the place of a layer in the order of execution; -1 if it has no row."""
    return next((row.order for row in view.rows if row.layer == layer), -1)


@dataclass(frozen=True)
class DoubleSoftmax(Rule):
    """Reports a softmax of a softmax."""

    id = "double_softmax"
    predicate = "has a softmax of a softmax"
    statistic = "activation"
    fires = "a softmax takes the output of another softmax over the same axis"
    applies = "models whose calls can be traced; softmax as a layer, an activation or an operation"
    healthy = "one softmax"
    cause = (
        "the second softmax of probabilities gives nearly equal probabilities, so the loss stays "
        "high and its gradient small"
    )
    remedy = (
        "take the activation away from the layer before the second softmax: "
        "`model.layers[-2].activation = keras.activations.linear` and "
        "`model.compile(model.optimizer, model.loss)`"
    )
    origin = (
        "digits, 10 classes, 15 epochs of Adam: the loss ends at 1.5 instead of 0.11, and a run "
        "in three at an accuracy of 0.89 instead of 0.98"
    )

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        for layer, code in {}.items() if setup is None else setup.softmax_of_softmax.items():
            cause = f"layer {layer!r} applies a softmax to the output of a softmax: {self.cause}"
            remedy = f"drop layer {layer!r}"
            if code:
                remedy = f"{set_activation(code, layer, 'linear')}, or {remedy}"
            yield Violation(layer, 2.0, order_of(view, layer), cause=cause, remedy=remedy)


@dataclass(frozen=True)
class OneUnitSoftmax(Rule):
    """Reports a softmax over a single unit."""

    id = "one_unit_softmax"
    predicate = "has a softmax over a single unit"
    severity = "error"
    statistic = "units"
    fires = "a softmax is taken over a single unit; only a warning in a hidden layer"
    applies = "output layers, and hidden layers with an activation of their own"
    healthy = "at least 2 units"
    cause = "a softmax over one unit is always 1, whatever the weights are"
    remedy = (
        "for two classes, `model.layers[-1].activation = keras.activations.sigmoid` and "
        '`model.compile(model.optimizer, "binary_crossentropy")`'
    )
    origin = "by definition"
    threshold: float = 2.0

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        if setup is None:
            return
        for end in setup.outputs:
            if end.activation == "softmax" and end.units == 1:
                cause = f"{self.cause}: the output of layer {end.layer!r} never changes"
                order = order_of(view, end.layer)
                remedy = set_activation(end.code, end.layer, "sigmoid", '"binary_crossentropy"')
                yield Violation(end.layer, 1.0, order, cause=cause, remedy=remedy)
        for layer in setup.one_unit_softmax:
            yield Violation(
                layer,
                1.0,
                order_of(view, layer),
                severity="warning",
                cause=f"{self.cause}: the output of layer {layer!r} never changes",
                remedy=set_activation(setup.codes.get(layer, ""), layer, "sigmoid")
                + ", or take the softmax over another axis",
            )


@dataclass(frozen=True)
class NoActivation(Rule):
    """Reports two kernels that act as one, because no activation lies between them."""

    id = "no_activation"
    predicate = "has no activation before the next kernel"
    statistic = "activation"
    fires = "nothing but dropout and padding lies between two kernels of one kind"
    applies = (
        "pairs of trainable dense layers or convolutions in traced models; not before fewer "
        "units than on both sides, not convolutions along different axes, not next to attention, "
        "sums or products"
    )
    healthy = "an activation or a normalization between two kernels"
    cause = "two linear layers in a row can only compute what one linear layer computes"
    remedy = (
        "give the first layer an activation: "
        "`model.layers[0].activation = keras.activations.relu` and "
        "`model.compile(model.optimizer, model.loss)`"
    )
    origin = "by definition"

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        for first, second in () if setup is None else setup.linear_pairs:
            cause = f"no activation lies between layers {first!r} and {second!r}: {self.cause}"
            code = "" if setup is None else setup.codes.get(first, "")
            remedy = set_activation(code, first, "relu")
            order = order_of(view, first)
            yield Violation(first, 0.0, order, cause=cause, remedy=remedy)


@dataclass(frozen=True)
class HighDropout(Rule):
    """Reports layers that drop nearly everything."""

    id = "high_dropout"
    predicate = "has a dropout rate that leaves little of the signal"
    statistic = "rate"
    fires = "the dropout rate of a layer reaches the threshold"
    applies = "layers of Keras that drop values, recurrent and attention layers among them"
    healthy = "0 .. 0.5"
    cause = "so little of the signal is left that training is slow and noisy"
    remedy = "build the layer with a rate of 0.2 to 0.5"
    origin = "a rate of 0.8 multiplies what is left by 5; usual rates end at 0.5"
    threshold: float = 0.8

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        for layer, rate in () if setup is None else setup.dropout_rates.items():
            if rate >= self.threshold:
                cause = f"layer {layer!r} drops {rate:.4g} of its values: {self.cause}"
                code = setup.dropout_codes.get(layer) if setup else None
                remedy = f"use a rate of 0.2 to 0.5: `{code} = 0.3` and {COMPILE}" if code else None
                yield Violation(layer, rate, order_of(view, layer), cause=cause, remedy=remedy)


@dataclass(frozen=True)
class NothingTrainable(Rule):
    """Reports a model without any trainable weight."""

    id = "nothing_trainable"
    predicate = "has no trainable weight"
    severity = "error"
    statistic = "trainable weights"
    fires = "a model with weights has no trainable one"
    applies = "the whole model"
    healthy = "at least 1"
    cause = "every layer is frozen, so training changes nothing"
    remedy = (
        "unfreeze the model: `model.trainable = True` and "
        "`model.compile(keras.optimizers.Adam(1e-3), model.loss)`"
    )
    origin = "by definition"
    threshold: float = 1.0

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        if setup is not None and setup.trainable_count == 0:
            yield Violation(MODEL, 0.0, -1)


@dataclass(frozen=True)
class LearningRate(Rule):
    """Reports a learning rate that is zero or negative."""

    id = "learning_rate"
    predicate = "has a learning rate that is not positive"
    severity = "error"
    statistic = "learning rate"
    fires = (
        "the learning rate is negative; or it is zero and no weight is updated on 2 recorded "
        "steps; or a schedule is negative somewhere, or zero everywhere, on the first 1000 steps"
    )
    applies = "the learning rate as `fit` begins"
    healthy = "above 0"
    cause = "the optimizer changes no weight, or goes up the loss instead of down"
    remedy = "use a positive rate: `model.compile(keras.optimizers.Adam(1e-3), model.loss)`"
    origin = "by definition; a warm-up from zero is healthy"

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        rates = {} if setup is None else setup.learning_rates
        if not rates:
            return
        step, least = min(rates.items(), key=lambda item: item[1])
        if least < self.threshold:
            cause = f"the learning rate is {least:.3g} at step {step}: it makes the loss larger"
            yield Violation(OPTIMIZER, least, -1, cause=cause)
        elif max(rates.values()) == 0 and not _is_updated(view):
            cause = "the learning rate is 0, so no weight ever changes"
            # A callback may raise the rate from zero.
            yield Violation(
                OPTIMIZER, 0.0, -1, cause=cause, persistence=2 if len(rates) == 1 else 1
            )


def _is_updated(view: View) -> bool:
    return any(norm > 0 for norm in view.by_variable("update_norm").values())


@dataclass(frozen=True)
class EqualKernels(Rule):
    """Reports layers that start with the same kernel."""

    id = "equal_kernels"
    predicate = "has the same kernel as another layer"
    severity = "info"
    statistic = "equal kernels"
    fires = (
        "two trainable kernels of hidden layers of one class start equal; a warning from as many "
        "equal kernels as the threshold"
    )
    applies = "kernels whose initializers have the same number as their seed, at the first record"
    healthy = "1"
    cause = (
        "an initializer with an integer as its seed, or one without a seed that several layers "
        "share, draws the same numbers each time"
    )
    remedy = (
        "draw the weights anew: `keras_winit.reinitialize(model)`, or give each layer an "
        "initializer of its own"
    )
    origin = (
        "MLPs with ReLU on digits, 4 seeds: up to 12 equal kernels trained like different ones, "
        "25 equal ones started at a loss of 125 for one seed"
    )
    threshold: float = 13.0

    def check(self, view: View) -> Iterator[Violation]:
        setup = view.model.setup
        if setup is None or not (view.is_start or len(view.records) == 1):
            return
        counts = Counter(first for first, _ in setup.equal_kernels)
        for first, second in setup.equal_kernels:
            count = counts[first] + 1
            cause = f"layers {first!r} and {second!r} start with the same kernel: {self.cause}"
            yield Violation(
                second,
                count,
                order_of(view, second),
                severity="warning" if count >= self.threshold else None,
                cause=cause,
                remedy=f"draw its weights anew: {reinitialize_code(second)}, or give the layer an "
                "initializer of its own",
            )
