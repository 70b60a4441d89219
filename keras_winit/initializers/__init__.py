"""Schemes by family; importing this registers each with Keras as `winit>name`."""

# The order of the registry, and so of the README's table.
# isort: off
from keras_winit.initializers import (
    constants,
    distributions,
    scaling,
    sparse,
    orthogonal,
    identity,
    recurrent,
    bias,
    convolution,
    upsampling,
    implicit,
    depth,
    combinators,
)

# isort: on
from keras_winit.initializers.base import REGISTRY, RandomScheme, Scheme, scheme
from keras_winit.initializers.kernels import AxesScheme, GainScheme, KernelScheme, WrappingScheme

__all__ = [
    "REGISTRY",
    "AxesScheme",
    "GainScheme",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "WrappingScheme",
    "bias",
    "combinators",
    "constants",
    "convolution",
    "depth",
    "distributions",
    "identity",
    "implicit",
    "orthogonal",
    "recurrent",
    "scaling",
    "scheme",
    "sparse",
    "upsampling",
]
