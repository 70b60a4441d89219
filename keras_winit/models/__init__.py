"""Reads and changes built models: their calls, kernels and fans, and how the weights start."""

from keras_winit.models.binding import for_layer as for_layer
from keras_winit.models.kernels import fans as fans
from keras_winit.models.reinitialize import reinitialize as reinitialize

__all__ = ["fans", "for_layer", "reinitialize"]
