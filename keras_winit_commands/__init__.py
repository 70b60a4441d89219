"""The `keras-winit` command, one module for each subcommand.

The package stands beside `keras_winit`, because importing anything inside `keras_winit` imports
Keras and its backend. From here, `--help`, `--version` and most errors in the arguments need
neither, and `main` can set TensorFlow's log level before TensorFlow is imported. Hence no module
of this package imports more than the standard library until its subcommand runs.
"""

from keras_winit_commands.cli import main as main

__all__ = ["main"]
