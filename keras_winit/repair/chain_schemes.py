"""Chooses the schemes of kernels that lie in a chain, for the table of `choose.py`."""

import functools
import math
from typing import Any

import numpy as np

from keras_winit import theory
from keras_winit.initializers.looks_linear import LooksLinear
from keras_winit.initializers.near_linear import NearLinearOrthogonal
from keras_winit.initializers.noisy_identity import NoisyIdentity
from keras_winit.initializers.orthogonal import ScaledOrthogonal
from keras_winit.models.activations import Nonlinearity
from keras_winit.models.inspect import KernelContext

# Standard deviation of the outputs of a chain that looks linear. With a tenth of it, networks of 50
# layers fail with SGD at a learning rate of 0.01.
LOOKS_LINEAR_OUTPUT = 0.5

# Convolutions of a chain keep positions apart without noise at all taps. The noise of all of them
# together, and its largest share in one. Networks train about equally well between 3 and 12.
CHAIN_NOISE, MOST_NOISE = 6.0, 0.6

# Behind global average pooling, which shrinks the signal, a chain's output layer needs more: the
# squared factor is this over kernels times units, which holds the size of the gradients of all
# kernels together at any depth and width; and the largest factor. With twice as much, SGD at a
# learning rate of 0.01 and a momentum of 0.9 diverges.
POOLED_HEAD, MOST_POOLED_HEAD = 250.0, 1.5

# Standard deviation of pre-activations before activations that are nearly linear there. In a
# near-linear chain it is 1 before those that are nearly odd or odd up to a constant: a small signal
# would be no nearer to linear if there is a kink at 0, and it would be lost where outputs are
# mostly a constant, since training moves all samples together along that.
NEAR_LINEAR = 0.1

# Least standard deviation of the outputs of a near-linear chain. With 0.1, 50 layers of tanh fail
# with Adam at a learning rate of 0.001, and with 1 they fail with SGD at 0.01.
NEAR_LINEAR_OUTPUT = 0.3

# Least mean squared slope for a near-linear start, times the squared gain of the odd part; that
# of tanh is 2.5.
LEAST_SQUARED_SLOPE = 0.1


def chain_text(kernel: KernelContext) -> str:
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


def is_looks_linear(kernel: KernelContext) -> bool:
    """Return whether a kernel lies in a chain of activations that are not odd, such as ReLU."""
    return kernel.chain is not None and not kernel.chain.odd


def looks_linear(kernel: KernelContext) -> Any:
    """Return the scheme of a kernel in a chain whose units come in mirrored pairs."""
    chain = kernel.chain
    assert chain is not None
    before, after = chain.activation, kernel.activation
    noise, factor = _chain_noise(kernel)
    size = _looks_linear_size(before)
    gain = None if size == 1 else size
    if chain.place != "first":
        gain = factor * _odd_gain(before, size) / size
        if chain.place == "hidden" and after is not None:
            gain *= _looks_linear_size(after)
        elif kernel.head:
            gain *= _pooled_head(kernel) if chain.pooled else LOOKS_LINEAR_OUTPUT
    return LooksLinear(chain.place, gain=gain, noise=noise, channels=chain.channels)


@functools.lru_cache(maxsize=256)
def _looks_linear_size(activation: Nonlinearity) -> float:
    """Return the standard deviation of pre-activations before an activation that is not odd.

    Pairs of SELU units look linear only to small signals. These keep the bent part of an activation
    if it has a kink at 0.
    """
    function = activation.of_arrays()
    points = np.array([1e-3, 1.0])
    zero, plus, minus = (function(sign * points) for sign in (0, 1, -1))
    odd, even = (plus - minus) / points, (plus + minus - 2 * zero) / points
    has_kink = abs(even[0]) > 0.1 * abs(odd[0])
    return NEAR_LINEAR if has_kink and not np.isclose(odd[0], odd[1], rtol=0.01) else 1.0


def _pooled_head(kernel: KernelContext) -> float:
    assert kernel.chain is not None
    size = kernel.chain.kernels * kernel.kernel.variable.shape[0]
    return min(math.sqrt(POOLED_HEAD / size), MOST_POOLED_HEAD)


def copying(kernel: KernelContext) -> Any:
    """Return the scheme of a kernel in a chain through which identities pass a signal on."""
    assert kernel.chain is not None
    return NoisyIdentity() if kernel.chain.place == "hidden" else ScaledOrthogonal()


def is_near_linear(kernel: KernelContext) -> bool:
    """Return whether a kernel lies in a chain of odd activations that are steep enough at zero."""
    if kernel.chain is None or not kernel.chain.odd:
        return False
    activation = kernel.chain.activation
    steepness = _squared_slope(activation) * _odd_gain(activation, 1.0) ** 2
    return LEAST_SQUARED_SLOPE < steepness < math.inf


def near_linear(kernel: KernelContext) -> Any:
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
    """Return the standard deviation of pre-activations before an activation that is odd."""
    return NEAR_LINEAR if activation.constant == 0 else 1.0


@functools.lru_cache(maxsize=256)
def _squared_slope(activation: Nonlinearity) -> float:
    """Return the mean squared slope of an activation in a near-linear chain."""
    function = activation.of_arrays()
    return theory.mean_field.chi_1(function, _near_linear_size(activation) ** 2, 1.0)


@functools.lru_cache(maxsize=256)
def _odd_gain(activation: Nonlinearity, size: float) -> float:
    """Return the gain that undoes an activation of pairs whose standard deviation is `size`."""
    function = activation.of_arrays()
    return theory.gain(lambda z: function(size * z) / size, "odd")
