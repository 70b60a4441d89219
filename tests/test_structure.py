"""The layout: what may import what, and what the package promises to leave alone."""

import ast
import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import keras
import pytest

import keras_winit

HOME = Path(keras_winit.__file__).parent
ROOT = Path(__file__).parent.parent
RUNGS = "theory|initializers statistics|models|monitor experiments|__init__|plots|__main__"
LEVEL = {name: i for i, rung in enumerate(RUNGS.split("|")) for name in rung.split()}
REACH = {"theory": {"numpy"}, "plots": {"numpy", "matplotlib"}}
USUAL = {"numpy", "keras", "tensorflow", "jax", "torch"}
REACH["experiments"] = USUAL | {"sklearn"}
REACH["monitor"] = USUAL | {"tensorboard"}
REACH["__main__"] = {"keras_winit_commands"}
BARRED = {"initializers": ("keras.src", "keras.layers", "keras.models")}
# What reaches up, and only when it is called; what has no public name.
LAZY = {("monitor", "plots")}
PRIVATE = {
    ("monitor", "keras.src.backend.get_keras_mask"),
    ("models", "keras.src.backend.common.global_state.get_global_attribute"),
}


def names(source):
    """Every dotted name that the source imports, or takes from keras; whether in a function."""
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node)[:6] == "keras.":
            found = [ast.unparse(node)]
        yield from ((name, id(node) in inside) for name in found)


def trespasses(source, here):
    found = []
    for name, late in names(source):
        top, there, *_ = [*name.split("."), "__init__"]
        if top == "keras_winit":
            level = LEVEL.get(there, LEVEL["__init__"])
            lazy = late and (here, there) in LAZY
            allowed = there == here or level < LEVEL[here] or lazy
        elif (here, name) in PRIVATE:
            allowed = True
        else:
            allowed = top in sys.stdlib_module_names or (
                top in REACH.get(here, USUAL)
                and not name.startswith(BARRED.get(here, ("keras.src",)))
            )
        if not allowed:
            found.append(name)
    return found


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda p: str(p.relative_to(HOME)))
def test_imports_run_one_way(path):
    here = path.relative_to(HOME).with_suffix("").parts[0]
    assert trespasses(path.read_text(), here) == []


@pytest.mark.parametrize(
    ("here", "source"),
    [
        ("theory", "import keras"),
        ("theory", "from keras_winit.initializers import base"),
        ("initializers", "import keras\nkeras.layers.Dense"),
        ("initializers", "from keras.src import backend"),
        ("initializers", "from keras_winit import experiments"),
        ("statistics", "from keras_winit.experiments import propagate"),
        ("statistics", "import scipy"),
        ("experiments", "import matplotlib"),
        ("experiments", "from keras_winit import plots"),
        ("plots", "import keras"),
        ("plots", "import keras_winit_commands"),
        ("monitor", "from keras_winit import plots"),
        ("monitor", "def draw():\n    from keras_winit_commands import main"),
        ("monitor", "from keras.src.backend import set_keras_mask"),
        ("monitor", "from keras_winit import experiments"),
    ],
)
def test_trespasses_are_found(here, source):
    assert trespasses(source, here)


MODULES = [m.name for m in pkgutil.walk_packages(keras_winit.__path__, "keras_winit.")]


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    scope = {**vars(module), "keras": keras, "keras_winit": keras_winit}
    results = doctest.testmod(module, extraglobs=scope)
    assert results.failed == 0


IMPORTS = """
import sys, keras
before = set(sys.modules)
import keras_winit
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"tensorflow", "tensorboard", "jax", "torch", "matplotlib", "sklearn"}))
"""


def test_importing_loads_no_framework_that_keras_does_not(fresh_process):
    assert fresh_process(IMPORTS).strip() == "[]"


def test_one_version():
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{keras_winit.__version__}]" in changes
