"""Roots of functions of one variable."""

import math
from collections.abc import Callable
from itertools import pairwise

from keras_winit.theory.formulas import Array


def first_root(function: Callable[[float], float], path: Array) -> float:
    """Return the first root along a path of increasing or decreasing points, or NaN."""
    points = path.tolist()
    value = function(points[0])
    for here, there in pairwise(points):
        previous, value = value, function(there)
        if previous * value <= 0:
            return root(function, here, there)
    return math.nan


def root(function: Callable[[float], float], a: float, b: float) -> float:
    """Return the root between two points where the function differs in sign.

    The method is false position with the Illinois modification.
    """
    f_a, f_b = function(a), function(b)
    if f_a == 0:
        return float(a)
    for _ in range(100):
        x = b - f_b * (b - a) / (f_b - f_a)
        f_x = function(x)
        if f_x * f_b <= 0:
            a, f_a = b, f_b
        else:
            f_a /= 2
        moved, b, f_b = abs(x - b), x, f_x
        if f_x == 0 or min(moved, abs(b - a)) <= 1e-15 * abs(x):
            break
    return float(b)
