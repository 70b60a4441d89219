"""What a layer's outputs are called: its name, and marks at the end of it."""

import functools
import re

# The number of the output, that of the call, and whether it is before the activation.
MARKS = r"(:\d+)?(@\d+)?(\.pre)?"


def site(layer: str, output: int = 0, call: int = 1, before: bool = False) -> str:
    """Of a layer's outputs and calls each its own: `name:1@2` or `name@2.pre`.

    Args:
        layer: Its name, which must not end in a mark.
        output: Its number among those of one call, from 0.
        call: Its number within the step, from 1.
        before: Whether it is the pre-activation.
    """
    marks = (f":{output}" if output else "", f"@{call}" if call > 1 else "")
    return layer + "".join(marks) + (".pre" if before else "")


def ends_in_mark(name: str) -> bool:
    """Whether a layer's own name would be taken for one of its sites."""
    return layer_of(name) != name


@functools.lru_cache(maxsize=4096)
def layer_of(site: str) -> str:
    """The name of the layer."""
    return _split(site)[0]


@functools.lru_cache(maxsize=4096)
def split_call(site: str) -> tuple[str, int]:
    """The site without its call, and the number of that: `name@2.pre` is `name.pre`, 2."""
    layer, output, call, before = _split(site)
    return layer + output + before, int(call[1:] or 1)


def is_before(site: str) -> bool:
    """Whether it is a pre-activation."""
    return site.endswith(".pre")


def _split(site: str) -> tuple[str, str, str, str]:
    found = re.fullmatch(f"(.*?){MARKS}", site, re.DOTALL)
    assert found is not None
    layer, output, call, before = found.groups(default="")
    return layer, output, call, before
