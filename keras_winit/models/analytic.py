"""Sets every kernel of a model by the mean and variance that theory predicts for its inputs."""

import math
import random
from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np

from keras_winit import theory
from keras_winit.initializers.kernels import bound_to, for_block, reseeded
from keras_winit.initializers.orthogonal import Orthogonal
from keras_winit.initializers.placement import Array
from keras_winit.models import signals
from keras_winit.models.changes import Change, Changes, stddev
from keras_winit.models.graph import Call, trace_calls
from keras_winit.models.interception import without_gradients
from keras_winit.models.kernels import Kernel
from keras_winit.models.moment_rules import PICKING, Passage, Shape, activate, passed
from keras_winit.models.open_shapes import closed_shape
from keras_winit.models.owners import Owner, kernel_owners
from keras_winit.models.recurrent_moments import recurrent_outputs
from keras_winit.models.signals import Signal, Sources
from keras_winit.models.transaction import Progress, restored_on_error
from keras_winit.models.valid_taps import valid_share


def analytic_init(
    model: Any,
    *,
    target: float = 1.0,
    scheme: Any = "winit>lecun_normal",
    inputs: tuple[float, float] = (0.0, 1.0),
    count_padding: bool = False,
    layers: Any = None,
    seed: Any = None,
) -> Changes:
    """Give the pre-activations of every layer unit variance, by theory alone and without data.

    Mean m and variance v of the entries are followed from the inputs through every layer: exact
    integrals for activations, and formulas or draws for sums, products, concatenation, dropout,
    padding, pooling, normalization and attention. A kernel that receives them is drawn with

        Var[w] = target / (fan_in (v + m**2)),

    where fan_in is true for depthwise, grouped, strided, transposed and gated kernels. In
    recurrent layers, recurrent kernels become orthogonal, and input kernels give the rest of the
    variance. Embeddings give entries of variance `target`. Biases stay as they are.

    Entries at different positions count as independent, and batch normalization as in training,
    so that pre-activations of a real model deviate, most of all in deep convolutional
    networks without normalization. `keras_winit.lsuv` is exact on a batch.

    Args:
        model: A built model that runs on symbolic tensors.
        target: Variance of the pre-activations, above 0. Defaults to 1.
        scheme: Initializer of the kernels, in any form that Keras accepts. Its values are
            scaled to the variance above. Defaults to a truncated normal distribution.
        inputs: Mean and variance of the model's inputs. Defaults to (0, 1).
        count_padding: Whether the padding of a convolution lowers its fan_in to the mean number
            of inputs on the map. Defaults to False. It helps on small maps and in plain
            networks; in residual networks it may overshoot.
        layers: The layers to set, with all inside them: a pattern of names such as "block*", a
            layer, a class of layers, a predicate, or a list of these. Defaults to None: all.
        seed: An integer, a `keras.random.SeedGenerator` or None. Every kernel has a stream of
            its own, which is the same on each backend.

    Returns:
        A table with one row for each kernel, which prints. Its notes name the layers without a
        rule, which pass mean and variance on unchanged.

    Raises:
        TypeError: If `model` is not a layer, or an argument has the wrong type.
        ValueError: If an argument is out of range, the model is not built, or it does not run on
            symbolic tensors. After any error, also Ctrl-C, all variables are as before the call.

    Example:
        >>> layer = keras.layers.Dense(4, "relu")
        >>> model = keras.Sequential([keras.Input((8,)), layer, keras.layers.Dense(2)])
        >>> for row in analytic_init(model, seed=1).rows:
        ...     print(row.reason)
        inputs have the mean square 1, fan_in 8
        inputs have the mean square 0.5, fan_in 4

    Source: Bingham and Miikkulainen 2023, arXiv:2109.08958, section 3.
    Departs: Written from the formulas. Dropout and zero padding count the mean of their inputs,
        sums and products count the correlation of their terms, and fans are true.
    """
    _check_arguments(model, target, inputs)
    initializer = keras.initializers.get(scheme)
    if seed is None:
        seed = random.randint(1, int(1e9))
    try:
        calls = trace_calls(model)
    except Exception as error:
        raise ValueError(
            f"`analytic_init` needs a model that runs on symbolic tensors. Received: "
            f"model={model.name!r}, which raised {type(error).__name__}: {error}. Use `lsuv`."
        ) from error
    owners = kernel_owners("analytic_init", model, layers)
    with restored_on_error("analytic_init", model.variables) as progress, without_gradients():
        walk = _Walk(owners, target, reseeded(initializer, seed), inputs, count_padding, progress)
        walk.run(calls)
    return Changes("analytic_init", walk.rows(), walk.notes())


def _check_arguments(model: Any, target: Any, inputs: Any) -> None:
    if not isinstance(model, keras.Layer):
        raise TypeError(
            f"`analytic_init(model=...)` must be a model or a layer. Received: model={model!r}."
        )
    if not model.built:
        raise ValueError(
            f"`analytic_init` needs a built model. Received: {model.name!r}, not built. Call it "
            f"on data, or `model.build(input_shape)`."
        )
    if isinstance(target, bool) or not isinstance(target, Real):
        raise TypeError(
            f"`analytic_init(target=...)` must be a number > 0. Received: target={target!r}."
        )
    if not 0 < float(target) < math.inf:
        raise ValueError(
            f"`analytic_init(target=...)` must be a number > 0. Received: target={target!r}."
        )
    try:
        mean, variance = (float(number) for number in inputs)
        valid = math.isfinite(mean) and 0 <= variance < math.inf
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"`analytic_init(inputs=...)` must be a mean and a variance >= 0. "
            f"Received: inputs={inputs!r}."
        )


class _Walk:
    """Follows signals through the calls of a model and sets the kernels on the way.

    Args:
        owners: The layers that own kernels.
        target: Variance of the pre-activations.
        scheme: Initializer of the kernels.
        inputs: Mean and variance of the model's inputs.
        count_padding: Whether padding lowers the fan_in of convolutions.
        progress: Is told before each layer.
    """

    def __init__(
        self,
        owners: Sequence[Owner],
        target: float,
        scheme: Any,
        inputs: tuple[float, float],
        count_padding: bool,
        progress: Progress,
    ) -> None:
        self._owners = {id(owner.layer): owner for owner in owners}
        self._target, self._scheme, self._inputs = target, scheme, inputs
        self._recurrent_scheme = Orthogonal(seed=getattr(scheme, "seed", None))
        self._count_padding, self._progress = count_padding, progress
        self._sources = Sources()
        self._signals: dict[int, Signal] = {}
        self._shapes: dict[int, Shape] = {}
        self._rows: dict[int, list[Change]] = {}
        self._unknown: dict[str, None] = {}

    def run(self, calls: Sequence[Call]) -> None:
        """Follow the calls, each after those that it needs."""
        for call in calls:
            arguments = keras.tree.flatten((call.node.arguments.args, call.node.arguments.kwargs))
            tensors = [value for value in arguments if isinstance(value, keras.KerasTensor)]
            for tensor in tensors:
                if id(tensor) not in self._signals:
                    self._signals[id(tensor)] = self._sources.normal(*map(float, self._inputs))
                    self._shapes[id(tensor)] = tuple(tensor.shape)
            shapes = [self._shapes[id(tensor)] for tensor in tensors]
            first = closed_shape(call.operation, shapes, tuple(call.node.outputs[0].shape))
            operands = [self._operand(value) for value in arguments]
            passage = Passage(
                call.operation,
                [operand for operand in operands if operand is not None],
                shapes,
                first,
                call.node.arguments.kwargs,
            )
            after = self._after(call.operation, passage)
            picks = type(call.operation).__name__ in PICKING
            for tensor in call.node.outputs:
                self._signals[id(tensor)] = self._sources.redrawn(after) if picks else after
                same_rank = len(tensor.shape) == len(first)
                self._shapes[id(tensor)] = first if same_rank else tuple(tensor.shape)

    def _operand(self, value: Any) -> Signal | None:
        if isinstance(value, keras.KerasTensor):
            return self._signals[id(value)]
        if isinstance(value, Real) and not isinstance(value, bool):
            return signals.constant(float(value))
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            return signals.constant(keras.ops.convert_to_numpy(value).astype(np.float64))
        return None

    def _after(self, operation: Any, passage: Passage) -> Signal:
        if isinstance(operation, keras.layers.TimeDistributed):
            return self._after(operation.layer, passage)
        if isinstance(operation, keras.layers.Bidirectional):
            return self._bidirectional(operation, passage)
        owner = self._owners.get(id(operation)) or self._owners.get(
            id(getattr(operation, "cell", None))
        )
        if owner is not None and all(kernel.use is not None for kernel in owner.kernels):
            if owner.is_recurrent and isinstance(operation, keras.layers.RNN):
                return self._recurrent(owner, operation, passage)
            if not owner.is_recurrent:
                return self._weighted(owner, passage)
        try:
            after = passed(passage) if passage.operands else None
        except (ValueError, TypeError, OverflowError):
            after = None
        if after is None or not math.isfinite(after.second_moment):
            self._unknown[f"{operation.name!r} ({type(operation).__name__})"] = None
            return passage.input if passage.operands else self._sources.normal(0.0, 1.0)
        return after

    def _weighted(self, owner: Owner, passage: Passage) -> Signal:
        """Set the kernels of a layer, if it is its first call, and return its output."""
        is_first = id(owner.layer) not in self._rows
        if is_first:
            self._progress.reach(owner.name, len(self._rows) + 1, len(self._owners))
        incoming = 1.0 if owner.is_look_up else passage.input.second_moment
        bias = _values(owner.bias)
        target = self._target - float(bias.var())
        reason = owner.refusal or _loaded(owner)
        if reason == "quantized":
            # The stored integers do not show the size of the weights.
            self._rows.setdefault(id(owner.layer), self._left(owner, reason))
            return self._sources.normal(0.0, self._target)
        if not reason and incoming == 0:
            reason = "its inputs are constantly 0"
        if not reason and target <= 0:
            reason = f"its bias alone has the variance {bias.var():.3g}"
        rows, incoming_before = [], incoming
        for number, kernel in enumerate(owner.kernels, owner.number):
            fan_in = self._fan_in(owner, kernel, passage)
            before = stddev(kernel.variable)
            if is_first and not reason:
                self._draw(kernel, number, target / (fan_in * incoming))
            incoming = incoming * fan_in * float(np.mean(_values(kernel.variable) ** 2))
            drawn = "" if reason else _name(self._scheme)
            why = reason or f"inputs have the mean square {incoming_before:.3g}, fan_in {fan_in:g}"
            row = Change(owner.name, kernel.name, drawn, why, before, stddev(kernel.variable))
            rows.append(row)
            incoming_before = incoming
        if is_first:
            self._rows[id(owner.layer)] = rows
        output = self._sources.normal(float(bias.mean()), incoming + float(bias.var()))
        size = passage.output_shape[-1] or 1
        return activate(output, getattr(owner.layer, "activation", None), size)

    def _fan_in(self, owner: Owner, kernel: Kernel, passage: Passage) -> float:
        fan_in = theory.fans(kernel.variable.shape, **vars(kernel.use))[0]
        if self._count_padding and kernel.name != "pointwise_kernel":
            fan_in *= valid_share(owner.layer, passage.shapes[0])
        return fan_in

    def _draw(self, kernel: Kernel, number: int, variance: float) -> None:
        """Draw a kernel, and scale it so that its mean square is exactly a variance."""
        variable, use = kernel.variable, kernel.use
        assert use is not None
        shape = tuple(variable.shape)
        chosen = self._recurrent_scheme if kernel.name == "recurrent_kernel" else self._scheme
        scheme = for_block(bound_to(chosen, use, shape), number)
        values = _values(scheme(shape, "float32"))
        size = float(np.mean(values**2))
        variable.assign((values * math.sqrt(variance / size)).astype(np.float32))

    def _recurrent(self, owner: Owner, layer: Any, passage: Passage) -> Signal:
        is_first = id(owner.layer) not in self._rows
        before = [stddev(kernel.variable) for kernel in owner.kernels]
        reason = owner.refusal or ("keeps its state between batches" if layer.stateful else "")
        if is_first:
            self._progress.reach(owner.name, len(self._rows) + 1, len(self._owners))
        if layer.stateful:
            outputs, after = None, passage.input
        else:
            draw = self._draw if is_first and not reason else None
            outputs = recurrent_outputs(
                layer, owner, passage.input, passage.shapes[0], self._target, draw
            )
            after = self._sources.measured(outputs)
        if is_first:
            changes = ("", "") if reason else (_name(self._scheme), "orthogonal")
            size = passage.input.second_moment
            why = f"inputs have the mean square {size:.3g}; the state adds to them"
            whys = (reason, reason) if reason else (why, "keeps the size of the state")
            self._rows[id(owner.layer)] = [
                Change(owner.name, kernel.name, change, why, old, stddev(kernel.variable))
                for kernel, change, why, old in zip(
                    owner.kernels, changes, whys, before, strict=True
                )
            ]
        return after

    def _bidirectional(self, layer: Any, passage: Passage) -> Signal:
        both = [self._after(part, passage) for part in (layer.forward_layer, layer.backward_layer)]
        if layer.merge_mode == "sum":
            return signals.total(both)
        if layer.merge_mode == "ave":
            return signals.total(both).scaled(0.5)
        return (
            signals.product(both) if layer.merge_mode == "mul" else signals.mixture(both, [0.5] * 2)
        )

    def rows(self) -> list[Change]:
        """Return one row for each kernel: the layers in the order of their calls, then others."""
        rows = [row for of_layer in self._rows.values() for row in of_layer]
        for key, owner in self._owners.items():
            if key not in self._rows:
                reason = owner.refusal or ("no rule" if owner.is_recurrent else "not called")
                rows += self._left(owner, reason)
        return rows

    def _left(self, owner: Owner, reason: str) -> list[Change]:
        stddevs = [stddev(kernel.variable) for kernel in owner.kernels]
        return [
            Change(owner.name, kernel.name, "", reason, value, value)
            for kernel, value in zip(owner.kernels, stddevs, strict=True)
        ]

    def notes(self) -> list[str]:
        """Return a sentence that names the layers without a rule, if there are any."""
        if not self._unknown:
            return []
        return [f"Mean and variance pass unchanged through {', '.join(self._unknown)}."]


def _loaded(owner: Owner) -> str:
    """Return why an embedding is left alone: its table was given, not drawn."""
    scheme = getattr(owner.layer, "embeddings_initializer", None)
    given = isinstance(scheme, keras.initializers.Constant)
    return "loaded" if given else ""


def _values(variable: Any) -> Array:
    if variable is None:
        return np.zeros(1)
    return np.asarray(keras.ops.convert_to_numpy(variable)).astype(np.float64)


def _name(scheme: Any) -> str:
    return str(getattr(scheme, "identifier", type(scheme).__name__)).removeprefix("winit>")
