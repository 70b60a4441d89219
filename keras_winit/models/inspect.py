"""Finds the kernels of a built model, their fans, and what each of them is for."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from keras_winit import theory
from keras_winit.models.activations import Nonlinearity
from keras_winit.models.eager import calls_in_order, run_calls
from keras_winit.models.graph import Call, trace_calls
from keras_winit.models.kernel_chains import ChainPlace, chain_places
from keras_winit.models.kernels import Kernel, kernels
from keras_winit.models.names import Names
from keras_winit.models.surroundings import Surroundings

layers = keras.layers

# The attributes in which the attention layers of Keras keep their inner layers. Attention layers
# of other packages have taken over the names.
ATTENTION_ROLES = {
    "_query_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_output_dense": "attention output",
}


@dataclass(frozen=True)
class KernelContext:
    """A kernel with its surroundings in the model.

    Args:
        kernel: Name, variable and use.
        owner: The layer or cell that holds the variable.
        name: Unique name of the variable, see `Names`.
        fans: True `(fan_in, fan_out)`. None if its use is not known.
        role: "kernel", "embedding", "recurrent" (applied to the state of a recurrent layer),
            "gates" (applied to its input), "query", "key", "value", "attention output", or
            "unknown".
        calls: Number of calls of its layer in one pass of the model; 0 if none was seen.
        activations: The first activation that each path from its output meets before the next
            kernel, the nearest one first; of all calls.
        next_kernels: Names of the kernels that its output reaches next, of all calls.
        normalized: Whether its output is normalized before the next kernel and before any sum
            at every call, so that its scale does not matter.
        in_product: Whether its output is a factor of a product of two matrices, as that of a
            hand-written query, or its input is such a product.
        gate: Whether its activation saturates and is multiplied with another tensor.
        summed: Number of embeddings that are summed with it, and itself, for an embedding.
        tied: Whether it is an embedding that also makes the output, or is summed with one.
        head: Whether every call of its layer makes an output of the model.
        takes_raw_input: Whether it takes an input of the model as it is.
        branch: Number of the residual branch that it lies in, or None.
        ends_branch: Whether it is the last kernel of its branch.
        branch_kernels: Number of kernels on the longest path through its branch; 0 if none.
        branch_normalized: Whether its branch holds a normalization, or its sum is normalized.
        chain: Its place in a chain of kernels without normalization or skips, if it has one.
    """

    kernel: Kernel
    owner: Any
    name: str
    fans: tuple[float, float] | None
    role: str = "kernel"
    calls: int = 0
    activations: tuple[Nonlinearity, ...] = ()
    next_kernels: tuple[str, ...] = ()
    normalized: bool = False
    in_product: bool = False
    gate: bool = False
    summed: int = 1
    tied: bool = False
    head: bool = False
    takes_raw_input: bool = False
    branch: int | None = None
    ends_branch: bool = False
    branch_kernels: int = 0
    branch_normalized: bool = False
    chain: ChainPlace | None = None

    @property
    def activation(self) -> Nonlinearity | None:
        """The nearest activation that follows, if any."""
        return self.activations[0] if self.activations else None


@dataclass(frozen=True)
class Inspection:
    """The kernels of a model, in the order of their first calls, and how they were found.

    Args:
        kernels: All kernels, each once. Those whose layer was not called come last.
        method: "symbolic": the calls were traced on symbolic tensors. "eager": the model ran
            on zeros or on given data, which shows layers but no operations between them.
            "order": neither worked, and the layers are taken for a sequence.
        branches: Number of residual branches.
        error: Why the model could not be traced, or None.
    """

    kernels: tuple[KernelContext, ...]
    method: str
    branches: int = 0
    error: Exception | None = field(default=None, compare=False)

    @property
    def sentence(self) -> str:
        """The way in which the kernels were found."""
        if self.method == "symbolic":
            return "The model was traced on symbolic tensors."
        raised = f"tracing it raised {type(self.error).__name__}"
        if self.method == "eager":
            return (
                f"The model was run on a batch, which shows neither sums nor operations: {raised}."
            )
        return (
            f"The layers were taken for a sequence, in the order of their creation: {raised}. Give "
            f"a batch of inputs as `data` to see their order."
        )


def inspect_kernels(model: Any, names: Names | None = None, data: Any = None) -> Inspection:
    """Find the kernels of a built model, and what surrounds each of them.

    The model stays as it was.

    Args:
        model: Built model or layer.
        names: Names of its layers and variables. Defaults to None: new ones.
        data: A batch of inputs for a model that cannot be traced on symbolic tensors. Defaults
            to None: zeros of the shapes that the model was built with.
    """
    calls, method, error = _find_calls(model, data)
    reader = _Reader(model, calls, names or Names(model), method == "symbolic")
    found: dict[int, KernelContext] = {}
    for position, kernels_of_call in enumerate(reader.surroundings.kernels):
        for kernel in kernels_of_call:
            context, known = reader.context(position, kernel), found.get(id(kernel.variable))
            # A separate table of reverse embeddings is used only by the reverse call, the last one.
            if known is not None and kernel.name != "reverse_embeddings":
                context = _both(known, context)
            found[id(kernel.variable)] = context
    for kernel in kernels(model):
        if id(kernel.variable) not in found:
            found[id(kernel.variable)] = reader.uncalled(kernel, found.values())
    return Inspection(tuple(found.values()), method, reader.surroundings.branch_count, error)


def _both(first: KernelContext, later: KernelContext) -> KernelContext:
    """Return the surroundings of a kernel at its first call, with what follows a later one."""
    return replace(
        first,
        activations=tuple(dict.fromkeys((*first.activations, *later.activations))),
        next_kernels=tuple(dict.fromkeys((*first.next_kernels, *later.next_kernels))),
        normalized=first.normalized and later.normalized,
        head=first.head and later.head,
    )


def owning_layers(model: Any) -> dict[int, Any]:
    """Return the layer that itself holds each variable, by the `id` of the variable."""
    owners: dict[int, Any] = {}
    for layer in model._flatten_layers():
        inner_layers = layer._flatten_layers(include_self=False, recursive=False)
        inner = {id(variable) for other in inner_layers for variable in other.variables}
        for variable in layer.variables:
            if id(variable) not in inner:
                owners.setdefault(id(variable), layer)
    return owners


def _find_calls(model: Any, data: Any) -> tuple[list[Call], str, Exception | None]:
    """Return the calls of a model, the method that found them, and the error if tracing failed."""
    try:
        return trace_calls(model), "symbolic", None
    except Exception as error:
        reason = error
    try:
        return run_calls(model, data), "eager", reason
    except Exception:
        return calls_in_order(model), "order", reason


class _Reader:
    """Reads the context of the kernels of one model."""

    def __init__(self, model: Any, calls: list[Call], names: Names, traced: bool) -> None:
        self.surroundings = Surroundings(calls)
        # Only traced calls show what lies between two kernels.
        self._chains = chain_places(self.surroundings) if traced else {}
        self._names = names
        self._owners = owning_layers(model)
        self._attention = dict(_attention_roles(model))
        self._calls = Counter(
            variable_id
            for at_call in self.surroundings.kernels
            for variable_id in {id(kernel.variable) for kernel in at_call}
        )

    def facts(self, kernel: Kernel) -> dict[str, Any]:
        """Return what is known of a kernel without its surroundings."""
        owner, use = self._owners[id(kernel.variable)], kernel.use
        return {
            "owner": owner,
            "name": self._names.of(kernel.variable),
            "fans": None if use is None else theory.fans(kernel.variable.shape, **vars(use)),
            "role": self._role(kernel, owner),
            "calls": self._calls[id(kernel.variable)],
        }

    def context(self, position: int, kernel: Kernel) -> KernelContext:
        """Return a kernel of a call with its surroundings."""
        at = self.surroundings
        facts = self.facts(kernel)
        branch = at.branch(position)
        lies_in_branch: dict[str, Any] = {
            "branch": branch,
            "branch_kernels": 0 if branch is None else at.path_length(branch),
            "branch_normalized": at.is_normalized(position)
            or (branch is not None and at.holds_normalization(branch)),
        }
        if kernel.name.endswith("depthwise_kernel") and len(at.kernels[position]) > 1:
            # In a separable convolution, the pointwise kernel comes next.
            pointwise = self._names.of(at.kernels[position][-1].variable)
            return KernelContext(kernel, **facts, **lies_in_branch, next_kernels=(pointwise,))
        following = at.following(position)
        summed, tied = self._sum(position) if facts["role"] == "embedding" else (1, False)
        is_linear = not following.activations
        return KernelContext(
            kernel,
            **facts,
            **lies_in_branch,
            activations=following.activations,
            next_kernels=tuple(
                self._names.of(at.kernels[after][0].variable) for after in following.kernels
            ),
            normalized=at.is_normalized_before_sums(position),
            in_product=following.is_factor or (is_linear and at.comes_from_product(position)),
            gate=following.is_gate,
            summed=summed,
            tied=tied,
            head=facts["role"] == "kernel" and at.makes_output(position, following),
            takes_raw_input=at.takes_raw_input(position),
            ends_branch=at.ends_branch(position),
            chain=self._chains.get(position),
        )

    def uncalled(self, kernel: Kernel, called: Iterable[KernelContext]) -> KernelContext:
        """Return a kernel that no traced call uses.

        An embedding of constant positions is not traced; it is summed with the others.
        """
        embeddings = [context for context in called if context.role == "embedding"]
        facts = self.facts(kernel)
        if facts["role"] != "embedding" or not embeddings:
            return KernelContext(kernel, **facts)
        summed, tied = embeddings[0].summed, embeddings[0].tied
        return KernelContext(kernel, **facts, summed=summed, tied=tied)

    def _sum(self, position: int) -> tuple[int, bool]:
        """Return how many embeddings are summed, and whether one of them makes the output."""
        summed, constant_added = self.surroundings.summed_embeddings(position)
        return len(summed) + constant_added, any(map(self._is_tied, summed))

    def _role(self, kernel: Kernel, owner: Any) -> str:
        own_name = kernel.name.rpartition("/")[2]
        if kernel.use is None:
            return "unknown"
        if own_name in ("embeddings", "recurrent_kernel"):
            return "embedding" if own_name == "embeddings" else "recurrent"
        if hasattr(owner, "recurrent_kernel"):
            return "gates"
        return self._attention.get(id(owner), "kernel")

    def _is_tied(self, position: int) -> bool:
        """Return whether the embedding of a call also makes the output."""
        layer = self.surroundings.calls[position].operation
        (table, *_) = self.surroundings.kernels[position]
        is_called_in_reverse = isinstance(layer, layers.ReversibleEmbedding) and layer.tie_weights
        if is_called_in_reverse and self._calls[id(table.variable)] > 1:
            return True
        return self.surroundings.has_raw_output_product


def _attention_roles(model: Any) -> Iterator[tuple[int, str]]:
    """Yield the `id` and the role of each inner layer of attention layers."""
    for layer in model._flatten_layers():
        for attribute, role in ATTENTION_ROLES.items():
            inner = getattr(layer, attribute, None)
            if isinstance(inner, layers.Layer):
                yield id(inner), role
