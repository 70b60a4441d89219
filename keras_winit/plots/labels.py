"""Labels of layers, short enough to stand beside an axis."""

from collections.abc import Iterable, Sequence

# Lengths in characters of the longest labels: in a picture, and in a small picture.
LONGEST = 28
SHORT = 12


def shortened(text: str, length: int) -> str:
    """Return the text on one line, printable, and cut at its beginning if it is too long."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return text if len(text) <= length else "…" + text[1 - length :]


def layer_labels(names: Sequence[str], length: int = LONGEST) -> list[str]:
    """Shorten names: leave out the model that all share; short labels keep only the last part."""
    if length <= SHORT:
        names = [name.rpartition("/")[2] for name in names]
    models = {name.partition("/")[0] for name in names}
    prefix = f"{models.pop()}/" if len(models) == 1 else ""
    return [shortened(name.removeprefix(prefix), length) for name in names]


def evenly_spaced(count: int, limit: int, preferred: Iterable[int] = ()) -> list[int]:
    """Choose about `limit` of `count` places, evenly spaced; preferred ones where they fit."""
    distance = -(-count // limit)
    chosen: list[int] = []
    for place in (*preferred, *range(0, count, distance)):
        if all(abs(place - other) >= distance for other in chosen):
            chosen.append(place)
    return sorted(chosen)
