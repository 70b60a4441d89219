"""Theory of signals in random networks: fans, gains and mean-field maps; numpy only, no Keras."""

from keras_winit.theory import mean_field as mean_field
from keras_winit.theory.critical import critical_point as critical_point
from keras_winit.theory.fans import Use as Use
from keras_winit.theory.fans import fans as fans
from keras_winit.theory.gains import gain as gain
from keras_winit.theory.quadrature import expectation as expectation

__all__ = ["Use", "critical_point", "expectation", "fans", "gain", "mean_field"]
