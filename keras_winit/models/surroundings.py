"""Extends `structure` by what decides a kernel's scheme: gates, products, shared embeddings."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras

from keras_winit.models.activations import Nonlinearity, nonlinearity
from keras_winit.models.graph import Call
from keras_winit.models.structure import NORMALIZATIONS, Structure, is_sum

layers = keras.layers

# Layers and operations that multiply tensors as matrices.
MATRIX_PRODUCTS = frozenset(
    ("Matmul", "Einsum", "Tensordot", "Dot", "DotProductAttention", "Attention")
)
SILU = Nonlinearity("silu", "silu")
# The factor in sin(omega * x), written with operations, is not part of the calls.
UNKNOWN_SINE = Nonlinearity("a sine of unknown frequency", None)
# Activations before an output that do not make the layer before it a hidden one.
OUTPUT_ACTIVATIONS = frozenset(("softplus", "exponential", "log_sigmoid"))


class Following(NamedTuple):
    """Activations and products that the output of a call meets before the next kernels.

    Args:
        activations: The first activation on each path, the nearest one first.
        kernels: Positions of the calls with the next kernels.
        is_factor: Whether it enters a product of two matrices before any activation.
        is_gate: Whether its activation saturates and is multiplied with another tensor.
    """

    activations: tuple[Nonlinearity, ...]
    kernels: tuple[int, ...]
    is_factor: bool
    is_gate: bool


class Surroundings(Structure):
    """The calls of a model with their kernels, activations, products and residual branches.

    Args:
        calls: Each after the calls that it needs.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__(calls)
        self.nonlinearities = [nonlinearity(call) for call in calls]
        # Many walks meet the same calls: each one is looked at once.
        self._gates = {position for position in range(len(calls)) if self._is_gate(position)}
        self._members: dict[int, list[int]] = {}
        for position in range(len(calls)):
            number = self.branch(position)
            if number is not None:
                self._members.setdefault(number, []).append(position)
        # An embedding table that also makes the output is multiplied there without its layer.
        self.has_raw_output_product = any(
            type(call.operation).__name__ in MATRIX_PRODUCTS
            and not call.takes_several
            and not self.kernel_follows(position)
            for position, call in enumerate(calls)
        )

    @property
    def branch_count(self) -> int:
        """Number of residual branches."""
        return len(self._members)

    def following(self, position: int) -> Following:
        """Return what the output of a call meets before the next kernels."""
        own = self.nonlinearities[position]
        activations = [] if own is None else [own]
        is_gate = position in self._gates
        next_kernels: dict[int, None] = {}
        is_factor = False
        # Each step of the walk carries whether its path has met no activation so far.
        seen: set[tuple[int, bool]] = set()
        pending = deque((user, own is None) for user in self._users[position])
        while pending:
            current, is_open = pending.popleft()
            if (current, is_open) in seen or (current, True) in seen:
                continue
            seen.add((current, is_open))
            if self.kernels[current]:
                next_kernels[current] = None
                continue
            activation = self.nonlinearities[current]
            if is_open and activation is not None:
                activations.append(self._with_factors(current, activation))
                is_gate = is_gate or (activations[-1] is activation and current in self._gates)
                is_open = False
            elif self._multiplies_matrices(current):
                is_factor, is_open = is_factor or is_open, False
            pending.extend((user, is_open) for user in self._users[current])
        return Following(tuple(activations), tuple(next_kernels), is_factor, is_gate)

    def comes_from_product(self, position: int) -> bool:
        """Return whether a product of two matrices reaches a call before a kernel or activation."""
        return any(
            self._multiplies_matrices(source)
            for source in self._sources(position, through_activations=False)
        )

    def is_normalized_before_sums(self, position: int) -> bool:
        """Return whether the output of a call is normalized before any sum, wherever it goes."""
        pending, seen, normalized = list(self._users[position]), set(), False
        while pending:
            current = pending.pop()
            if isinstance(self.calls[current].operation, NORMALIZATIONS):
                normalized = True
                continue
            if self.kernels[current] or is_sum(self.calls[current]):
                return False
            if current not in seen:
                seen.add(current)
                pending += self._users[current]
        return normalized

    def summed_embeddings(self, position: int) -> tuple[list[int], bool]:
        """Return the positions of an embedding and of the embeddings that are summed with it.

        The second value says whether a tensor that no traced call made is added as well: mostly
        a table of positions, which needs no input of the model.
        """
        found, constant_added = {position: None}, False
        for follower in self._followers(position):
            if is_sum(self.calls[follower]):
                sources = self._sources(follower, through_activations=True)
                found |= dict.fromkeys(p for p in sources if self._is_embedding(p))
                constant_added = constant_added or not self.calls[follower].takes_several
        return list(found), constant_added

    def makes_output(self, position: int, following: Following) -> bool:
        """Return whether a call holds the last kernel before an output, and is no hidden layer.

        A model that ends with a normalization, a sum or a rectifier is taken for the first part
        of a larger model.
        """
        return not (
            self.kernel_follows(position)
            or self.is_normalized(position)
            or self.ends_branch(position)
        ) and all(
            activation.is_row_wise or activation.name in OUTPUT_ACTIVATIONS or activation.saturates
            for activation in following.activations
        )

    def path_length(self, branch: int) -> int:
        """Return the number of kernels on the longest path through a branch."""
        lengths: dict[int, int] = {}
        for position in self._members[branch]:
            before = (lengths.get(source, 0) for source in self.calls[position].inputs)
            lengths[position] = max(before, default=0) + bool(self.kernels[position])
        return max(lengths.values())

    def holds_normalization(self, branch: int) -> bool:
        """Return whether a branch holds a normalization."""
        operations = (self.calls[position].operation for position in self._members[branch])
        return any(isinstance(operation, NORMALIZATIONS) for operation in operations)

    def _multiplies_matrices(self, position: int) -> bool:
        call = self.calls[position]
        return type(call.operation).__name__ in MATRIX_PRODUCTS and call.takes_several

    def _is_embedding(self, position: int) -> bool:
        return any(kernel.name == "embeddings" for kernel in self.kernels[position])

    def _sources(self, position: int, through_activations: bool) -> Iterator[int]:
        """Yield the calls that a call depends on, up to the calls with kernels before it."""
        pending, seen = list(self.calls[position].inputs), set()
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            yield current
            activates = self.nonlinearities[current] is not None
            if not self.kernels[current] and (through_activations or not activates):
                pending += self.calls[current].inputs

    def _is_gate(self, position: int) -> bool:
        """Return whether the saturating activation of a call is multiplied with another tensor."""
        activation = self.nonlinearities[position]
        if activation is None or activation.is_row_wise:
            return False
        pending = list(self._users[position])
        while pending:
            current = pending.pop()
            call = self.calls[current]
            if type(call.operation).__name__ == "Multiply" and call.takes_several:
                return activation.saturates
            is_plain = not self.kernels[current] and self.nonlinearities[current] is None
            if is_plain and not call.takes_several:
                pending += self._users[current]
        return False

    def _with_factors(self, position: int, activation: Nonlinearity) -> Nonlinearity:
        """Recognize activations written with operations: x * sigmoid(x) and sin(omega * x)."""
        sources = set(self.calls[position].inputs)
        if type(self.calls[position].operation).__name__ == "Sin" and any(
            type(self.calls[source].operation).__name__ == "Multiply" for source in sources
        ):
            return UNKNOWN_SINE
        multiplied_with_input = any(
            type(self.calls[user].operation).__name__ == "Multiply"
            and set(self.calls[user].inputs) == sources | {position}
            for user in self._users[position]
        )
        return SILU if activation.name == "sigmoid" and multiplied_with_input else activation
