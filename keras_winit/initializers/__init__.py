"""Schemes by family; importing this registers each with Keras as `winit>name`."""

from keras_winit.initializers import constants, distributions, scaling, sparse
from keras_winit.initializers.base import REGISTRY, KernelScheme, RandomScheme, Scheme, scheme

__all__ = [
    "REGISTRY",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "constants",
    "distributions",
    "scaling",
    "scheme",
    "sparse",
]
