"""Kernels and biases of gated layers, whose gates stand side by side."""

import copy
import sys
from collections.abc import Callable
from dataclasses import field
from typing import Any, Self

import numpy as np

from keras_winit.initializers.base import RandomScheme, Scheme, scheme
from keras_winit.initializers.kernels import WrappingScheme, block_of, bound_to, plan_of
from keras_winit.initializers.placement import (
    Array,
    Part,
    Shape,
    empty,
    part_shape,
    side_by_side,
    whole,
)
from keras_winit.theory.fans import Use, kernel_axes

# Keras' gates: an LSTM's input, forget, cell, output; a GRU's update, reset, candidate. A
# GRU keeps its state where the update gate is open, as an LSTM does with the forget gate.
KEEPS = {4: 1, 3: 0}


@scheme
class PerGate(WrappingScheme):
    """Another scheme for each gate of a recurrent kernel by itself.

    An LSTM's kernel `(in, 4 * units)` holds those of four gates side by side. Drawn as
    one, it gets a fan_out four times too large, and orthogonal rows instead of four
    orthogonal matrices.

    Args:
        inner: Draws each gate's kernel, each with numbers of its own. Any initializer.
            Defaults to `winit>orthogonal`.
        gates: 4 of an LSTM, the default, or 3 of a GRU, or any number that the outputs
            can be split into. `for_layer` sets it.
        **shared: axes, `kind`, `groups`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is the name of none, or `gates` is less than
            1. At call, if the outputs cannot be split into the gates.

    Example:
        >>> layer = keras.layers.LSTM(64, recurrent_initializer="winit>per_gate")
    """

    formula = "inner for each gate (4)"
    use = "kernels of LSTM (gates=4) and GRU (gates=3)"
    source = "Keras documentation, keras.layers.LSTM, the order of gates in a kernel"

    inner: Any = "winit>orthogonal"
    gates: int = field(default=4, kw_only=True)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        axis = (kernel_axes(shape, self.kernel_use).outputs or (len(shape) - 1,))[-1]
        if shape[axis] % self.gates:
            raise ValueError(
                f"`PerGate(gates=...)` must divide the {shape[axis]} outputs of the kernel. "
                f"Received: gates={self.gates}, shape={shape}."
            )
        size = shape[axis] // self.gates
        use = Use(**{**vars(self.kernel_use), "gates": 1})
        inner = bound_to(self.inner, use)
        each = (*shape[:axis], size, *shape[axis + 1 :])
        plans = [plan_of(block_of(inner, gate), each, dtype) for gate in range(self.gates)]
        return side_by_side(plans, [size] * self.gates, axis, dtype)


class _GateBias(Scheme):
    gates: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("gates", "4 (LSTM) or 3 (GRU)", self.gates in KEEPS, ValueError)

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        if use.gates not in KEEPS:
            return self
        twin = copy.copy(self)
        twin.gates = use.gates
        return twin

    def _units(self, shape: Shape) -> int:
        """The number of units, having made sure that this is the bias of such a layer."""
        name = type(self).__name__
        if _is_piece_of_a_bias():
            raise ValueError(
                f"`{name}` makes the whole bias of an LSTM, but Keras asks for pieces of it and "
                f"sets the forget gate itself. Received: shape={shape}. Give the layer "
                f"`unit_forget_bias=False`."
            )
        ranks = (1,) if self.gates == 4 else (1, 2)
        if len(shape) not in ranks or shape[-1] % self.gates:
            raise ValueError(
                f"`{name}(gates={self.gates})` needs the bias of {self.gates} gates, "
                f"({self.gates} * units,). Received: shape={shape}. An LSTM has 4 gates, a GRU 3."
            )
        return shape[-1] // self.gates


def _is_piece_of_a_bias() -> bool:
    """Whether an LSTM puts its bias together from several calls, as only the stack can tell."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].startswith("keras_winit."):
        frame = frame.f_back
    return frame.f_code.co_qualname.endswith("build.<locals>.bias_initializer")


def _kept(gates: int, units: int) -> slice:
    """Where the bias of the gate lies that keeps the state."""
    return slice(KEEPS[gates] * units, (KEEPS[gates] + 1) * units)


@scheme
class ForgetBias(_GateBias):
    """A positive bias for the gate that keeps the state, zero for the others.

    The network starts by remembering, so that errors come back over many steps. Needs
    `unit_forget_bias=False` in an LSTM, which otherwise sets that gate to 1 itself. In a
    GRU it is the update gate, of the input's bias if there are two.

    Args:
        value: Of the gate's bias. Defaults to 1.
        gates: 4 of an LSTM, the default, or 3 of a GRU. `for_layer` sets it.

    Raises:
        TypeError: At construction, if `value` is not a number.
        ValueError: At construction, if `value` is not finite or `gates` is neither. At
            call, if the shape is no such bias, or a piece of one.

    Example:
        >>> bias = keras_winit.ForgetBias(2.0)
        >>> layer = keras.layers.LSTM(64, unit_forget_bias=False, bias_initializer=bias)
    """

    formula = "value (1) for the forget gate, else 0"
    use = "biases of LSTM and GRU"
    source = "Jozefowicz, Zaremba and Sutskever 2015 (ICML), section 5"

    value: float = 1.0
    gates: int = field(default=4, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("value")

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        bias = np.zeros(shape, np.float64)
        bias.reshape(-1)[_kept(self.gates, self._units(shape))] = self.value
        return _parts_of(bias, dtype)


@scheme
class Chrono(_GateBias, RandomScheme):
    """Gates that start with memories of all lengths up to a longest one.

    The bias of the gate that keeps the state is log(u), u from U(1, max_steps - 1); in an
    LSTM that of the input gate is its negative, and all others are zero. A unit with
    log(u) forgets at the rate 1 / (1 + u). Needs `unit_forget_bias=False` in an LSTM. In a
    GRU it is the update gate, which keeps and takes in at once.

    Args:
        max_steps: The longest dependency to expect, in steps; more than 2. Defaults to 100.
        gates: 4 of an LSTM, the default, or 3 of a GRU. `for_layer` sets it.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        TypeError: At construction, if `max_steps` is not a number.
        ValueError: At construction, if `max_steps` is not above 2 or `gates` is neither. At
            call, if the shape is no such bias, or a piece of one.

    Example:
        >>> bias = keras_winit.Chrono(max_steps=784)
        >>> layer = keras.layers.LSTM(64, unit_forget_bias=False, bias_initializer=bias)

    Departs: The paper's GRU has the update gate the other way round, with a negative bias.
    """

    formula = "log U(1, max_steps - 1) to keep, its negative to take in; max_steps 100"
    use = "biases of LSTM and GRU on long sequences"
    source = "Tallec and Ollivier 2018, arXiv:1804.11188, section 3"

    max_steps: float = 100.0
    gates: int = field(default=4, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("max_steps", "a number > 2", lambda value: value > 2)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        units = self._units(shape)
        draws = self.stream().uniform((units,), "float32", whole((units,)), 1.0)
        kept = np.log1p((self.max_steps - 2) * (draws.astype(np.float64) + 1) / 2)
        bias = np.zeros(shape, np.float64)
        flat = bias.reshape(-1)
        flat[_kept(self.gates, units)] = kept
        if self.gates == 4:
            flat[:units] = -kept
        return _parts_of(bias, dtype)


def _parts_of(values: Array, dtype: str) -> Callable[[Part], Array]:
    def draw(part: Part) -> Array:
        out = empty(part_shape(part), dtype)
        out[...] = values[part]
        return out

    return draw
