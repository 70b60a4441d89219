"""What reads or acts on layers and whole models."""

from keras_winit.models.kernels import fans as fans
from keras_winit.models.kernels import for_layer as for_layer

__all__ = ["fans", "for_layer"]
