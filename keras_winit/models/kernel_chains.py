"""Finds chains: kernels in a row with one activation between two, no normalization, no skip."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import keras

from keras_winit.models.activations import Nonlinearity
from keras_winit.models.graph import Call
from keras_winit.models.surroundings import Surroundings
from keras_winit.models.valid_taps import valid_share

layers = keras.layers

# Layers whose kernel may lie in a chain. Their subclasses apply it in another way.
MEMBERS = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
# Layers that hand each unit on, at fewer or more positions.
PASSING = frozenset(
    [
        f"{name}{rank}D"
        for name in ("SpatialDropout", "ZeroPadding", "Cropping")
        for rank in (1, 2, 3)
    ]
    + [f"{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)]
    + [f"Global{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)]
    + ["Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization"]
    + ["Identity", "Cast", "UpSampling1D", "UpSampling2D", "UpSampling3D"]
)
# A chain of fewer kernels trains as well from the usual schemes.
FEWEST_KERNELS = 4
# Units come in pairs, so that fewer than this would leave next to nothing.
FEWEST_UNITS = 8
# Least share of the odd part of an activation: below, its even part drowns it.
LEAST_ODD_SHARE = 0.1
# From this share on, the even part is too small to be worth half the width, in chains where the
# even parts of all layers together are smaller than the signal. SELU has 0.983 and trains better so
# in chains of up to 59 kernels; ELU has 0.906 and does not.
NEARLY_ODD_SHARE = 0.95


class Link(NamedTuple):
    """The way from a kernel to the next one of its chain.

    Args:
        target: Position of the call with the next kernel.
        activation: The activation on the way.
        channels: Number of channels before a `Flatten` on the way, or None.
        pooled: Whether a global average pooling is on the way.
    """

    target: int
    activation: Nonlinearity
    channels: int | None
    pooled: bool


@dataclass(frozen=True)
class ChainPlace:
    """The place of a kernel in a chain.

    Args:
        place: "first", "hidden" or "last".
        kernels: Number of kernels in the chain.
        activation: The activation before the kernel; for a first kernel, the one after it.
        odd: Whether all activations of the chain are odd, see `is_odd`; if not, none is.
        copies: Whether identities can pass a signal on: the hidden kernels are square matrices of
            one size, and the activations return positive values unchanged.
        valid_share: Mean share of the kernel's window that lies on the map, not in its padding.
        channels: Number of channels before a `Flatten` whose output the kernel takes, or None.
        pooled: Whether the kernel takes the output of a global average pooling.
    """

    place: str
    kernels: int
    activation: Nonlinearity
    odd: bool
    copies: bool
    valid_share: float = 1.0
    channels: int | None = None
    pooled: bool = False


def chain_places(at: Surroundings) -> dict[int, ChainPlace]:
    """Return the place of each kernel that lies in a chain, by the position of its call."""
    links = dict(_links(at))
    starts = links.keys() - {link.target for link in links.values()}
    places: dict[int, ChainPlace] = {}
    for start in sorted(starts):
        chain = [start]
        while chain[-1] in links:
            chain.append(links[chain[-1]].target)
        odd = {is_odd(links[position].activation, len(chain)) for position in chain[:-1]}
        if len(chain) < FEWEST_KERNELS or len(odd) > 1 or None in odd:
            continue
        first = ChainPlace(
            "first", len(chain), links[start].activation, odd == {True}, _copies(at, chain, links)
        )
        places[start] = first
        for position in chain[:-1]:
            link = links[position]
            places[link.target] = replace(
                first,
                place="hidden" if link.target in links else "last",
                activation=link.activation,
                valid_share=_valid_share(at, link.target),
                channels=link.channels,
                pooled=link.pooled,
            )
    return places


def _copies(at: Surroundings, chain: Sequence[int], links: Mapping[int, Link]) -> bool:
    shapes = {tuple(at.kernels[position][0].variable.shape) for position in chain[1:-1]}
    size = min(shapes)[0]
    is_square = shapes == {(size, size)}
    return is_square and all(links[position].activation.copies_positive for position in chain[:-1])


def is_odd(activation: Nonlinearity, kernels: int) -> bool | None:
    """Return whether an activation is odd, nearly or up to a constant, for a chain of kernels.

    The result is None if the odd part of the activation is too small, or not known.
    """
    if activation.constant is not None:
        return True
    share = activation.odd_share
    if share is None or share < LEAST_ODD_SHARE:
        return None
    return share >= NEARLY_ODD_SHARE and kernels * (1 - share) < 1


def _valid_share(at: Surroundings, position: int) -> float:
    (before,) = at.calls[position].inputs
    return valid_share(at.calls[position].operation, at.calls[before].shape)


def _links(at: Surroundings) -> Iterator[tuple[int, Link]]:
    """Yield the position of each kernel that a link leaves, and the link."""
    uses = Counter(id(call.operation) for call in at.calls)
    members = {
        position
        for position, call in enumerate(at.calls)
        if uses[id(call.operation)] == 1 and _is_member(call)
    }
    for position in members:
        link = _link(at, position)
        wide_enough = at.kernels[position][0].variable.shape[-1] >= FEWEST_UNITS
        if link is not None and link.target in members and wide_enough:
            yield position, link


def _is_member(call: Call) -> bool:
    """Return whether a call applies a kernel that a chain may hold, to one tensor."""
    layer = call.operation
    return (
        type(layer) in MEMBERS
        and layer.trainable
        and len(call.inputs) + call.takes_model_input == 1
        and getattr(layer, "groups", 1) == 1
    )


def _link(at: Surroundings, position: int) -> Link | None:
    """Follow the output of a kernel to the next one; None if something else comes between."""
    activation, channels, pooled = at.nonlinearities[position], None, False
    current = position
    while True:
        users = at.users(current)
        if len(users) != 1:
            return None
        before, current = at.calls[current], users[0]
        call = at.calls[current]
        if len(call.inputs) + call.takes_model_input != 1:
            return None
        if at.kernels[current]:
            return None if activation is None else Link(current, activation, channels, pooled)
        kind = type(call.operation).__name__
        own = at.nonlinearities[current]
        if own is not None:
            if activation is not None:
                return None
            activation = own
        elif kind == "Flatten" and len(before.shape) > 2:
            channels = before.shape[-1]
            channels_first = keras.config.image_data_format() == "channels_first"
            if channels is None or channels_first or channels < FEWEST_UNITS:
                return None
        elif kind not in PASSING and kind != "Flatten":
            return None
        pooled = pooled or kind.startswith("GlobalAverage")
