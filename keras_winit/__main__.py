"""Runs the `keras-winit` command as `python -m keras_winit`.

Python imports `keras_winit` before this module. TensorFlow's start-up messages therefore appear
here, unlike with the script `keras-winit`.
"""

import sys

from keras_winit_commands import main

sys.exit(main())
