"""Networks that are a signal: sine layers on coordinates."""

import math
from collections.abc import Callable

from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.placement import Array, Part, Shape


@scheme
class Siren(KernelScheme):
    """Uniform for layers with the activation sin(omega * x): sines of sines keep their law.

    Hidden layers get U(±sqrt(6 / fan_in) / omega): omega times a pre-activation is N(0, 1)
    on sines of evenly spread phases, and settles at a variance of 0.80, the solution of
    v = 1 - exp(-2 * v), in deeper layers. The first layer, on coordinates in [-1, 1], gets
    U(±1 / fan_in): the larger omega, the more periods of its sines they span.

    Args:
        first: Whether this is the layer on the coordinates. Defaults to False.
        omega: Multiplies the pre-activations in the layer. Above 0. Defaults to 30.
        **shared: `seed`, `input_axes`, `output_axes`, as in `KernelScheme`.

    Raises:
        TypeError: At construction, if `first` is not a bool.
        ValueError: At construction, if `omega` is not a finite number above 0.

    Example:
        >>> sine = lambda x: keras.ops.sin(30.0 * x)
        >>> layer = keras.layers.Dense(64, sine, kernel_initializer="winit>siren")
    """

    formula = "U(±√(6 / fan_in) / omega), omega 30; first: U(±1 / fan_in)"
    use = "sine layers of implicit representations"
    source = "Sitzmann et al. 2020, arXiv:2006.09661, section 3.2"

    first: bool = False
    omega: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("first", "True or False", isinstance(self.first, bool), TypeError)
        self._require_real("omega", "a number > 0", lambda value: value > 0)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        stream = self.stream()
        fan_in = max(self.fans(shape)[0], 1)
        limit = 1 / fan_in if self.first else math.sqrt(6 / fan_in) / self.omega
        return lambda part: stream.uniform(shape, dtype, part, limit)
