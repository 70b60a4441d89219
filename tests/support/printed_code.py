"""Runs the code that a text prints between backticks."""

import re

import keras
import numpy as np

import keras_winit


def alternatives(text):
    """Return the lists of statements in a text; "; or" and ", or" begin another list."""
    lists = [re.findall(r"`([^`]+)`", part) for part in re.split(r"[;,] or\b", text)]
    return [codes for codes in lists if codes]


def run_code(codes, model, x=None, y=None):
    """Run statements on a model and its data; return the names afterwards."""
    scope = {"keras": keras, "keras_winit": keras_winit, "np": np, "model": model, "x": x, "y": y}
    for code in codes:
        exec(code, scope)
    return scope
