"""`python -m keras_winit` is the `keras-winit` command."""

import sys

from keras_winit.cli import main

sys.exit(main())
