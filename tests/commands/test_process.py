"""The command as a process of its own: its start, its messages and its pipes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_winit
import keras_winit_commands

HOME = Path(keras_winit_commands.__file__).parent
HEAVY = """
import sys
from keras_winit_commands import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(sorted({"keras", "keras_winit", "numpy", "tensorflow", "jax", "torch"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("demo", "--help"), ("nonsense",), ("gain",)]
)
def test_help_and_wrong_usage_import_no_framework(arguments, fresh_process):
    assert fresh_process(HEAVY, *arguments).splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", sorted(HOME.glob("*.py")), ids=lambda path: path.name)
def test_modules_import_only_the_standard_library_at_first(path):
    if path.name == "library.py":
        return  # Other modules import it inside functions.
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            package = name.partition(".")[0]
            assert package in sys.stdlib_module_names | {"keras_winit_commands"}
            assert name != "keras_winit_commands.library"


def test_nothing_is_written_to_the_standard_error(run_process):
    for line in ("list", "show sparse", "propagate --init 'winit>zeros' --depth 1 --width 9"):
        process = run_process(f"$KERAS_WINIT {line}")
        assert process.returncode == 0
        assert process.stdout
        assert process.stderr == ""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="imports no TensorFlow")
def test_log_level_0_shows_what_tensorflow_writes(run_process):
    process = run_process("$KERAS_WINIT gain relu", TF_CPP_MIN_LOG_LEVEL="0")
    assert process.returncode == 0
    assert "oneDNN" in process.stderr


def test_without_a_standard_error(run_process):
    process = run_process("$KERAS_WINIT gain relu --mode torch 2>&-")
    assert (process.returncode, process.stdout) == (0, "1.414213562\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$KERAS_WINIT list | true", 0),
        ("$KERAS_WINIT list > /dev/full", 1),
        (f"{sys.executable} -m keras_winit list | true", 0),
    ],
)
def test_a_reader_that_leaves(line, code, run_process):
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    process = run_process(f"set -o pipefail; {line}")
    assert process.returncode == code, process.stderr
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr
    assert ("No space left" in process.stderr) == (code == 1)


def test_a_terminal_without_root_signs(run_process):
    process = run_process("$KERAS_WINIT list", PYTHONIOENCODING="ascii")
    assert re.search(r"winit>fan_in_uniform +U\(\?gain / \?fan_in\)", process.stdout)


def test_the_installed_script():
    installed = Path(sys.executable).with_name("keras-winit")
    version = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"keras-winit {keras_winit.__version__}\n"
