"""What the layers and the variables of a model are called."""

import itertools
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary


class Names:
    """Names of layers and variables by their place in a model, each its own.

    A layer has the names of the layers around it before its own, `block1/conv`, and a
    variable its layer's, `block1/conv/kernel`; the model's name is left out. A second one of
    a name is `block1/conv~2`. Keras' own paths will not do: without the outer names in a
    model that was loaded, they differ from run to run, and two layers may share one.

    Args:
        model: Whose they are. What it does not know goes by its path in Keras.
        refused: Whether something must not be called that: it becomes `name~1`.
    """

    def __init__(self, model: Any, refused: Callable[[str], bool] = lambda name: False) -> None:
        self.model, self._refused = model, refused
        # Weakly: some layers are made, called and dropped in one step.
        self._owners: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._names: dict[int, str] = {}

    def of(self, owner: Any) -> str:
        """Of a layer or a variable."""
        if self._known(owner) is None:
            # Perhaps the model did not have it when it was last looked at.
            self._look(self.model, "", set())
        return self._known(owner) or self._give(owner, getattr(owner, "path", None) or owner.name)

    def _known(self, owner: Any) -> str | None:
        name = self._names.get(id(owner), "")
        # Whose number it was may be gone.
        return name if self._owners.get(name) is owner else None

    def _look(self, layer: Any, prefix: str, seen: set[int]) -> None:
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            if id(inner) not in seen:
                seen.add(id(inner))
                name = self._known(inner) or self._give(inner, prefix + inner.name)
                self._look(inner, f"{name}/", seen)
        # Those of inner layers have their names by now.
        for variable in layer.variables:
            if self._known(variable) is None:
                self._give(variable, prefix + variable.name)

    def _give(self, owner: Any, name: str) -> str:
        for count in itertools.count(1):
            given = name if count == 1 and not self._refused(name) else f"{name}~{count}"
            if self._owners.setdefault(given, owner) is owner:
                self._names[id(owner)] = given
                return given
        raise AssertionError
