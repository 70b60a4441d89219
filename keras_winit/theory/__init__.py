"""Numbers about kernels and activations: numpy only, no Keras."""

from keras_winit.theory.fans import fans as fans

__all__ = ["fans"]
