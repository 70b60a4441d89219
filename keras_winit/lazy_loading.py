"""Loads parts of a package when they are first used, to keep `import keras_winit` fast."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` function of a package (PEP 562).

    A package must hide this function from type checkers, which would otherwise accept any name.

    Args:
        package: Full name of the package.
        homes: For each name, the submodule that defines it. A name that is its own home stands
            for the submodule.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name]}")
        return module if name == homes[name] else getattr(module, name)

    return load
