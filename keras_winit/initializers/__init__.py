"""Schemes by family; importing this registers each with Keras as `winit>name`."""

# In the order of the README's table.
from keras_winit.initializers import constants, distributions, scaling, sparse  # isort: skip
from keras_winit.initializers import identity, upsampling, implicit  # isort: skip
from keras_winit.initializers import bias, convolution  # isort: skip
from keras_winit.initializers.base import REGISTRY, KernelScheme, RandomScheme, Scheme, scheme

__all__ = [
    "REGISTRY",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "bias",
    "constants",
    "convolution",
    "distributions",
    "identity",
    "implicit",
    "scaling",
    "scheme",
    "sparse",
    "upsampling",
]
