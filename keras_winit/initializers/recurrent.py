"""Schemes for the kernels and biases of LSTM and GRU, which hold all gates side by side."""

import copy
import sys
from dataclasses import field
from typing import Any, Self

import numpy as np

from keras_winit.initializers.arguments import as_index
from keras_winit.initializers.base import RandomScheme, Scheme, scheme
from keras_winit.initializers.calling_layer import require_kernel
from keras_winit.initializers.placement import (
    DrawPart,
    Shape,
    concatenated,
    rounded,
    whole,
)
from keras_winit.initializers.wrapping import WrappingScheme, bound_to, for_block, plan_of
from keras_winit.theory.fans import Use, kernel_axes

# Position of the gate that keeps the state, by the number of gates. The order of Keras' gates is
# input, forget, cell, output in an LSTM and update, reset, candidate in a GRU. An LSTM keeps its
# state where the forget gate is open, a GRU where the update gate is open.
KEEPING_GATE = {4: 1, 3: 0}


@scheme
class PerGate(WrappingScheme):
    """Another initializer, applied to each gate of a recurrent kernel separately.

    An LSTM's kernel `(in, 4 * units)` holds the kernels of four gates side by side. If it is
    drawn as one kernel, its fan_out is four times too large, and an orthogonal scheme gives
    orthogonal rows instead of four orthogonal matrices.

    Args:
        inner: Any initializer. It draws other values for each gate. Defaults to
            `winit>orthogonal`.
        gates: Number of gates, at least 1: 4 for an LSTM, 3 for a GRU. Defaults to 4.
            `for_layer` sets it.
        **shared: axes, `kind`, `groups`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is a name that Keras does not know, or `gates`
            is less than 1. At call, if the outputs cannot be split into the gates.

    Example:
        >>> layer = keras.layers.LSTM(64, recurrent_initializer="winit>per_gate")
    """

    formula = "inner for each gate (4)"
    use = "kernels of LSTM (gates=4) and GRU (gates=3)"
    source = "Keras documentation, keras.layers.LSTM, the order of gates in a kernel"

    inner: Any = "winit>orthogonal"
    gates: int = field(default=4, kw_only=True)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        require_kernel(self, shape, "Use `winit>forget_bias` or `winit>zeros` for a bias.")
        axis = (kernel_axes(shape, self.kernel_use).outputs or (len(shape) - 1,))[-1]
        if shape[axis] % self.gates:
            raise ValueError(
                f"`PerGate(gates=...)` must divide the {shape[axis]} outputs of the kernel. "
                f"Received: gates={self.gates}, shape={shape}."
            )
        size = shape[axis] // self.gates
        use = Use(**{**vars(self.kernel_use), "gates": 1})
        inner = bound_to(self.inner, use)
        gate_shape = (*shape[:axis], size, *shape[axis + 1 :])
        draws = [plan_of(for_block(inner, gate), gate_shape, dtype) for gate in range(self.gates)]
        return concatenated(draws, [size] * self.gates, axis, dtype)


class _GateBias(Scheme):
    """A bias with different values for the gates of an LSTM or a GRU."""

    gates: int

    def __post_init__(self) -> None:
        super().__post_init__()
        number = as_index(self.gates)
        self._require("gates", "4 (LSTM) or 3 (GRU)", number in KEEPING_GATE, ValueError)
        self.gates = number

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        if use.gates not in KEEPING_GATE:
            return self
        twin = copy.copy(self)
        twin.gates = use.gates
        return twin

    def _units(self, shape: Shape) -> int:
        """Return the number of units, after checking that the shape is that of such a bias."""
        name = type(self).__name__
        if _is_called_for_a_piece():
            raise ValueError(
                f"`{name}` makes the whole bias of an LSTM, but this LSTM asks for parts of it and "
                f"sets the bias of the forget gate itself. Received: shape={shape}. Give the "
                f"layer `unit_forget_bias=False`."
            )
        ranks = (1,) if self.gates == 4 else (1, 2)
        if len(shape) not in ranks or shape[-1] % self.gates:
            raise ValueError(
                f"`{name}(gates={self.gates})` needs the bias of {self.gates} gates, "
                f"({self.gates} * units,). Received: shape={shape}. An LSTM has 4 gates, a GRU 3."
            )
        return shape[-1] // self.gates


def _is_called_for_a_piece() -> bool:
    """Return whether an LSTM joins its bias from several calls; only the call stack shows it."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].startswith("keras_winit."):
        frame = frame.f_back
    return frame.f_code.co_qualname.endswith("build.<locals>.bias_initializer")


def _keeping_gate(gates: int, units: int) -> slice:
    """Return the part of the bias that belongs to the gate that keeps the state."""
    return slice(KEEPING_GATE[gates] * units, (KEEPING_GATE[gates] + 1) * units)


@scheme
class ForgetBias(_GateBias):
    """A positive bias for the gate that keeps the state, zero for the others.

    The network starts by remembering, so that gradients pass back over many time steps. That
    gate is the forget gate of an LSTM and the update gate of a GRU. An LSTM needs
    `unit_forget_bias=False`, because otherwise it sets that bias to 1 itself. A GRU with two
    biases gets the value in the bias of its input.

    Args:
        value: Bias of the gate that keeps the state. Defaults to 1.
        gates: Number of gates: 4 for an LSTM, 3 for a GRU. Defaults to 4. `for_layer` sets it.

    Raises:
        TypeError: At construction, if `value` is not a number.
        ValueError: At construction, if `value` is not finite or `gates` is neither 3 nor 4. At
            call, if the shape is not that of such a bias, or the layer asks for a part of it.

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

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        bias = np.zeros(shape, np.float64)
        bias.reshape(-1)[_keeping_gate(self.gates, self._units(shape))] = self.value
        return lambda part: rounded(bias[part], dtype)


@scheme
class Chrono(_GateBias, RandomScheme):
    """Biases that give the units memories of all lengths up to a longest one.

    The bias of the gate that keeps the state is log(u), with u from U(1, max_steps - 1). In an
    LSTM that gate is the forget gate, and the bias of the input gate is -log(u). In a GRU it is
    the update gate, which decides on both keeping and taking in. All other biases are zero. A
    unit with the bias log(u) forgets at the rate 1 / (1 + u). An LSTM needs
    `unit_forget_bias=False`.

    Args:
        max_steps: Longest dependency that is expected, in time steps, more than 2. Defaults to
            100.
        gates: Number of gates: 4 for an LSTM, 3 for a GRU. Defaults to 4. `for_layer` sets it.
        **shared: `seed`, as in `RandomScheme`.

    Raises:
        TypeError: At construction, if `max_steps` is not a number.
        ValueError: At construction, if `max_steps` is not above 2 or `gates` is neither 3 nor
            4. At call, if the shape is not that of such a bias, or the layer asks for a part of
            it.

    Example:
        >>> bias = keras_winit.Chrono(max_steps=784)
        >>> layer = keras.layers.LSTM(64, unit_forget_bias=False, bias_initializer=bias)

    Departs: The update gate of the paper's GRU has the opposite meaning, so its bias is
        negative there.
    """

    formula = (
        "b = log U(1, max_steps - 1) for the gate that keeps, -b for the input gate; max_steps 100"
    )
    use = "biases of LSTM and GRU on long sequences"
    source = "Tallec and Ollivier 2018, arXiv:1804.11188, section 3"

    max_steps: float = 100.0
    gates: int = field(default=4, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("max_steps", "a number > 2", lambda value: value > 2)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        units = self._units(shape)
        draws = self.stream().uniform((units,), "float32", whole((units,)), 1.0)
        log_u = np.log1p((self.max_steps - 2) * (draws.astype(np.float64) + 1) / 2)
        bias = np.zeros(shape, np.float64)
        flat = bias.reshape(-1)
        flat[_keeping_gate(self.gates, units)] = log_u
        if self.gates == 4:
            flat[:units] = -log_u
        return lambda part: rounded(bias[part], dtype)
