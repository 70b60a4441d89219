"""What can be said of each layer of a built model before it sees data."""

import inspect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_winit import theory
from keras_winit.initializers.upsampling import Bilinear, Icnr
from keras_winit.models.graph import Call, graph
from keras_winit.models.kernels import kernels
from keras_winit.models.names import Names
from keras_winit.theory.fans import Use, kernel_axes

layers = keras.layers

NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
    layers.Normalization,
)
# Of what a model is given; between kernels it normalizes nothing.
PREPARATIONS = (*NORMALIZATIONS, layers.Rescaling)
SUMS = (layers.Add, layers.Average)

# Activations by the names of Keras' functions, operations and layers, without "_".
KNOWN = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "tanh"),
    *("sigmoid", "softplus", "softsign", "hard_sigmoid", "hard_tanh", "hard_silu"),
    *("softmax", "log_softmax", "exponential"),
)
ACTIVATIONS = {name.replace("_", ""): name for name in KNOWN} | {
    "prelu": "leaky_relu",
    "swish": "silu",
    "hardswish": "hard_silu",
}


@dataclass(frozen=True)
class Kernel:
    """A trainable kernel.

    Args:
        name: Of the variable, see `Names`.
        size: Its entries.
        role: "kernel", "recurrent", "embedding", or "other" where nothing is known of it.
        unit_axes: That tell its units apart; none if it has no units of its own.
        variances: Of the entries, that keep a signal or a gradient: the smallest and the
            largest in use. None where nothing is known.
        repeats: Whether it starts with equal units on purpose.
    """

    name: str
    size: int
    role: str = "kernel"
    unit_axes: tuple[int, ...] = ()
    variances: tuple[float, float] | None = None
    repeats: bool = False


@dataclass(frozen=True)
class Part:
    """A layer that is not made of others.

    Args:
        name: Of the layer.
        kind: Its class.
        kernels: Its trainable kernels.
        activation: The nonlinearity that its output meets first, its own or another layer's;
            None if there is none before the next kernel.
        hidden: Whether a kernel comes after it.
        branch: The number of the residual branch that it lies in, or None.
        closes: Whether it holds the last kernel of its branch, which may start at zero.
        normalized: Whether its output meets a normalization before the next kernel.
        raw: Whether it holds a kernel and takes the model's input as it comes.
    """

    name: str
    kind: str = ""
    kernels: tuple[Kernel, ...] = ()
    activation: str | None = None
    hidden: bool = True
    branch: int | None = None
    closes: bool = False
    normalized: bool = False
    raw: bool = False

    @property
    def embeds(self) -> bool:
        """Whether it looks its output up."""
        return any(kernel.role == "embedding" for kernel in self.kernels)


def unit_axes(model: Any, names: Names) -> dict[str, tuple[int, ...]]:
    """The axes of each kernel's units, by the name of the variable."""
    found = {}
    for name, variable, use in kernels(model):
        axes = _unit_axes(name, variable, use)
        if axes:
            found[names.of(variable)] = axes
    return found


def anatomy(model: Any, names: Names) -> dict[int, Part]:
    """The parts of a built model, by the `id` of the layer.

    A model that does not run on symbols, see `keras_winit.models.graph`, is taken for one
    row of layers in the order of their making, without branches.
    """
    try:
        calls = graph(model)
    except Exception:
        parts = [part for part in model._flatten_layers(include_self=False) if _is_leaf(part)]
        calls = [Call(p, (i - 1,) if i else (), not i) for i, p in enumerate(parts)]
    return _parts(calls, names)


def activation_of(operation: Any) -> str | None:
    """The name of the activation that a layer or an operation applies; None if it has none."""
    if isinstance(operation, layers.TimeDistributed):
        return activation_of(operation.layer)
    if isinstance(operation, layers.ReLU) and operation.max_value == 6:
        return "relu6"
    own = getattr(operation, "activation", None)
    if isinstance(own, layers.Layer | keras.Operation):
        return activation_of(own)
    if own is not None and not isinstance(operation, layers.RNN):
        called = str(getattr(inspect.unwrap(own), "__name__", ""))
        return ACTIVATIONS.get(called.replace("_", ""))
    return ACTIVATIONS.get(type(operation).__name__.lower())


def _is_leaf(layer: Any) -> bool:
    opaque = isinstance(layer, layers.RNN | layers.Bidirectional)
    inner = any(layer._flatten_layers(include_self=False, recursive=False))
    return (opaque or not inner) and not isinstance(layer, layers.InputLayer)


def _parts(calls: Sequence[Call], names: Names) -> dict[int, Part]:
    held = [_kernels_of(call.operation) for call in calls]
    users: list[list[int]] = [[] for _ in calls]
    before: list[int] = []
    for place, call in enumerate(calls):
        # As bits: what a call needs, and itself.
        needs = 1 << place
        for needed in call.inputs:
            users[needed].append(place)
            needs |= before[needed]
        before.append(needs)
    after = [False] * len(calls)
    for place in reversed(range(len(calls))):
        after[place] = any(held[user] or after[user] for user in users[place])
    branches, closing = _branches(calls, held, before)
    found: dict[int, Part] = {}
    for place, call in enumerate(calls):
        layer = call.operation
        if not isinstance(layer, layers.Layer) or id(layer) in found:
            continue
        activation, normalized = _meets(calls, held, users, place)
        found[id(layer)] = Part(
            name=layer.name,
            kind=type(layer).__name__,
            kernels=tuple(_describe(layer, held[place], activation, names)),
            activation=activation,
            hidden=after[place],
            branch=branches.get(place),
            closes=place in closing,
            normalized=normalized,
            raw=bool(held[place]) and _is_raw(calls, held, place),
        )
    return found


Held = list[tuple[str, Any, Use | None]]


def _kernels_of(operation: Any) -> Held:
    if not isinstance(operation, layers.Layer):
        return []
    return list(kernels(operation))


def _meets(
    calls: Sequence[Call], held: Sequence[Held], users: Sequence[Sequence[int]], place: int
) -> tuple[str | None, bool]:
    """The first activation after a call, and whether a normalization comes before a kernel."""
    activation = activation_of(calls[place].operation)
    activation = None if activation == "linear" else activation
    normalized = False
    seen, pending = {place}, list(users[place])
    while pending:
        here = pending.pop(0)
        if here in seen or held[here]:
            continue
        seen.add(here)
        operation = calls[here].operation
        normalized = normalized or isinstance(operation, NORMALIZATIONS)
        activation = activation or activation_of(operation)
        pending += users[here]
    return activation, normalized


def _is_raw(calls: Sequence[Call], held: Sequence[Held], place: int) -> bool:
    """Whether an input of the model comes here without a kernel or a normalization between."""
    pending, seen = [place], set()
    while pending:
        here = pending.pop()
        if here in seen:
            continue
        seen.add(here)
        if here != place and (held[here] or isinstance(calls[here].operation, PREPARATIONS)):
            continue
        if calls[here].reads:
            return True
        pending += calls[here].inputs
    return False


def _branches(
    calls: Sequence[Call], held: Sequence[Held], before: Sequence[int]
) -> tuple[dict[int, int], set[int]]:
    """Which residual branch a call lies in, and which calls close one.

    Of two things that are added up, the branch is what has more kernels of its own; that
    of the smallest sum counts.
    """
    inside: dict[int, int] = {}
    closing: set[int] = set()
    numbers = itertools.count()
    for call in calls:
        sums = isinstance(call.operation, SUMS) or type(call.operation).__name__ == "Add"
        sides = [before[place] for place in call.inputs] + [0] * call.reads
        if not sums or len(sides) != 2:
            continue
        one, other = sides
        own = [_members(side) for side in (one & ~other, other & ~one)]
        counts = [sum(bool(held[place]) for place in side) for side in own]
        if counts[0] == counts[1]:
            continue
        branch, number = own[counts[1] > counts[0]], next(numbers)
        for place in branch:
            inside.setdefault(place, number)
        closing.add(max(place for place in branch if held[place]))
    return inside, closing


def _members(bits: int) -> list[int]:
    return [place for place in range(bits.bit_length()) if bits >> place & 1]


def _unit_axes(name: str, variable: Any, use: Use | None) -> tuple[int, ...]:
    if use is None or "embeddings" in name or len(variable.shape) < 2:
        return ()
    axes = kernel_axes(variable.shape, use)
    return (*axes.apart, *axes.outputs)


def _describe(layer: Any, held: Held, activation: str | None, names: Names) -> Iterator[Kernel]:
    for name, variable, use in held:
        if not variable.trainable:
            continue
        shape = variable.shape
        role = "kernel"
        if "embeddings" in name:
            role = "embedding"
        elif "recurrent_kernel" in name:
            role = "recurrent"
        elif use is None:
            role = "other"
        plain = role == "kernel" and not isinstance(layer, layers.RNN | layers.Bidirectional)
        variances = None
        if use is not None and plain:
            variances = _variances(theory.fans(shape, **vars(use)), activation)
        elif role == "recurrent":
            variances = (1 / max(shape[-2], 1),) * 2
        scheme = getattr(layer, "kernel_initializer", None)
        yield Kernel(
            name=names.of(variable),
            size=math.prod(shape),
            role=role,
            unit_axes=_unit_axes(name, variable, use),
            variances=variances,
            repeats=isinstance(scheme, Icnr | Bilinear),
        )


def _variances(fans: tuple[float, float], activation: str | None) -> tuple[float, float] | None:
    """From gain 1 to that of the activation, by fan_in, fan_out or between."""
    if min(fans) <= 0:
        return None
    try:
        squared = 1.0 if activation is None else theory.gain(activation) ** 2
    except ValueError:
        squared = 1.0
    return min(1.0, squared) / max(fans), max(1.0, squared) / min(fans)
