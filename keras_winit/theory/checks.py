"""Checks of numeric arguments, with errors that name the public function."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np


def is_finite(number: Any) -> bool:
    """Return whether a real number is finite as a float, which a huge integer is not."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def require_number(
    caller: str, name: str, number: Any, requirement: str, holds: Callable[[float], bool]
) -> None:
    """Raise an error unless the argument is a finite number for which `holds` is true."""
    is_real = isinstance(number, Real) and not isinstance(number, bool | np.bool_)
    if not is_real or not is_finite(number) or not holds(number):
        raise (ValueError if is_real else TypeError)(
            f"`{caller}({name}=...)` must be {requirement}. Received: {name}={number!r}."
        )


def require_nonnegative(caller: str, **numbers: Any) -> None:
    """Raise an error unless all arguments are finite numbers >= 0."""
    for name, number in numbers.items():
        require_number(caller, name, number, "a number >= 0", lambda value: value >= 0)


def require_stddevs(caller: str, **numbers: Any) -> None:
    """Raise an error unless all arguments are numbers >= 0 whose squares are finite."""
    require_nonnegative(caller, **numbers)
    for name, number in numbers.items():
        requirement = "a number whose square is finite"
        require_number(caller, name, number, requirement, lambda value: is_finite(value * value))


def require_integer(caller: str, name: str, number: Any, minimum: int) -> None:
    """Raise an error unless the argument is an integer of at least `minimum`."""
    is_integer = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not is_integer or number < minimum:
        raise (ValueError if is_integer else TypeError)(
            f"`{caller}({name}=...)` must be an integer >= {minimum}. Received: {name}={number!r}."
        )
