"""Reads and changes built models: their calls, kernels and fans, and how the weights start."""

from keras_winit.models.analytic import analytic_init as analytic_init
from keras_winit.models.binding import for_layer as for_layer
from keras_winit.models.kernels import fans as fans
from keras_winit.models.lsuv import lsuv as lsuv
from keras_winit.models.reinitialize import reinitialize as reinitialize

__all__ = ["analytic_init", "fans", "for_layer", "lsuv", "reinitialize"]
