"""Weight initialization for Keras 3; importing it registers every `winit>` name."""

from keras_winit.experiments import propagate as propagate
from keras_winit.experiments import symmetry as symmetry
from keras_winit.initializers import *  # noqa: F403
from keras_winit.initializers import REGISTRY, KernelScheme, RandomScheme, Scheme, scheme

__version__ = "0.1.0"

__all__ = [
    "REGISTRY",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "__version__",
    "propagate",
    "scheme",
    "symmetry",
    *(cls.__name__ for cls in REGISTRY.values()),
]
