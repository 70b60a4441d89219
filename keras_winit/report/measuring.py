"""Measures one pass of a model, as a record for the rules and as rows for the report."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit import statistics
from keras_winit.models.layers import unit_axes_of_kernels
from keras_winit.models.names import Names
from keras_winit.models.restored_state import (
    generators_restored,
    loss_and_metrics_left_unbuilt,
    values_restored,
)
from keras_winit.models.variable_values import on_host
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.layout import NUMBER, read
from keras_winit.monitor.capture.plan import LAYER, Plan
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import ends_in_mark
from keras_winit.report.passes import Pass, run

PLAN = Plan((*LAYER, "weight_norm", "gradient_norm", "gradient_nonfinite", "weight_repeated"), None)

BACKENDS = ("tensorflow", "jax", "torch")


@dataclass(frozen=True, eq=False)
class Measurements:
    """The measurements of one pass, on the host.

    Args:
        record: The record of the pass, as the monitor would make it at step 0.
        cosines: Mean cosine between samples, by row name.
        repeated: Share of units that repeat another one, by row name.
        gradients: Root mean square of the gradient of an output, by row name.
        gradient_norms: Norm of that gradient over all samples, by row name.
        unseen: Reasons why something was not measured, by its name.
    """

    record: Record
    cosines: dict[str, float]
    repeated: dict[str, float]
    gradients: dict[str, float]
    gradient_norms: dict[str, float]
    unseen: dict[str, str]


def measure(one_pass: Pass, names: Names) -> tuple[Measurements, Capture]:
    """Run a model once, forward and backward, and measure all that a report shows."""
    model = one_pass.model
    capture = Capture(PLAN, lambda layer: layer is not model, names)
    capture.unit_axes, capture.plain_loss = unit_axes_of_kernels(model, names), not model.losses
    measured = run(one_pass, capture)
    if capture.broken is not None:
        raise RuntimeError(f"`signal_report` could not measure the model: {capture.broken}.")
    packed = _numpy(measured.packed)
    (record,) = read(capture.layouts[int(packed[0, NUMBER])], [0], packed[None])
    record = dataclasses.replace(record, loss=loss_of(one_pass, measured.outputs))
    norms = {name: float(_numpy(norm)) for name, norm in measured.gradient_norms.items()}
    measurements = Measurements(
        record=record,
        cosines={name: float(_numpy(value)) for name, value in measured.cosines.items()},
        repeated={
            name: repeated_units(_numpy(sums), float(_numpy(norm)))
            for name, (sums, norm) in measured.unit_sums.items()
        },
        gradients={name: norm / math.sqrt(measured.sizes[name]) for name, norm in norms.items()},
        gradient_norms=norms,
        unseen=capture.unseen,
    )
    return measurements, capture


def report_names(model: Any) -> Names:
    """Return names for the layers of a model, as the monitor gives them."""
    return Names(model, ends_in_mark)


def repeated_units(sums: npt.NDArray[np.float32], norm: float) -> float:
    """Return the share of units that repeat another one, those that are always zero left out."""
    live = sums[sums != 0]
    if live.size < 2:
        return math.nan
    starts, norms = np.array([0]), np.array([norm], np.float32)
    return float(statistics.repeated_share(live.copy(), starts, norms)[0])


def loss_of(one_pass: Pass, outputs: Any) -> float | None:
    """Return the loss of the batch; None if the model is not compiled, or there are no targets."""
    model, y = one_pass.model, one_pass.y
    if y is None or not getattr(model, "compiled", False):
        return None
    with (
        values_restored(model.metrics_variables),
        generators_restored(),
        loss_and_metrics_left_unbuilt(model, BACKENDS),
    ):
        loss = model.compute_loss(one_pass.x, y, outputs, training=one_pass.training)
        return float(_numpy(ops.stop_gradient(loss))) * _replica_count()


def _replica_count() -> int:
    """Return the number by which Keras divides a loss, within the scope of a strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _numpy(value: Any) -> npt.NDArray[np.float32]:
    return np.asarray(on_host(value))
