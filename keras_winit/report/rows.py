"""The rows of a report: one for each output of a layer, measured and predicted."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_winit.models.layers import LayerInfo
from keras_winit.monitor.row_names import is_pre_activation, layer_of
from keras_winit.report.measuring import Measurements
from keras_winit.report.prediction import Prediction


@dataclass(frozen=True)
class LayerRow:
    """One output of a layer. NaN: it does not apply, or theory does not predict it.

    Args:
        layer: Row name, as in the monitor's records.
        kind: Class of the layer.
        has_kernel: Whether the layer holds a kernel.
        hidden: Whether another kernel follows.
        mean: Mean of all entries.
        stddev: Standard deviation of all entries.
        unit_stddev: Standard deviation of a unit over the samples, averaged over the units.
        cosine: Mean cosine between the outputs for two samples.
        dead_share: Share of the units that are zero for all samples, behind a rectifier.
        saturated_share: Share of the entries where the activation is flat.
        repeated_share: Share of the units that repeat another unit.
        nonfinite: Number of NaN and infinite entries.
        gradient: Root mean square of the gradient of `sum(output * cotangent)`, with a
            cotangent from N(0, 1), with respect to an entry.
        chi: Squared norm of this gradient over that of the next layer with a kernel: what one
            layer makes of the mean square of a gradient, 1 if it keeps it.
        predicted_stddev: The `stddev` that theory predicts from the kernels and the inputs.
        predicted_unit_stddev: The `unit_stddev` that theory predicts.
        predicted_cosine: The `cosine` that theory predicts.
        predicted_gradient: The `gradient` that theory predicts.
    """

    layer: str
    kind: str
    has_kernel: bool
    hidden: bool
    mean: float
    stddev: float
    unit_stddev: float
    cosine: float
    dead_share: float
    saturated_share: float
    repeated_share: float
    nonfinite: float
    gradient: float
    chi: float
    predicted_stddev: float = math.nan
    predicted_unit_stddev: float = math.nan
    predicted_cosine: float = math.nan
    predicted_gradient: float = math.nan


def make_rows(
    measured: Measurements,
    parts: Mapping[str, LayerInfo],
    kinds: Mapping[str, str],
    predictions: Mapping[str, Prediction],
) -> Iterator[LayerRow]:
    """Yield the rows in the order of execution, pre-activations left out.

    Args:
        measured: Measurements of the pass.
        parts: Descriptions of the layers, by name.
        kinds: Classes of the layers, by name.
        predictions: What theory predicts, by row name.
    """
    record = measured.record
    chis = _chis(measured, parts)
    for number, name in enumerate(record.layers):
        if is_pre_activation(name):
            continue
        values = dict(zip(record.statistics, record.values[number].tolist(), strict=True))
        layer = layer_of(name)
        part = parts.get(layer)
        hidden = part is not None and part.hidden
        predicted = predictions.get(name, Prediction())
        yield LayerRow(
            layer=name,
            kind=kinds.get(layer, ""),
            has_kernel=part is not None and bool(part.kernels),
            hidden=hidden,
            mean=values["mean"],
            stddev=values["stddev"],
            unit_stddev=values["unit_stddev"],
            cosine=measured.cosines.get(name, math.nan),
            dead_share=values["dead_share"],
            saturated_share=values["saturated_share"],
            # Equal outputs of the last layer harm nothing.
            repeated_share=measured.repeated.get(name, math.nan) if hidden else math.nan,
            nonfinite=values["nonfinite"],
            gradient=measured.gradients.get(name, math.nan),
            chi=chis.get(name, math.nan),
            predicted_stddev=predicted.stddev,
            predicted_unit_stddev=predicted.unit_stddev,
            predicted_cosine=predicted.cosine,
            predicted_gradient=predicted.gradient,
        )


def _chis(measured: Measurements, parts: Mapping[str, LayerInfo]) -> dict[str, float]:
    """Return for each layer with a kernel the growth of squared gradients from the next one.

    Only layers of the same residual branch, or of the main path, follow each other.
    """
    groups: dict[Any, list[str]] = {}
    for name in measured.record.layers:
        part = parts.get(layer_of(name))
        if part is not None and part.kernels and name in measured.gradient_norms:
            groups.setdefault(part.branch, []).append(name)
    chis = {}
    for group in groups.values():
        for name, following in itertools.pairwise(group):
            after = measured.gradient_norms[following]
            if after > 0:
                # The division comes first: the squares of tiny norms would be zero.
                chis[name] = (measured.gradient_norms[name] / after) ** 2
    return chis
