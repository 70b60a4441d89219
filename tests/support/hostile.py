"""Values that no argument expects, and the errors with which the package must refuse them."""

import traceback
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

import keras_winit

PACKAGE = Path(keras_winit.__file__).parent

NUMBERS = [
    *(0, 1, 2, 3, -1, 0.5, -0.0, 1e-320, 1e-30, 1e5, 1e30, 1e200, 1e308, -1e308, 10**20, 10**320),
    *(float("inf"), float("-inf"), float("nan"), True, 1j, Fraction(1, 3), Decimal("0.5")),
    *(np.float32(0.5), np.float16("inf"), np.int64(3), np.bool_(True)),
    *(np.array(2.0), np.array(2), np.array([1.0, 2.0]), np.array("relu"), np.zeros((0,))),
]
TEXTS = ["", "relu", "tanh", "dense", "fan_in", "uniform", "zeros", "function", "1", "\0", "é\n"]
OTHERS = [None, b"1", (), [], {}, [None], [[]], [0, "a"], (1, 2), [1e308, 1], object, object(), len]
# Configs that must neither be taken for something else nor import anything.
CONFIGS = [
    {"class_name": "function"},
    {"class_name": "SeedGenerator", "config": {}},
    {"class_name": "Zeros", "config": {"nope": 1}},
    {"class_name": "winit>he_normal", "config": {"seed": "x"}},
    {"class_name": "winit>scaled", "config": {"inner": {"class_name": "function"}}},
    {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}},
    {"module": "os", "class_name": "system", "config": {}, "registered_name": None},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "x"},
    {"class_name": 3, "config": []},
]


def anything():
    """Return a strategy for values of any kind, most of which are wrong for any argument."""
    return st.one_of(
        st.sampled_from([*NUMBERS, *TEXTS, *OTHERS, *CONFIGS]),
        st.floats(),
        st.integers(-3, 12),
        st.lists(st.integers(-4, 4), max_size=4),
    )


def is_refusal(error):
    """Return whether an error was raised by a `raise` of the package and shows what it received."""
    *_, last = traceback.extract_tb(error.__traceback__)
    by_us = Path(last.filename).is_relative_to(PACKAGE) and last.line.startswith("raise")
    return by_us and isinstance(error, ValueError | TypeError) and "Received: " in str(error)


def assert_refusal(error):
    """Fail with the error itself as the cause, unless it is a refusal of the package."""
    if not is_refusal(error):
        raise AssertionError(f"no error of the package: {type(error).__name__}") from error
