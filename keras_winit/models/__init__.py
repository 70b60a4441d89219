"""Reads built layers and models: their calls, their kernels and the use of each kernel."""

from keras_winit.models.binding import for_layer as for_layer
from keras_winit.models.kernels import fans as fans

__all__ = ["fans", "for_layer"]
