"""Restores the variables of a model if the function that changes them fails or is interrupted."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from keras_winit.models.variable_values import copy_of


class Progress:
    """Tells how far a function has come in a model, for the message of an error.

    Args:
        function: Name of the public function, such as "lsuv".
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._place = "before it reached the first layer"

    def reach(self, name: str, number: int, total: int) -> None:
        """Note that layer `number` of `total`, counted from 1, is next."""
        self._place = f"at layer {name!r} ({number} of {total})"

    @property
    def place(self) -> str:
        """The layer that the function has reached, such as "at layer 'conv' (3 of 8)"."""
        return self._place

    def __str__(self) -> str:
        """Say where the function stopped."""
        return f"`{self._function}` stopped {self._place}. The model is as it was before the call."


@contextlib.contextmanager
def restored_on_error(function: str, variables: Iterable[Any]) -> Iterator[Progress]:
    """Restore some variables to the bit if the body raises an error or is interrupted.

    The error itself is raised again, with a note that says how far the function had come.

    Args:
        function: Name of the public function, such as "lsuv", for the note.
        variables: All variables that the body may change: `model.variables`, and those of the
            optimizer if it is reset.

    Yields:
        The progress, which the body must update before each layer.
    """
    saved = [(variable, copy_of(variable)) for variable in {id(v): v for v in variables}.values()]
    progress = Progress(function)
    try:
        yield progress
    except BaseException as error:
        try:
            _restore(saved)
        except KeyboardInterrupt:
            # A second Ctrl-C has interrupted this; only a third one leaves it unfinished.
            _restore(saved)
        error.add_note(str(progress))
        raise


def _restore(saved: Iterable[tuple[Any, Any]]) -> None:
    for variable, value in saved:
        variable.assign(value)
