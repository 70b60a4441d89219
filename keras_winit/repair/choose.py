"""Chooses how each kernel of a model should start, by what it is for."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_winit import theory
from keras_winit.initializers.combinators import Scaled
from keras_winit.initializers.constants import Zeros
from keras_winit.initializers.depth import EmbeddingNormal
from keras_winit.initializers.identity import Irnn
from keras_winit.initializers.implicit import Siren
from keras_winit.initializers.looks_linear import LooksLinear
from keras_winit.initializers.near_linear import NearLinearOrthogonal
from keras_winit.initializers.noisy_identity import NoisyIdentity
from keras_winit.initializers.orthogonal import Orthogonal, ScaledOrthogonal
from keras_winit.initializers.scaling import HeNormal, LecunNormal, XavierNormal
from keras_winit.models.activations import Nonlinearity
from keras_winit.models.inspect import KernelContext
from keras_winit.models.surroundings import UNKNOWN_SINE
from keras_winit.theory.activations import find_activation

# Factor of the kernel that makes an output: the loss starts near that of a constant output.
HEAD = 0.1

# The same in a chain. With 0.1, networks of 50 layers fail with SGD at a learning rate of 0.01.
CHAIN_HEAD = 1.0

# Convolutions of a chain keep positions apart without noise at all taps. The noise of all of them
# together, and its largest share in one. Networks train about equally well between 3 and 12.
CHAIN_NOISE, MOST_NOISE = 6.0, 0.6

# Behind global average pooling, which shrinks the signal, a chain's output needs more than HEAD:
# the squared factor is this over kernels times units, which holds the size of the gradients of
# all kernels together at any depth and width; and the largest factor. With twice as much, SGD at
# a learning rate of 0.01 and a momentum of 0.9 diverges.
POOLED_HEAD, MOST_POOLED_HEAD = 250.0, 1.5

# Standard deviation of pre-activations in a near-linear chain before activations that are odd, and
# before those that are nearly odd or odd up to a constant. A small signal would be no nearer to
# linear if there is a kink at 0, and it would be lost where outputs are mostly a constant, since
# training moves all samples together along that.
NEAR_LINEAR, NEARLY_ODD = 0.1, 1.0

# Least standard deviation of the outputs of a near-linear chain. With 0.1, 50 layers of tanh fail
# with Adam at a learning rate of 0.001, and with 1 they fail with SGD at 0.01.
NEAR_LINEAR_OUTPUT = 0.3

# Least mean squared slope for a near-linear start, times the squared gain of the odd part; that
# of tanh is 2.5.
LEAST_SQUARED_SLOPE = 0.1

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
        chain=_chain_text(kernel),
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


def _chain_text(kernel: KernelContext) -> str:
    """Say where in a chain a kernel is, such as "hidden of 30 kernels with gelu"."""
    chain = kernel.chain
    return f"{chain.place} of {chain.kernels} kernels with {chain.activation}" if chain else ""


def _chain_noise(kernel: KernelContext) -> tuple[float, float]:
    """Return the noise of a chain's kernel, and the factor that makes up for its padding.

    Only a share v of a window lies on the map. The variance of the noise is therefore divided by
    v, which keeps the mean square of signals.
    """
    chain = kernel.chain
    assert chain is not None
    if chain.place == "first" or math.prod(kernel.kernel.variable.shape[:-2]) == 1:
        return 0.0, 1.0
    noise = min(CHAIN_NOISE / chain.kernels, MOST_NOISE)
    enlarged = noise / chain.valid_share
    total = 1 - noise + enlarged
    return enlarged / total, total**0.5


def _looks_linear(kernel: KernelContext) -> Any:
    chain = kernel.chain
    assert chain is not None
    gain: float | None = None
    noise, factor = _chain_noise(kernel)
    if chain.place != "first":
        gain = factor * _odd_gain(chain.activation)
        if chain.place == "last" and kernel.head:
            gain = gain * _pooled_head(kernel) if chain.pooled else CHAIN_HEAD
    return LooksLinear(chain.place, gain=gain, noise=noise, channels=chain.channels)


def _copying(kernel: KernelContext) -> Any:
    """Return the scheme of a kernel in a chain through which identities pass a signal on."""
    assert kernel.chain is not None
    return NoisyIdentity() if kernel.chain.place == "hidden" else ScaledOrthogonal()


def _pooled_head(kernel: KernelContext) -> float:
    assert kernel.chain is not None
    size = kernel.chain.kernels * kernel.kernel.variable.shape[0]
    return min(math.sqrt(POOLED_HEAD / size), MOST_POOLED_HEAD)


def _near_linear(kernel: KernelContext) -> Any:
    """Return the scheme of a kernel in a near-linear chain.

    Its gain undoes the slope of the activation before, and leads to pre-activations of the size
    that suits the activation after the kernel.
    """
    chain = kernel.chain
    assert chain is not None
    before, after = chain.activation, kernel.activation
    noise, factor = _chain_noise(kernel)
    gain = factor / _squared_slope(before) ** 0.5
    if chain.place == "first":
        gain = _near_linear_size(before)
    elif chain.place == "hidden" and after is not None:
        gain *= _near_linear_size(after) / _near_linear_size(before)
    elif kernel.head:
        gain *= max(NEAR_LINEAR_OUTPUT / _near_linear_size(before), 1.0)
    return NearLinearOrthogonal(chain.place, gain=gain, noise=noise, centered=bool(before.constant))


def _near_linear_size(activation: Nonlinearity) -> float:
    """Return the standard deviation of pre-activations before an activation."""
    return NEAR_LINEAR if activation.constant == 0 else NEARLY_ODD


@functools.lru_cache(maxsize=256)
def _squared_slope(activation: Nonlinearity) -> float:
    """Return the mean squared slope of an activation in a near-linear chain."""
    function = find_activation("gain", activation.function, dict(activation.arguments))
    return theory.mean_field.chi_1(function, _near_linear_size(activation) ** 2, 1.0)


def _odd_gain(activation: Nonlinearity) -> float:
    return theory.gain(activation.function, "odd", **dict(activation.arguments))


def _is_looks_linear(kernel: KernelContext) -> bool:
    return kernel.chain is not None and not kernel.chain.odd


def _is_near_linear(kernel: KernelContext) -> bool:
    """Return whether a kernel lies in a chain of odd activations that are steep enough at zero."""
    if kernel.chain is None or not kernel.chain.odd:
        return False
    activation = kernel.chain.activation
    steepness = _squared_slope(activation) * _odd_gain(activation) ** 2
    return LEAST_SQUARED_SLOPE < steepness < math.inf


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
    TableRow("{chain}", lambda k: k.chain is not None and k.chain.copies, _copying),
    TableRow("{chain}", _is_looks_linear, _looks_linear),
    TableRow("{chain}", _is_near_linear, _near_linear),
    TableRow("output", lambda k: k.head, lambda k: Scaled(LecunNormal(), HEAD)),
    TableRow("gate, before {activation}", lambda k: k.gate, lambda k: XavierNormal()),
    TableRow("before {activation}", _saturates, lambda k: XavierNormal(_gain_or_one(k))),
    TableRow("before {activation}", _has_gain, _he_like),
    TableRow("before {activation}", lambda k: k.activation is not None, lambda k: XavierNormal()),
    TableRow("no activation follows", lambda k: True, lambda k: LecunNormal()),
)
