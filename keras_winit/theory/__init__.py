"""Numbers about kernels and activations: numpy only, no Keras."""

from keras_winit.theory.fans import Use as Use
from keras_winit.theory.fans import fans as fans

__all__ = ["Use", "fans"]
