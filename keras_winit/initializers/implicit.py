"""The scheme for SIREN, implicit representations of a signal by sine layers on coordinates."""

import math

from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.placement import DrawPart, Shape


@scheme
class Siren(KernelScheme):
    """Uniform for layers with the activation sin(omega * x), which keeps their distribution.

    Hidden layers get U(±sqrt(6 / fan_in) / omega). If the inputs are sines of evenly spread
    phases, omega times a pre-activation is N(0, 1). In deeper layers its variance settles at
    0.80, the solution of v = 1 - exp(-2 * v). The first layer, whose inputs are coordinates in
    [-1, 1], gets U(±1 / fan_in): the larger omega is, the more periods of its sines the
    coordinates span.

    Args:
        first: Whether the inputs of the layer are the coordinates. Defaults to False.
        omega: Factor of the pre-activations in the layer, above 0. Defaults to 30.
        **shared: `seed`, `input_axes`, `output_axes`, as in `KernelScheme`.

    Raises:
        TypeError: At construction, if `first` is not a bool.
        ValueError: At construction, if `omega` is not a finite number above 0.

    Example:
        >>> sine = lambda x: keras.ops.sin(30.0 * x)
        >>> layer = keras.layers.Dense(64, sine, kernel_initializer="winit>siren")
    """

    formula = "U(±√(6 / fan_in) / omega), omega 30; first: U(±1 / fan_in)"
    use = "sine layers of implicit neural representations"
    source = "Sitzmann et al. 2020, arXiv:2006.09661, section 3.2"

    first: bool = False
    omega: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("first", "True or False", isinstance(self.first, bool), TypeError)
        self._require_real("omega", "a number > 0", lambda value: value > 0)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        stream = self.stream()
        fan_in = max(self.fans(shape)[0], 1)
        limit = 1 / fan_in if self.first else math.sqrt(6 / fan_in) / self.omega
        return lambda part: stream.uniform(shape, dtype, part, limit)
