"""`signal_report`: runs a model once, predicts, applies the rules, and reports before training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit import statistics
from keras_winit.models.elapsed import elapsed, require_verbosity
from keras_winit.models.graph import Trace, try_trace
from keras_winit.models.layers import describe_layers
from keras_winit.models.names import Names
from keras_winit.models.setup import collect_setup
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.findings import Findings
from keras_winit.monitor.diagnosis.model_facts import ModelFacts, collect_model_facts
from keras_winit.monitor.diagnosis.rules import RULES, Rule
from keras_winit.monitor.output.strict_json import json_value
from keras_winit.monitor.records import Record
from keras_winit.report.data import report_batch
from keras_winit.report.measuring import measure, report_names
from keras_winit.report.passes import Pass
from keras_winit.report.prediction import Prediction, SignalMoments, predict
from keras_winit.report.rows import LayerRow, make_rows
from keras_winit.report.table import as_html, as_text
from keras_winit.report.verdict import changes, verdict
from keras_winit.theory.checks import require_integer


@dataclass(frozen=True, eq=False)
class SignalReport:
    """Report on a model and a batch before training; prints as text, in a notebook as HTML.

    Args:
        title: The model, the batch and the mode.
        verdict: One sentence: what is wrong, with a number and a remedy.
        rows: One `LayerRow` for each output of a layer, in the order of execution.
        findings: Findings of the monitor's rules, the worst first.
        changes: What to change, one text for each remedy.
        record: The measurements as a record of the monitor, for `keras_winit.plots`.
        unseen: Reasons why something was not measured, by its name.
    """

    title: str
    verdict: str
    rows: tuple[LayerRow, ...]
    findings: Findings
    changes: tuple[str, ...]
    record: Record
    unseen: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that strict JSON can hold."""
        return {
            "title": self.title,
            "verdict": self.verdict,
            "rows": [json_value(vars(row)) for row in self.rows],
            "findings": [json_value(finding.as_dict()) for finding in self.findings],
            "changes": list(self.changes),
            "unseen": dict(self.unseen),
            "loss": json_value(self.record.loss),
        }

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draw the signal and the gradient by layer, measured and predicted.

        Args:
            path: File for the picture; its ending chooses the format. None: no file.

        Returns:
            The matplotlib figure.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            OSError: If `path` cannot be written.
            ValueError: If nothing was measured, or matplotlib does not know the format.
        """
        from keras_winit import plots

        return plots.signal(self.rows, path, self.findings)


def signal_report(
    model: Any,
    data: Any = None,
    y: Any = None,
    training: bool | None = None,
    samples: int | None = None,
    seed: int = 0,
    rules: Sequence[Rule] = RULES,
    verbose: int | str = "auto",
) -> SignalReport:
    """Report what happens to the signal and the gradient in each layer, before any training.

    The model runs once forward and once backward on a batch. The report holds the statistics of
    each layer's output and of its gradient, the numbers that theory predicts for plain chains
    of layers, the findings of the monitor's rules, a verdict and what to change. Afterwards the
    model is what it was before: weights, statistics of batch normalization, states of random
    layers, optimizer and compiled functions.

    The gradient is that of `sum(outputs * cotangent)`, with a cotangent from N(0, 1). It shows
    what the layers do to any gradient, and needs neither targets nor a loss. The loss of a
    compiled model is computed too if there are targets, and the rules then check both.

    Args:
        model: Built model, compiled or not. With data, a model that is not built is built.
        data: Batch of inputs as `fit` takes them: an array, or a list or dictionary of arrays;
            or a `tf.data.Dataset`, `PyDataset` or torch `DataLoader`, of which the first batch
            is taken. None: inputs from N(0, 1), or random integers below the `input_dim` of an
            embedding.
        y: Targets of the batch. Defaults to those in `data`, if it holds any.
        training: Whether the model runs in training mode: batch normalization takes the
            statistics of the batch, and dropout is on. None: in training mode if the model has
            batch normalization, which has no statistics yet to normalize with otherwise.
        samples: Number of samples to take, the first ones. None: up to 256, fewer if they are
            large.
        seed: Seed of random inputs and of the cotangent. Defaults to 0.
        rules: Rules to apply. Defaults to `keras_winit.monitor.RULES`.
        verbose: 0 prints nothing. "auto", 1 and 2 print the elapsed time of a call that takes
            longer than a second, to the standard error. Defaults to "auto".

    Returns:
        A `SignalReport`.

    Raises:
        TypeError: If `samples` or `seed` is not an integer, or `data` is an iterator.
        ValueError: If there are no data and the model does not tell what inputs it takes,
            `data` is empty, or a number is too small.

    Example:
        >>> layers = [keras.layers.Dense(64, activation="relu") for _ in range(30)]
        >>> model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
        >>> report = signal_report(model)
        >>> report.verdict.partition(":")[0]
        'The signal vanishes'

    Source: for the predictions, Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017,
        arXiv:1611.01232.
    """
    if samples is not None:
        require_integer("signal_report", "samples", samples, 1)
    require_integer("signal_report", "seed", seed, 0)
    require_verbosity("signal_report", verbose)
    if data is None and not model.built:
        raise ValueError(
            f"`signal_report` needs a built model, or data. Received: {model.name!r}, not built, "
            "data=None. Pass a batch, `signal_report(model, data)`."
        )
    x, y = report_batch(model, data, y, samples, seed)
    with elapsed("signal_report", verbose):
        return _report(model, x, y, training, seed, rules, data is None)


def _report(
    model: Any,
    x: Any,
    y: Any,
    training: bool | None,
    seed: int,
    rules: Sequence[Rule],
    is_random: bool,
) -> SignalReport:
    if not model.built:
        model(x)
    normalizes = any(map(is_batch_normalization, model._flatten_layers()))
    training = normalizes if training is None else bool(training)
    names, trace = report_names(model), try_trace(model)
    measured, capture = measure(Pass(model, x, y, training, seed), names)
    facts = _model_facts(model, names, trace, capture)
    diagnosis = Diagnosis(rules, single=True)
    diagnosis(measured.record, facts)
    kinds = {names.of(layer): type(layer).__name__ for layer in model._flatten_layers(False)}
    predictions = _predictions(trace, names, x, training)
    rows = tuple(make_rows(measured, facts.parts, kinds, predictions))
    unseen = dict(measured.unseen)
    if trace is None:
        unseen["model"] = "it does not run on symbolic tensors, so theory predicts nothing of it"
    return SignalReport(
        title=_title(model, x, is_random, training),
        verdict=verdict(diagnosis.findings, rows, normalizes and not training),
        rows=rows,
        findings=diagnosis.findings,
        changes=changes(diagnosis.findings),
        record=measured.record,
        unseen=unseen,
    )


def is_batch_normalization(layer: Any) -> bool:
    """Return whether a layer normalizes by statistics of the batch while it trains."""
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _model_facts(model: Any, names: Names, trace: Trace | None, capture: Any) -> ModelFacts:
    parts = describe_layers(model, names, trace)
    setup = collect_setup(model, parts, names, trace)
    if getattr(model, "compiled", False):
        return collect_model_facts(model, parts, capture, setup)
    layers = [layer for layer in model._flatten_layers() if id(layer) in parts]
    return ModelFacts({names.of(layer): parts[id(layer)] for layer in layers}, setup=setup)


def _predictions(
    trace: Trace | None, names: Names, x: Any, training: bool
) -> dict[str, Prediction]:
    inputs = keras.tree.flatten(x)
    if len(inputs) != 1 or "float" not in keras.backend.standardize_dtype(inputs[0].dtype):
        return {}
    values = ops.convert_to_numpy(ops.cast(inputs[0], "float32")).astype(np.float64)
    cosine = float(ops.convert_to_numpy(statistics.mean_cosine(inputs[0])))
    square = float(np.mean(values**2))
    if not math.isfinite(square) or math.isnan(cosine):
        return {}
    start = SignalMoments(float(values.mean()), square, cosine, False, tuple(values.shape))
    return predict(trace, names, start, training)


def _title(model: Any, x: Any, is_random: bool, training: bool) -> str:
    shapes = " and ".join(
        f"({', '.join(map(str, leaf.shape[1:]))})" for leaf in keras.tree.flatten(x)
    )
    count = keras.tree.flatten(x)[0].shape[0]
    source = "random inputs" if is_random else "inputs"
    mode = "training" if training else "inference"
    return f"Signal report of {model.name!r}: {count} {source} of shape {shapes}, in {mode} mode"
