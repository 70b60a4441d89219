"""Unique names for the layers and variables of a model."""

import itertools
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary


class Names:
    """Gives each layer and variable of a model a unique name that shows where it lies.

    The names of the enclosing layers come first, `block1/conv`, without the model's own name.
    A variable follows its layer: `block1/conv/kernel`. The second owner of a name becomes
    `block1/conv~2`. Keras' own paths do not serve: in a loaded model they lack the enclosing
    layers, they differ from run to run, and two layers may share one.

    Args:
        model: The model that holds the layers and variables. Those that it does not hold are
            named by their Keras path.
        refused: A predicate `name -> bool` that is true for a name that must not be given as
            it is. The owner is then called `name~1`.
    """

    def __init__(self, model: Any, refused: Callable[[str], bool] = lambda name: False) -> None:
        self.model, self._refused = model, refused
        # Weak references: some layers are made, called and dropped within one step.
        self._owners: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._names: dict[int, str] = {}

    def of(self, owner: Any) -> str:
        """Return the name of a layer or a variable."""
        if self._known(owner) is None:
            # The model may have gained the layer since the last scan.
            self._scan(self.model, "", set())
        return self._known(owner) or self._assign(owner, getattr(owner, "path", None) or owner.name)

    def _known(self, owner: Any) -> str | None:
        name = self._names.get(id(owner), "")
        # Python may have given the id of a deleted owner to this one.
        return name if self._owners.get(name) is owner else None

    def _scan(self, layer: Any, prefix: str, seen: set[int]) -> None:
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            if id(inner) not in seen:
                seen.add(id(inner))
                name = self._known(inner) or self._assign(inner, prefix + inner.name)
                self._scan(inner, f"{name}/", seen)
        # The variables of inner layers are named by now.
        for variable in layer.variables:
            if self._known(variable) is None:
                self._assign(variable, prefix + variable.name)

    def _assign(self, owner: Any, name: str) -> str:
        for count in itertools.count(1):
            candidate = name if count == 1 and not self._refused(name) else f"{name}~{count}"
            if self._owners.setdefault(candidate, owner) is owner:
                self._names[id(owner)] = candidate
                return candidate
        raise AssertionError
