import os
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_winit_commands import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run():
    """Run the command in this process, given its arguments in one line; return its exit code."""
    return lambda line: main(shlex.split(line))


@pytest.fixture
def run_process():
    """Run a line of bash, in which `$KERAS_WINIT` is the command, and return its result.

    TensorFlow's log level is left unset, as it is on a user's machine.
    """
    code = "import sys; from keras_winit_commands import main; sys.exit(main())"

    def run_line(line, folder=ROOT, **environment):
        inherited = dict(os.environ)
        for name in ("TF_CPP_MIN_LOG_LEVEL", "PYTHONUNBUFFERED"):
            inherited.pop(name, None)
        inherited["KERAS_BACKEND"] = keras.backend.backend()
        line = line.replace("$KERAS_WINIT", shlex.join([sys.executable, "-c", code]))
        return subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run_line
