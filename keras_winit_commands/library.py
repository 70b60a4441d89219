"""Imports Keras and `keras_winit` without TensorFlow's messages.

That takes seconds, so this module is imported only inside the functions that need it.
"""

from keras_winit_commands.quiet import quiet_import

with quiet_import():
    import keras
    import numpy

    import keras_winit
    import keras_winit.plots

__all__ = ["keras", "keras_winit", "numpy"]
