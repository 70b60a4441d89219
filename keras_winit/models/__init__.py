"""Reads built layers and models: their calls, their kernels and the use of each kernel."""

from keras_winit.models.analytic import analytic_init as analytic_init
from keras_winit.models.binding import for_layer as for_layer
from keras_winit.models.kernels import fans as fans
from keras_winit.models.lsuv import lsuv as lsuv

__all__ = ["analytic_init", "fans", "for_layer", "lsuv"]
