"""Finds kernels, scores and residual branches in a list of calls, and what follows each call."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence

import keras

from keras_winit.models.activations import activation_name
from keras_winit.models.graph import Call
from keras_winit.models.kernels import kernels

layers = keras.layers

NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
    layers.Normalization,
)
# `Rescaling` scales the inputs of a model; between kernels it normalizes nothing.
INPUT_SCALINGS = (*NORMALIZATIONS, layers.Rescaling)
SUMS = (layers.Add, layers.Average)

# Layers that take query, value and, if it is not the value, key; and the name of the operation
# that takes query, key and value.
ATTENTION_LAYERS = (layers.Attention, layers.AdditiveAttention)
FUSED_ATTENTION = "DotProductAttention"


def is_sum(call: Call) -> bool:
    """Return whether a call adds tensors, by a layer or by an operation."""
    return isinstance(call.operation, SUMS) or type(call.operation).__name__ == "Add"


class Structure:
    """The calls of a model, with the kernels of each and what surrounds it.

    A call is given by its position in `calls`.

    Args:
        calls: Each after the calls that it needs.
        scores_known: Whether the calls show which outputs are only scores. Defaults to True.
    """

    def __init__(self, calls: Sequence[Call], scores_known: bool = True) -> None:
        self.calls = calls
        self.kernels = [
            list(kernels(call.operation)) if isinstance(call.operation, layers.Layer) else []
            for call in calls
        ]
        self._users: list[list[int]] = [[] for _ in calls]
        for position, call in enumerate(calls):
            for source in call.inputs:
                self._users[source].append(position)
        self._kernel_follows = [False] * len(calls)
        for position in reversed(range(len(calls))):
            self._kernel_follows[position] = any(
                self.kernels[user] or self._kernel_follows[user] for user in self._users[position]
            )
        self._only_scores = [False] * len(calls)
        for position in reversed(range(len(calls) if scores_known else 0)):
            self._only_scores[position] = self._leads_to_scores_only(position)
        self._branches, self._branch_ends = self._find_branches()

    def kernel_follows(self, position: int) -> bool:
        """Return whether the output of a call reaches another kernel."""
        return self._kernel_follows[position]

    def only_scores(self, position: int) -> bool:
        """Return whether the output of a call only decides how much other tensors count.

        It then passes a softmax before the next kernel, as queries and keys of attention do.
        """
        return self._only_scores[position]

    def users(self, position: int) -> list[int]:
        """Return the positions of the calls that take the output of a call."""
        return self._users[position]

    def branch(self, position: int) -> int | None:
        """Return the number of the residual branch that a call lies in, if any."""
        return self._branches.get(position)

    def ends_branch(self, position: int) -> bool:
        """Return whether a call holds the last kernel of a residual branch."""
        return position in self._branch_ends

    def first_activation(self, position: int) -> str | None:
        """Return the first activation that a call or what follows it applies, if any."""
        names = (
            activation_name(self.calls[current].operation)
            for current in (position, *self._followers(position))
        )
        return next(filter(None, names), None)

    def is_normalized(self, position: int) -> bool:
        """Return whether the output of a call is normalized before the next kernel."""
        return any(
            isinstance(self.calls[follower].operation, NORMALIZATIONS)
            for follower in self._followers(position)
        )

    def takes_raw_input(self, position: int) -> bool:
        """Return whether a model input reaches a call without a kernel or a normalization."""
        pending, seen = [position], set()
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            call = self.calls[current]
            transforms = self.kernels[current] or isinstance(call.operation, INPUT_SCALINGS)
            if current != position and (transforms or _makes_mask(call)):
                continue
            if call.takes_model_input:
                return True
            pending += call.inputs
        return False

    def _leads_to_scores_only(self, position: int) -> bool:
        """Return whether a call is a softmax inside the model, or its users take it as scores."""
        if activation_name(self.calls[position].operation) == "softmax":
            return self._kernel_follows[position]
        users = self._users[position]
        return bool(users) and all(
            self._only_scores[user] or self._scores_with(position, self.calls[user])
            for user in users
        )

    def _scores_with(self, position: int, user: Call) -> bool:
        """Return whether an attention takes the output of a call as query or key alone."""
        arguments = user.arguments[:3]
        if isinstance(user.operation, ATTENTION_LAYERS):
            return position in arguments and position != arguments[1]
        if type(user.operation).__name__ == FUSED_ATTENTION:
            return position in arguments[:2] and position not in arguments[2:]
        return False

    def _followers(self, position: int) -> Iterator[int]:
        """Yield the calls after a call, breadth first, up to the next calls with kernels."""
        seen, pending = {position}, deque(self._users[position])
        while pending:
            current = pending.popleft()
            if current in seen or self.kernels[current]:
                continue
            seen.add(current)
            yield current
            pending.extend(self._users[current])

    def _find_branches(self) -> tuple[dict[int, int], set[int]]:
        """Return the branch number of each call in a residual branch, and where branches end.

        A sum closes a residual block. The shortcut is the term with the fewest kernels of its
        own, that is, kernels that no other term depends on; kernels in branches that an earlier
        sum has closed count less than all others, as in (x + f(x)) + g(x). Each term with more
        is a branch. In nested blocks, a call belongs to the innermost branch.
        """
        branches: dict[int, int] = {}
        ends: set[int] = set()
        numbers = itertools.count()
        ancestors = _ancestors(self.calls)
        for call in self.calls:
            terms = [ancestors[source] for source in call.inputs] + [0] * call.takes_model_input
            if not is_sum(call) or len(terms) < 2:
                continue
            exclusive = [_positions(only) for only in _only_in_one(terms)]
            with_kernels = [[p for p in side if self.kernels[p]] for side in exclusive]
            new = [[p for p in side if p not in branches] for side in with_kernels]
            counts = [(len(n), len(side)) for n, side in zip(new, with_kernels, strict=True)]
            for place, count in enumerate(counts):
                if count > min(counts):
                    number = next(numbers)
                    for position in exclusive[place]:
                        branches.setdefault(position, number)
                    ends.add((new[place] or with_kernels[place])[-1])
        return branches, ends


def _makes_mask(call: Call) -> bool:
    """Return whether a traced call makes truth values, as the mask of an embedding."""
    return call.node is not None and call.node.output_tensors[0].dtype == "bool"


def _only_in_one(sets: Sequence[int]) -> Iterator[int]:
    """Yield the elements of each set that no other one has; the sets are bits of integers."""
    seen = repeated = 0
    for one in sets:
        repeated |= seen & one
        seen |= one
    for one in sets:
        yield one & ~repeated


def _ancestors(calls: Sequence[Call]) -> list[int]:
    """Return, for each call, the set of itself and all that it depends on, as bits of an int."""
    ancestors: list[int] = []
    for position, call in enumerate(calls):
        bits = 1 << position
        for source in call.inputs:
            bits |= ancestors[source]
        ancestors.append(bits)
    return ancestors


def _positions(bits: int) -> list[int]:
    # The positions of a branch lie close together: a loop from 0 would be quadratic.
    first = max((bits & -bits).bit_length() - 1, 0)
    bits >>= first
    return [first + place for place in range(bits.bit_length()) if bits >> place & 1]
