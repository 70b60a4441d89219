"""Checks of the arguments of schemes, with errors that name the scheme and the argument."""

import math
import numbers
import operator
from collections.abc import Callable, Sequence
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
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        self._require(name, requirement, real, TypeError)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        self._require(name, requirement, math.isfinite(number) and valid(number), ValueError)
        setattr(self, name, number)

    def _require_whole(self, name: str, least: int) -> None:
        """Check an integer argument, and store it as a Python int."""
        number = as_index(getattr(self, name))
        requirement = f"an integer >= {least}"
        self._require(name, requirement, number is not None, TypeError)
        self._require(name, requirement, number >= least, ValueError)
        setattr(self, name, number)

    def _require_choice(self, name: str, choices: Sequence[str]) -> None:
        requirement = "one of " + ", ".join(repr(choice) for choice in choices)
        value = getattr(self, name)
        self._require(name, requirement, isinstance(value, str) and value in choices, ValueError)

    def _checked_initializer(self, name: str, value: Any) -> Any:
        """Return an instance of an initializer that was given in any form that Keras accepts."""
        requirement = "an initializer: its name, its config, its class or an instance"
        try:
            initializer = keras.initializers.get(value)
        except ValueError:
            self._require(name, requirement, False, ValueError)
        valid = isinstance(initializer, keras.initializers.Initializer)
        self._require(name, requirement, valid, TypeError)
        return initializer


def as_index(value: Any) -> Any:
    """Return an integer of any type as a Python int, and None for all else, also for booleans."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None
