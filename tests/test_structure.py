"""The layout of the package: which part imports which, what an import loads, what is public."""

import ast
import doctest
import importlib
import json
import pkgutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_winit
from keras_winit.initializers import REGISTRY

HOME = Path(keras_winit.__file__).parent
ROOT = Path(__file__).parent.parent

# The parts of the package from the bottom up: a part imports only parts of lower levels.
LEVELS = (
    ("lazy_loading",),
    ("theory", "plots"),
    ("initializers", "statistics"),
    ("models",),
    ("repair", "monitor", "experiments"),
    ("report",),
    ("__init__",),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

# Other packages that a part may import.
USUAL = {"numpy", "keras", "tensorflow", "jax", "torch"}
ALLOWED = {
    "theory": {"numpy"},
    "plots": {"numpy", "matplotlib"},
    "experiments": USUAL | {"sklearn"},
    "monitor": USUAL | {"tensorboard"},
    "__main__": {"keras_winit_commands"},
}
# Names that a part may not use. Of `keras.src`, only the names in PRIVATE are allowed anyway.
MONITOR_PARTS = ("capture", "diagnosis", "output", "recording", "arguments", "callback", "check")
FORBIDDEN = {
    "initializers": ("keras.layers", "keras.models"),
    "monitor/capture": tuple(f"keras_winit.monitor.{part}" for part in MONITOR_PARTS[1:]),
    "monitor/diagnosis": tuple(f"keras_winit.monitor.{part}" for part in MONITOR_PARTS[2:]),
    "monitor/output": tuple(f"keras_winit.monitor.{part}" for part in MONITOR_PARTS[3:]),
}
# Private names of Keras for which it has no public one.
PRIVATE = {
    ("monitor", "keras.src.backend.get_keras_mask"),
    ("models", "keras.src.backend.common.global_state.get_global_attribute"),
    ("repair", "keras.src.backend.common.variables.AutocastScope"),
    ("report", "keras.src.backend.get_keras_mask"),
    ("report", "keras.src.backend.set_keras_mask"),
}


def imported_names(source):
    """Yield each dotted name that the source imports or takes from Keras."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node)[:6] == "keras.":
            names = [ast.unparse(node)]
        yield from names


def violations(source, place):
    """Return the forbidden imports in the source of a file at a place such as "models"."""
    part = place.partition("/")[0]
    return [name for name in imported_names(source) if not allowed(name, part, place)]


def allowed(name, part, place):
    package, other, *_ = [*name.split("."), "__init__"]
    if name.startswith(FORBIDDEN.get(place, ())):
        return False
    if package == "keras_winit":
        level = LEVEL.get(other, LEVEL["__init__"])
        return other == part or level < LEVEL[part]
    if name.startswith("keras.src"):
        return (part, name) in PRIVATE
    return package in sys.stdlib_module_names or package in ALLOWED.get(part, USUAL)


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda p: str(p.relative_to(HOME)))
def test_imports_run_one_way(path):
    parts = path.relative_to(HOME).with_suffix("").parts
    place = "/".join(parts[:2]) if "/".join(parts[:2]) in FORBIDDEN else parts[0]
    assert violations(path.read_text(), place) == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("theory", "import keras"),
        ("theory", "from keras_winit.initializers import base"),
        ("initializers", "import keras\nkeras.layers.Dense"),
        ("initializers", "from keras.src import backend"),
        ("initializers", "from keras_winit import experiments"),
        ("initializers", "from keras_winit import HeNormal"),
        ("initializers", "def late():\n    from keras_winit import models"),
        ("statistics", "from keras_winit.experiments import propagate"),
        ("statistics", "import scipy"),
        ("experiments", "import matplotlib"),
        ("plots", "import keras"),
        ("plots", "from keras_winit.monitor.records import Record"),
        ("plots", "def draw():\n    from keras_winit.experiments import propagate"),
        ("theory", "from keras_winit import plots"),
        ("plots", "import keras_winit_commands"),
        ("monitor", "def draw():\n    from keras_winit_commands import main"),
        ("monitor", "from keras.src.backend import set_keras_mask"),
        ("monitor", "from keras_winit import experiments"),
        ("monitor/capture", "from keras_winit.monitor.diagnosis import engine"),
        ("monitor/diagnosis", "from keras_winit.monitor.output.history import History"),
        ("monitor/output", "from keras_winit.monitor import callback"),
    ],
)
def test_forbidden_imports_are_found(place, source):
    assert violations(source, place)


def test_dir_lists_the_public_names():
    others = {"ActivationMonitor", "critical_point", "fans", "for_layer", "gain", "propagate"}
    others |= {"analytic_init", "lsuv", "reinitialize", "signal_report", "symmetry"}
    others |= {"__version__"}
    schemes = {cls.__name__ for cls in REGISTRY.values()}
    assert set(keras_winit.__all__) == schemes | others
    assert dir(keras_winit) == sorted(keras_winit.__all__)


@pytest.mark.parametrize("name", sorted(set(keras_winit.__all__) - {"__version__"}))
def test_public_names_are_of_this_package(name):
    assert getattr(keras_winit, name).__module__.startswith("keras_winit.")


@pytest.mark.parametrize("name", ["REGISTRY", "Scheme", "scheme", "cli", "lazy", "__main__"])
def test_other_names_are_unknown(name):
    with pytest.raises(AttributeError, match=f"^module 'keras_winit' has no attribute '{name}'$"):
        keras_winit.__getattr__(name)


@pytest.mark.parametrize("package", ["keras_winit", "keras_winit.theory"])
def test_type_checkers_see_every_name_that_is_loaded_late(package):
    tree = ast.parse(Path(importlib.import_module(package).__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name for node in block.body for alias in node.names}
    (homes,) = (node for node in ast.walk(block) if isinstance(node, ast.Dict))
    assert typed == {key.value for key in homes.keys}


MODULES = [m.name for m in pkgutil.walk_packages(keras_winit.__path__, "keras_winit.")]


@pytest.fixture
def restored_registry():
    """Forget the schemes that a test registers."""
    before = dict(REGISTRY)
    yield
    for name in REGISTRY.keys() - before.keys():
        cls = REGISTRY.pop(name)
        del keras.saving.get_custom_objects()[cls.identifier]


@pytest.mark.usefixtures("restored_registry")
@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    scope = {**vars(module), "keras": keras, "keras_winit": keras_winit}
    results = doctest.testmod(module, extraglobs=scope)
    assert results.failed == 0


FRESH_IMPORT = """
import json, sys
import keras
before = set(sys.modules)
import keras_winit
after_import = sorted(set(sys.modules) - before)
sparse = repr(keras.initializers.get("winit>sparse"))
model = keras.models.load_model(sys.argv[1])
after_load = sorted(name for name in sys.modules if name.startswith("keras_winit"))
kernel = keras.ops.convert_to_numpy(model.layers[0].kernel).tolist()
initializer = repr(model.layers[0].kernel_initializer)
late = [keras_winit.monitor.__name__, keras_winit.plots.__name__, keras_winit.theory.__name__]
print(json.dumps([after_import, sparse, after_load, kernel, initializer, late]))
"""


@pytest.fixture(scope="module")
def fresh_import(fresh_process, tmp_path_factory):
    """Import the package and load a model in a fresh process; return the observations."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    layer = keras.layers.Dense(4, kernel_initializer=keras_winit.Sparse(connections=3, seed=1))
    keras.Sequential([keras.Input((8,)), layer]).save(path)
    names = ("after_import", "sparse", "after_load", "kernel", "initializer", "late")
    seen = dict(zip(names, json.loads(fresh_process(FRESH_IMPORT, path)), strict=True))
    return {**seen, "saved_kernel": keras.ops.convert_to_numpy(layer.kernel)}


def test_importing_loads_no_framework_that_keras_does_not(fresh_import):
    loaded = {name.partition(".")[0] for name in fresh_import["after_import"]}
    frameworks = {"tensorflow", "tensorboard", "jax", "torch", "matplotlib", "sklearn"}
    assert loaded & frameworks == set()


def test_importing_loads_the_schemes_and_nothing_else_of_the_package(fresh_import):
    loaded = {n for n in fresh_import["after_import"] if n.startswith("keras_winit.")}
    schemes = {n for n in loaded if n.startswith("keras_winit.initializers")}
    assert loaded - schemes == {
        "keras_winit.lazy_loading",
        "keras_winit.theory",
        "keras_winit.theory.fans",
    }


def test_importing_is_enough_to_find_and_load_schemes(fresh_import):
    assert fresh_import["sparse"] == "Sparse(connections=10, stddev=0.01)"
    assert fresh_import["initializer"] == "Sparse(connections=3, stddev=0.01, seed=1)"
    np.testing.assert_array_equal(
        np.array(fresh_import["kernel"], np.float32), fresh_import["saved_kernel"]
    )
    parts = {name.split(".")[1] for name in fresh_import["after_load"] if "." in name}
    assert parts == {"initializers", "lazy_loading", "theory"}


def test_subpackages_are_attributes_without_an_import_of_their_own(fresh_import):
    assert fresh_import["late"] == [
        "keras_winit.monitor",
        "keras_winit.plots",
        "keras_winit.theory",
    ]


def test_one_version():
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{keras_winit.__version__}]" in changes
