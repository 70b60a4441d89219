"""Row names: a layer's name, with marks for the output, the call and the pre-activation."""

import functools
import re

# Number of the output, number of the call, pre-activation.
MARKS = r"(:\d+)?(@\d+)?(\.pre)?"


def row_name(layer: str, output: int = 0, call: int = 1, pre_activation: bool = False) -> str:
    """Return the row name of one output of one call of a layer: `name:1@2` or `name@2.pre`.

    Args:
        layer: Name of the layer, which must not end in a mark.
        output: Index of the output among those of one call, from 0.
        call: Number of the call within the step, from 1.
        pre_activation: Whether the row is the pre-activation.
    """
    marks = (f":{output}" if output else "", f"@{call}" if call > 1 else "")
    return layer + "".join(marks) + (".pre" if pre_activation else "")


def ends_in_mark(name: str) -> bool:
    """Return whether a layer's name could be mistaken for a row name of another layer."""
    return layer_of(name) != name


@functools.lru_cache(maxsize=4096)
def layer_of(row: str) -> str:
    """Return the layer's name within a row name: `name` for `name:1@2.pre`."""
    return _split(row)[0]


@functools.lru_cache(maxsize=4096)
def split_call(row: str) -> tuple[str, int]:
    """Split the number of the call off a row name: `name@2.pre` gives `name.pre` and 2."""
    layer, output, call, pre_activation = _split(row)
    return layer + output + pre_activation, int(call[1:] or 1)


def is_pre_activation(row: str) -> bool:
    """Return whether a row is a pre-activation."""
    return row.endswith(".pre")


def _split(row: str) -> tuple[str, str, str, str]:
    match = re.fullmatch(f"(.*?){MARKS}", row, re.DOTALL)
    assert match is not None
    layer, output, call, pre_activation = match.groups(default="")
    return layer, output, call, pre_activation
