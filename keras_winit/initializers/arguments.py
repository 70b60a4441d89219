"""Checks of the arguments of schemes, with errors that name the scheme and the argument."""

import math
import numbers
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np


class CheckedArguments:
    """The checks that schemes call in `__post_init__`."""

    def _require(self, name: str, requirement: str, valid: bool, error: type[Exception]) -> None:
        if not valid:
            raise error(
                f"`{type(self).__name__}({name}=...)` must be {requirement}. "
                f"Received: {name}={getattr(self, name)!r}."
            )

    def _require_real(
        self,
        name: str,
        requirement: str = "a finite number",
        valid: Callable[[float], bool] = lambda value: True,
    ) -> None:
        """Check a real argument, and store it as a Python float."""
        value = getattr(self, name)
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            raise TypeError(
                f"`{type(self).__name__}({name}=...)` must be {requirement}, and no tensor or "
                f"array. Received: {name}={value!r}. Convert it with `float`."
            )
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        self._require(name, requirement, real, TypeError)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        self._require(name, requirement, math.isfinite(number) and valid(number), ValueError)
        setattr(self, name, number)

    def _require_fits(self, name: str, dtype: str) -> None:
        """Raise an error if a real argument, or one of several, is infinite in a dtype."""
        with np.errstate(over="ignore"):
            fits = bool(
                np.isfinite(np.asarray(getattr(self, name), np.float64).astype(dtype)).all()
            )
        self._require(name, f"finite in {dtype}", fits, ValueError)

    def _require_whole(self, name: str, least: int) -> None:
        """Check an integer argument, and store it as a Python int."""
        number = as_index(getattr(self, name))
        requirement = f"an integer >= {least}"
        self._require(name, requirement, number is not None, TypeError)
        self._require(name, requirement, number >= least, ValueError)
        self._require(name, "an integer below 2**63", number < 2**63, ValueError)
        setattr(self, name, number)

    def _require_choice(self, name: str, choices: Sequence[str]) -> None:
        requirement = "one of " + ", ".join(repr(choice) for choice in choices)
        value = getattr(self, name)
        self._require(name, requirement, isinstance(value, str) and value in choices, ValueError)

    def _checked_initializer(self, name: str, value: Any) -> Any:
        """Return an instance of an initializer that was given in any form that Keras accepts."""
        requirement = "an initializer: its name, its config, its class or an instance"
        try:
            initializer = find_initializer(value)
        except (ValueError, TypeError):
            self._require_known_functions(name, value)
            self._require(name, requirement, False, ValueError)
        valid = isinstance(initializer, keras.initializers.Initializer)
        self._require(name, requirement, valid, TypeError)
        return initializer

    def _require_known_functions(self, name: str, config: Any) -> None:
        """Raise an error if the config of an initializer holds a function that is not known."""
        for function in _unknown_functions(config):
            raise ValueError(
                f"`{type(self).__name__}({name}=...)` must hold functions that Keras finds by "
                f"name, because attention layers and saved models make it from its config. "
                f"Received: {function}. Decorate a named function with "
                f"`@keras.saving.register_keras_serializable()`."
            )


def _unknown_functions(config: Any) -> Iterator[str]:
    """Yield a description of each function in a config that Keras cannot find."""
    if not isinstance(config, dict):
        return
    if config.get("class_name") == "__lambda__":
        yield "a lambda"
    elif config.get("class_name") == "function":
        name = config.get("registered_name") or config.get("config")
        if keras.saving.get_registered_object(name) is None:
            yield f"the function {config.get('config')!r}"
    else:
        for value in config.values():
            for item in value if isinstance(value, list) else (value,):
                yield from _unknown_functions(item)


def find_initializer(identifier: Any) -> Any:
    """Return what `keras.initializers.get` does, with its error also for unusual names."""
    try:
        return keras.initializers.get(identifier)
    except KeyError:
        # Keras takes names such as "function" for configs of functions.
        raise ValueError(f"Could not interpret initializer identifier: {identifier}") from None


def as_index(value: Any) -> Any:
    """Return an integer of any type as a Python int, and None for all else, also for booleans."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None
