"""Weight initialization for Keras 3; importing it registers every `winit>` name."""

from keras_winit.initializers import *  # noqa: F403

__version__ = "0.1.0"
