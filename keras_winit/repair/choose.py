"""Chooses how each kernel of a model should start, by what it is for."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_winit.initializers.combinators import Scaled
from keras_winit.initializers.constants import Zeros
from keras_winit.initializers.depth import EmbeddingNormal
from keras_winit.initializers.identity import Irnn
from keras_winit.initializers.implicit import Siren
from keras_winit.initializers.orthogonal import Orthogonal
from keras_winit.initializers.scaling import HeNormal, LecunNormal, XavierNormal
from keras_winit.models.inspect import KernelContext
from keras_winit.models.surroundings import UNKNOWN_SINE
from keras_winit.repair.chain_schemes import (
    chain_text,
    copying,
    is_looks_linear,
    is_near_linear,
    looks_linear,
    near_linear,
)

# Rules that scale residual branches, beside None.
RESIDUAL = ("gpt2", "fixup")


class TableRow(NamedTuple):
    """A row of the table.

    Args:
        place: Where the kernel is, in a few words. `{role}`, `{activation}`, `{summed}` and
            `{chain}` are filled in.
        fits: Whether a kernel is there.
        scheme: The scheme for it, without a seed and not yet bound to the layer. None if the
            kernel is better left alone.
    """

    place: str
    fits: Callable[[KernelContext], bool]
    scheme: Callable[[KernelContext], Any]


class Choice(NamedTuple):
    """A scheme for a kernel, or None to leave it alone, and the reason."""

    scheme: Any
    reason: str


def choose(kernel: KernelContext) -> Choice:
    """Return the scheme of the first row of the table that fits a kernel of known use."""
    row = next(row for row in TABLE if row.fits(kernel))
    place = row.place.format(
        role=kernel.role,
        activation=kernel.activation,
        summed=kernel.summed,
        chain=chain_text(kernel),
    )
    if kernel.normalized:
        place += ", normalized"
    return Choice(row.scheme(kernel), place)


def scaled_by_depth(
    choice: Choice, kernel: KernelContext, branches: int, residual: str | None, auto: bool = True
) -> Choice:
    """Return a choice with the factor that a residual network needs.

    Args:
        choice: The scheme of a kernel.
        kernel: The kernel.
        branches: Number N of residual branches in the model.
        residual: "gpt2": the last kernel of each branch is scaled by N^-1/2, so that the sum of
            all branches has the size of one. "fixup": the last kernel of each branch is zero,
            and so is the output layer; the others of a branch with m kernels in a row are
            scaled by N^(-1 / (2 m - 2)). None: as "gpt2" in branches without a normalization,
            if `auto` is true.
        auto: Whether the choice was made by the table.
    """
    scheme, reason = choice
    if residual == "fixup" and kernel.head:
        return Choice(Zeros(), f"{reason}, zero by fixup")
    if kernel.branch is None or kernel.role in ("embedding", "recurrent", "gates"):
        return choice
    needs_scale = residual is not None or (auto and not kernel.branch_normalized)
    if not needs_scale or not (kernel.ends_branch or residual == "fixup"):
        return choice
    if kernel.normalized:
        return Choice(scheme, f"{reason}, which undoes a scale") if residual else choice
    if residual != "fixup":
        return _scaled(scheme, branches**-0.5, f"{reason}, last of 1 in {branches} branches")
    if kernel.ends_branch:
        return Choice(Zeros(), f"{reason}, last of a branch, zero by fixup")
    factor = branches ** (-1 / (2 * max(kernel.branch_kernels, 2) - 2))
    return _scaled(scheme, factor, f"{reason}, in 1 of {branches} branches")


def _scaled(scheme: Any, factor: float, reason: str) -> Choice:
    return Choice(scheme if factor == 1 else Scaled(scheme, factor), reason)


def _has_gain(kernel: KernelContext) -> bool:
    return kernel.activation is not None and kernel.activation.gain is not None


def _saturates(kernel: KernelContext) -> bool:
    return _has_gain(kernel) and kernel.activation is not None and kernel.activation.saturates


def _gain_or_one(kernel: KernelContext) -> float:
    """Return the exact gain of the activation that follows."""
    gain = kernel.activation.gain if kernel.activation else None
    return 1.0 if gain is None else gain


def _he_like(kernel: KernelContext) -> Any:
    gain = _gain_or_one(kernel)
    return HeNormal() if math.isclose(gain, math.sqrt(2), rel_tol=1e-6) else LecunNormal(gain)


def _is_packed(kernel: KernelContext) -> bool:
    """Return whether a kernel holds query, key and value side by side."""
    inputs, *outputs = kernel.kernel.variable.shape
    return _is_factor(kernel) and outputs == [3 * inputs]


def _is_factor(kernel: KernelContext) -> bool:
    return kernel.in_product and not kernel.activations


def _is_before_sine(kernel: KernelContext) -> bool:
    return kernel.activation is not None and kernel.activation.sine_frequency is not None


def _siren(kernel: KernelContext) -> Any:
    omega = kernel.activation.sine_frequency if kernel.activation else None
    return Siren(first=kernel.takes_raw_input, omega=omega or 1.0)


# The first row that fits a kernel decides. Every scheme is then bound to the layer, so that its
# fans are the true ones: of each gate, group and depthwise channel, with strides, and of the
# stored order of transposed kernels.
TABLE = (
    TableRow(
        "embedding, also of the output",
        lambda k: k.role == "embedding" and k.tied,
        lambda k: EmbeddingNormal(),
    ),
    TableRow(
        "embedding in a product",
        lambda k: k.role == "embedding" and k.in_product,
        lambda k: EmbeddingNormal(),
    ),
    TableRow(
        "one of {summed} summed embeddings",
        lambda k: k.role == "embedding" and k.summed > 1,
        lambda k: LecunNormal(k.summed**-0.5),
    ),
    TableRow("embedding", lambda k: k.role == "embedding", lambda k: LecunNormal()),
    TableRow(
        "recurrence with relu",
        lambda k: k.role == "recurrent" and getattr(k.owner.activation, "__name__", "") == "relu",
        lambda k: Irnn(),
    ),
    TableRow("recurrence, each gate", lambda k: k.role == "recurrent", lambda k: Orthogonal()),
    TableRow("input of each gate", lambda k: k.role == "gates", lambda k: XavierNormal()),
    TableRow(
        "{role}",
        lambda k: k.role in ("query", "key", "value", "attention output"),
        lambda k: XavierNormal(),
    ),
    TableRow("packed query, key and value", _is_packed, lambda k: XavierNormal(gates=3)),
    TableRow(
        "in a product of attention",
        _is_factor,
        lambda k: XavierNormal(),
    ),
    TableRow(
        "before {activation}",
        lambda k: k.activation is UNKNOWN_SINE,
        lambda k: None,
    ),
    TableRow("before a sine", _is_before_sine, _siren),
    TableRow("{chain}", lambda k: k.chain is not None and k.chain.copies, copying),
    TableRow("{chain}", is_looks_linear, looks_linear),
    TableRow("{chain}", is_near_linear, near_linear),
    # With a tenth of this, networks with normalizations, and transformers, train far more slowly.
    TableRow("output", lambda k: k.head, lambda k: LecunNormal()),
    TableRow("gate, before {activation}", lambda k: k.gate, lambda k: XavierNormal()),
    TableRow("before {activation}", _saturates, lambda k: XavierNormal(_gain_or_one(k))),
    TableRow("before {activation}", _has_gain, _he_like),
    TableRow("before {activation}", lambda k: k.activation is not None, lambda k: XavierNormal()),
    TableRow("no activation follows", lambda k: True, lambda k: LecunNormal()),
)
