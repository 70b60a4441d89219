"""Argument types: each converts one command-line argument, or says what is wrong with it."""

import difflib
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_winit.initializers import Scheme


def integer_from(least: int) -> Callable[[str], int]:
    """Return an argument type for integers from `least` to 2**32 - 1."""

    def integer(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) < 2**32:
            raise ArgumentTypeError(
                f"must be an integer from {least} to 4294967295, not {text[:40]!r}"
            )
        return int(text)

    return integer


def number(text: str) -> float:
    """Return the number that the text stands for."""
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a number, not {text[:40]!r}") from None


def scheme(text: str) -> type["Scheme"]:
    """Return the class of a scheme, given its name with or without `winit>`."""
    from keras_winit_commands.library import keras_winit

    name = text.removeprefix("winit>")
    if name not in keras_winit.initializers.REGISTRY:
        raise ArgumentTypeError(f"no scheme {text!r}. {_suggestion(name)}")
    return keras_winit.initializers.REGISTRY[name]


def initializer(text: str) -> str:
    """Return the name if Keras knows it and it can initialize a dense kernel."""
    from keras_winit_commands.library import keras

    try:
        instance = keras.initializers.get(text)
    except (ValueError, TypeError, KeyError):
        raise ArgumentTypeError(f"no initializer {text!r}. {_suggestion(text)}") from None
    try:
        # Some initializers split the outputs into gates or blocks: 12 can be split.
        instance((12, 12), "float32")
    except Exception:
        raise ArgumentTypeError(f"{text!r} makes no dense kernel") from None
    return text


def activation(text: str) -> str:
    """Return the name if it is that of an activation of Keras."""
    from keras_winit_commands.library import keras

    try:
        keras.activations.get(text)
    except (ValueError, TypeError):
        raise ArgumentTypeError(f"Keras has no activation {text!r}") from None
    return text


def picture_file(text: str) -> Path:
    """Return the path if a picture can be drawn and saved there, before any work is done."""
    from keras_winit_commands.library import keras_winit

    try:
        formats = keras_winit.plots.figure().canvas.get_supported_filetypes()
    except ModuleNotFoundError as error:
        raise ArgumentTypeError(str(error)) from None
    if Path(text).suffix[1:].lower() not in formats:
        endings = ", ".join(f".{ending}" for ending in sorted(formats))
        raise ArgumentTypeError(f"{text!r} must end in one of {endings}")
    return _writable(text, folder=False)


def model_file(text: str) -> str:
    """Return the path of a saved model that exists."""
    if not text.endswith(".keras"):
        raise ArgumentTypeError(f"{text!r} must end in .keras")
    if not Path(text).is_file():
        raise ArgumentTypeError(f"no file {text!r}")
    return text


def saved_model(text: str) -> Path:
    """Return the path if a model can be saved there."""
    if not text.endswith(".keras"):
        raise ArgumentTypeError(f"{text!r} must end in .keras")
    return _writable(text, folder=False)


def output_folder(text: str) -> Path:
    """Return the path of a folder that exists or can be made."""
    return _writable(text, folder=True)


def _writable(text: str, folder: bool) -> Path:
    path = Path(text)
    try:
        if not path.parent.is_dir():
            raise ArgumentTypeError(f"no folder {str(path.parent)!r} for {text!r}")
        if path.exists() and path.is_dir() != folder:
            kinds = "a file, not a folder" if folder else "a folder, not a file"
            raise ArgumentTypeError(f"{text!r} is {kinds}")
        writable = os.access(path if path.exists() else path.parent, os.W_OK)
    except OSError:  # such as a name that is too long
        writable = False
    if not writable:
        raise ArgumentTypeError(f"{text!r} cannot be written")
    return path


def _suggestion(text: str) -> str:
    from keras_winit_commands.library import keras_winit

    registry = keras_winit.initializers.REGISTRY
    close = difflib.get_close_matches(text.removeprefix("winit>").lower(), registry, n=1)
    question = f"Did you mean {registry[close[0]].identifier!r}? " if close else ""
    return f"{question}`keras-winit list` shows all."
