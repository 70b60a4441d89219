"""Computes how to correct a layer whose pre-activations have the wrong variance."""

import math
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_winit.initializers.placement import Array
from keras_winit.repair.owners import Owner
from keras_winit.repair.unit_scales import broadcast_bias, kernel_factors, unit_axes_of_outputs

# Below this share of the mean square, a variance is the rounding of float32.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Correction:
    """The factors and the bias that correct a layer, or the reason why it is left.

    Args:
        kernel_factors: A factor for each of its kernels: a number, or an array that multiplies
            the kernel.
        bias: Its new bias, or None if it keeps it.
        reason: What was found, for the table.
        refusal: Why the layer cannot be corrected, or "".
    """

    kernel_factors: tuple[float | Array, ...] = ()
    bias: Any = None
    reason: str = ""
    refusal: str = ""


def common_correction(owner: Owner, outputs: Any, target: float) -> Correction:
    """Return the correction that multiplies all kernels of a layer by one number.

    With outputs s a + b of a kernel times s and a bias b, the number s solves
    s**2 Var[a] + 2 s Cov[a, b] + Var[b] = target.
    """
    mean, variance = _moments(owner, outputs)
    if variance <= ROUNDING * (mean**2 + variance):
        return Correction(refusal="constant on the batch")
    reason = f"variance was {variance:.3g}"
    bias = _bias_values(owner, len(outputs.shape))
    linear, covariance, of_bias = variance, 0.0, 0.0
    if bias is not None and np.ptp(bias) > 0:
        kernel_part = keras.ops.subtract(keras.ops.cast(outputs, "float32"), bias)
        part_mean, linear = _moments(owner, kernel_part)
        product_mean = float(keras.ops.mean(keras.ops.multiply(kernel_part, bias)))
        covariance = product_mean - part_mean * float(bias.mean())
        of_bias = float(bias.var())
    if of_bias >= target:
        return Correction(refusal=f"its bias alone has the variance {of_bias:.3g}")
    if linear <= ROUNDING * (mean**2 + variance):
        return Correction(refusal="its kernel adds a constant on the batch")
    root = math.sqrt(covariance**2 + linear * (target - of_bias))
    factor = (root - covariance) / linear
    count = len(owner.kernels)
    return Correction((factor ** (1 / count),) * count, None, reason)


def unit_correction(
    owner: Owner, outputs: Any, target: float, per_channel: bool, center: bool
) -> Correction:
    """Return the correction that sets variance, mean or both for each unit of a layer."""
    rank = len(outputs.shape)
    units = unit_axes_of_outputs(owner.layer, rank)
    others = tuple(axis for axis in range(rank) if axis not in units)
    values = keras.ops.cast(outputs, "float32")
    mean, variance = _moments(owner, outputs)
    means = np.asarray(_numpy(keras.ops.mean(values, others, keepdims=True)), np.float64)
    variances = np.asarray(_numpy(keras.ops.var(values, others, keepdims=True)), np.float64)
    varied = variances > ROUNDING * (means**2 + variances)
    if not varied.any():
        return Correction(refusal="constant on the batch")
    has_bias = owner.bias is not None and math.prod(owner.bias.shape) == means.size
    centers = center and has_bias and owner.bias.trainable
    if per_channel:
        factors = np.sqrt(target / np.where(varied, variances, target))
    elif centers:
        factors = np.full_like(means, math.sqrt(target / variances.mean()))
    else:
        common = common_correction(owner, outputs, target)
        return replace(common, reason=f"{common.reason}; no bias to center with")
    bias = _bias_values(owner, rank)
    old = np.zeros_like(means) if bias is None else np.broadcast_to(bias, means.shape)
    # The kernel's part of the mean grows with the kernel; a bias that stays does not.
    new = (old - means) * factors if centers else old
    of_kernel = kernel_factors(owner.layer, factors, tuple(owner.kernels[-1].variable.shape))
    untouched = (1.0,) * (len(owner.kernels) - 1)
    reason = f"variance was {variance:.3g}, mean {mean:.3g}"
    if center and not centers:
        reason += "; no bias to center with"
    if not varied.all():
        reason += f"; {np.sum(~varied)} of {varied.size} units are constant"
    new_bias = new.reshape(owner.bias.shape) if centers else None
    return Correction((*untouched, of_kernel), new_bias, reason)


def _moments(owner: Owner, values: Any) -> tuple[float, float]:
    """Return mean and variance over all entries; raise an error if they are not finite."""
    ops = keras.ops
    values = ops.cast(values, "float32")
    if math.prod(values.shape) == 0:
        return 0.0, 0.0
    mean, variance = float(ops.mean(values)), float(ops.var(values))
    if not 1e-30 < variance < 1e30:
        # The squares may leave the range of float32, though the values do not.
        peak = float(ops.max(ops.abs(values)))
        if not math.isfinite(peak):
            raise ValueError(
                f"`lsuv` needs finite pre-activations. Received: {peak} at layer {owner.name!r}. "
                f"Look for NaN and inf in the data and in the weights."
            )
        if peak == 0:
            return 0.0, 0.0
        scaled = ops.divide(values, peak)
        mean, variance = peak * float(ops.mean(scaled)), peak**2 * float(ops.var(scaled))
    return mean, variance


def _bias_values(owner: Owner, rank: int) -> Array | None:
    """Return the bias of a layer in a shape that broadcasts against its outputs."""
    if owner.bias is None:
        return None
    bias = np.asarray(_numpy(owner.bias), np.float32)
    return np.asarray(broadcast_bias(owner.layer, bias, rank)) if bias.any() else None


def _numpy(tensor: Any) -> Any:
    return keras.ops.convert_to_numpy(tensor)
