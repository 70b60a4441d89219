"""Rule on an output layer whose rectifier is off for every sample."""

from collections.abc import Iterator
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.rules.base import Rule, Violation
from keras_winit.monitor.diagnosis.rules.remedies import set_activation
from keras_winit.monitor.diagnosis.rules.run_view import View


@dataclass(frozen=True)
class DeadOutput(Rule):
    """Reports a model whose last rectifier is zero for the whole batch."""

    id = "dead_output"
    predicate = "has an output that is zero for every sample"
    severity = "error"
    statistic = "dead_share"
    fires = "the share of output units that are zero for the whole batch reaches the threshold"
    applies = "rectifiers at the output of the model, until the loss is zero"
    healthy = "below 1"
    cause = "a rectifier that is off for every sample passes no gradient, so that nothing learns"
    remedy = (
        "use no activation in the output layer: "
        "`model.layers[-1].activation = keras.activations.linear` and "
        "`model.compile(model.optimizer, model.loss)`; softplus serves targets that are never "
        "negative"
    )
    origin = "without a gradient no update can switch the rectifier on"
    threshold: float = 0.99
    persistence: int = 2

    def check(self, view: View) -> Iterator[Violation]:
        # With zeros as targets, an output of zeros is right.
        if view.record.loss == 0:
            return
        for row in view.rows:
            share, part = row["dead_share"], row.part
            if part is None or part.hidden or row.pre_activation or not share >= self.threshold:
                continue
            units = round(row["dead_units"] / share)
            outputs = "the output" if units == 1 else f"all {units} outputs"
            verb = "is" if units == 1 else "are"
            yield Violation(
                row.layer,
                share,
                row.order,
                cause=f"{outputs} of layer {row.layer!r} {verb} zero for all samples: {self.cause}",
                remedy=_remedy(view, row.layer),
            )


def _remedy(view: View, layer: str) -> str:
    setup = view.model.setup
    ends = () if setup is None else setup.outputs
    code = next((end.code for end in ends if end.layer == layer), "")
    linear, softplus = (set_activation(code, layer, name) for name in ("linear", "softplus"))
    return f"use no activation: {linear}; or, for targets that are never negative: {softplus}"
