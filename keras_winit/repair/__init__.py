"""Gives the weights of a built model a better start: `reinitialize`, `lsuv`, `analytic_init`."""

from keras_winit.repair.analytic import analytic_init as analytic_init
from keras_winit.repair.lsuv import lsuv as lsuv
from keras_winit.repair.reinitialize import reinitialize as reinitialize

__all__ = ["analytic_init", "lsuv", "reinitialize"]
