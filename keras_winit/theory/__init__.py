"""Numbers about kernels and activations: numpy only, no Keras."""

from keras_winit.theory import mean_field as mean_field
from keras_winit.theory.fans import Use as Use
from keras_winit.theory.fans import fans as fans
from keras_winit.theory.gains import gain as gain
from keras_winit.theory.mean_field import critical_point as critical_point

__all__ = ["Use", "critical_point", "fans", "gain", "mean_field"]
