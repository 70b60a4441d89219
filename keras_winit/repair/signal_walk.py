"""Follows mean and variance through the calls of a model, and draws its kernels on the way."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np

from keras_winit import theory
from keras_winit.initializers.orthogonal import Orthogonal
from keras_winit.initializers.wrapping import bound_to, for_block
from keras_winit.models.graph import Call
from keras_winit.models.kernels import Kernel
from keras_winit.models.valid_taps import valid_share
from keras_winit.models.variable_values import float64_on_host
from keras_winit.repair import signals
from keras_winit.repair.call_with_signals import CallWithSignals, Shape
from keras_winit.repair.changes import Change, stddev
from keras_winit.repair.moment_rules import PICKING, activate, passed
from keras_winit.repair.open_shapes import closed_shape
from keras_winit.repair.owners import Owner
from keras_winit.repair.recurrent_moments import recurrent_outputs
from keras_winit.repair.signals import Signal, Sources
from keras_winit.repair.transaction import Progress


class SignalWalk:
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
            with_signals = CallWithSignals(
                call.operation,
                [operand for operand in operands if operand is not None],
                shapes,
                first,
                call.node.arguments.kwargs,
            )
            if call.node.outputs[0].dtype == "bool":
                after = signals.constant(1.0)  # A mask is taken to let everything through.
            else:
                after = self._signal_after(call.operation, with_signals)
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

    def _signal_after(self, operation: Any, call: CallWithSignals) -> Signal:
        if isinstance(operation, keras.layers.TimeDistributed):
            return self._signal_after(operation.layer, call)
        if isinstance(operation, keras.layers.Bidirectional):
            return self._bidirectional(operation, call)
        owner = self._owners.get(id(operation)) or self._owners.get(
            id(getattr(operation, "cell", None))
        )
        if owner is not None and all(kernel.use is not None for kernel in owner.kernels):
            if owner.is_recurrent and isinstance(operation, keras.layers.RNN):
                return self._set_recurrent_kernels(owner, operation, call)
            if not owner.is_recurrent:
                return self._set_kernels(owner, call)
        try:
            after = passed(call) if call.operands else None
        except (ValueError, TypeError, OverflowError):
            after = None
        if after is None or not math.isfinite(after.second_moment):
            self._unknown[f"{operation.name!r} ({type(operation).__name__})"] = None
            return call.input if call.operands else self._sources.normal(0.0, 1.0)
        return after

    def _set_kernels(self, owner: Owner, call: CallWithSignals) -> Signal:
        """Set the kernels of a layer, if it is its first call, and return its output."""
        is_first = id(owner.layer) not in self._rows
        if is_first:
            self._progress.reach(owner.name, len(self._rows) + 1, len(self._owners))
        incoming = 1.0 if owner.is_look_up else call.input.second_moment
        bias = np.zeros(1) if owner.bias is None else float64_on_host(owner.bias)
        target = self._target - float(bias.var())
        reason = owner.refusal or _reason_if_table_is_given(owner)
        if reason == "quantized":
            # The stored integers do not show the size of the weights.
            self._rows.setdefault(id(owner.layer), self._rows_of_left(owner, reason))
            return self._sources.normal(0.0, self._target)
        if not reason and incoming == 0:
            reason = "its inputs are constantly 0"
        if not reason and target <= 0:
            reason = f"its bias alone has the variance {bias.var():.3g}"
        rows, incoming_before = [], incoming
        for number, kernel in enumerate(owner.kernels, owner.number):
            fan_in = self._fan_in(owner, kernel, call)
            before = stddev(kernel.variable)
            if is_first and not reason:
                self._draw(kernel, number, target / (fan_in * incoming))
            incoming = incoming * fan_in * float(np.mean(float64_on_host(kernel.variable) ** 2))
            drawn = "" if reason else _name(self._scheme)
            why = reason or f"inputs have the mean square {incoming_before:.3g}, fan_in {fan_in:g}"
            row = Change(owner.name, kernel.name, drawn, why, before, stddev(kernel.variable))
            rows.append(row)
            incoming_before = incoming
        if is_first:
            self._rows[id(owner.layer)] = rows
        output = self._sources.normal(float(bias.mean()), incoming + float(bias.var()))
        size = call.output_shape[-1] or 1
        return activate(output, getattr(owner.layer, "activation", None), size)

    def _fan_in(self, owner: Owner, kernel: Kernel, call: CallWithSignals) -> float:
        fan_in = theory.fans(kernel.variable.shape, **vars(kernel.use))[0]
        if self._count_padding and kernel.name != "pointwise_kernel":
            fan_in *= valid_share(owner.layer, call.shapes[0])
        return fan_in

    def _draw(self, kernel: Kernel, number: int, variance: float) -> None:
        """Draw a kernel, and scale it so that its mean square is exactly a variance."""
        variable, use = kernel.variable, kernel.use
        assert use is not None
        shape = tuple(variable.shape)
        chosen = self._recurrent_scheme if kernel.name == "recurrent_kernel" else self._scheme
        scheme = for_block(bound_to(chosen, use, shape), number)
        values = float64_on_host(scheme(shape, "float32"))
        size = float(np.mean(values**2))
        variable.assign((values * math.sqrt(variance / size)).astype(np.float32))

    def _set_recurrent_kernels(self, owner: Owner, layer: Any, call: CallWithSignals) -> Signal:
        is_first = id(owner.layer) not in self._rows
        before = [stddev(kernel.variable) for kernel in owner.kernels]
        reason = owner.refusal or ("keeps its state between batches" if layer.stateful else "")
        if is_first:
            self._progress.reach(owner.name, len(self._rows) + 1, len(self._owners))
        if layer.stateful:
            outputs, after = None, call.input
        else:
            draw = self._draw if is_first and not reason else None
            outputs = recurrent_outputs(
                layer, owner, call.input, call.shapes[0], self._target, draw
            )
            after = self._sources.measured(outputs)
        if is_first:
            changes = ("", "") if reason else (_name(self._scheme), "orthogonal")
            size = call.input.second_moment
            why = f"inputs have the mean square {size:.3g}; the state adds to them"
            whys = (reason, reason) if reason else (why, "keeps the size of the state")
            self._rows[id(owner.layer)] = [
                Change(owner.name, kernel.name, change, why, old, stddev(kernel.variable))
                for kernel, change, why, old in zip(
                    owner.kernels, changes, whys, before, strict=True
                )
            ]
        return after

    def _bidirectional(self, layer: Any, call: CallWithSignals) -> Signal:
        both = [
            self._signal_after(part, call) for part in (layer.forward_layer, layer.backward_layer)
        ]
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
                reason = owner.refusal or (
                    "no rule" if owner.is_recurrent else "no input of the model reaches it"
                )
                rows += self._rows_of_left(owner, reason)
        return rows

    def _rows_of_left(self, owner: Owner, reason: str) -> list[Change]:
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


def _reason_if_table_is_given(owner: Owner) -> str:
    """Return why an embedding is left alone: its table was given, not drawn."""
    scheme = getattr(owner.layer, "embeddings_initializer", None)
    given = isinstance(scheme, keras.initializers.Constant)
    return "loaded" if given else ""


def _name(scheme: Any) -> str:
    return str(getattr(scheme, "identifier", type(scheme).__name__)).removeprefix("winit>")
