"""Schemes with one value for all entries of a weight."""

import numpy as np

from keras_winit.initializers.base import NOTES, Scheme, scheme
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Part,
    Shape,
    empty,
    part_shape,
    zeros,
)


@scheme
class Zeros(Scheme):
    """All zeros: for biases, and for layers that are meant to start with no output.

    A kernel of zeros never breaks the symmetry: all units of the layer get the same gradient
    and stay equal.

    Example:
        >>> layer = keras.layers.Dense(64, bias_initializer="winit>zeros")
    """

    formula = "0"
    use = "biases; output layers that start at zero"
    source = NOTES

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        return lambda part: zeros(part_shape(part), dtype)


@scheme
class Constant(Scheme):
    """One value everywhere: for biases, by default the small positive value of the notes.

    With a bias of 0.01 every ReLU fires at the start. A constant kernel keeps all units of the
    layer equal forever.

    Args:
        value: The value of all entries, in weight units. Defaults to 0.01.

    Raises:
        TypeError: At construction, if `value` is not a number.
        ValueError: At construction, if `value` is not finite. At call, if it is not finite in
            the dtype.

    Example:
        >>> layer = keras.layers.Dense(64, bias_initializer="winit>constant")
    """

    formula = "value (0.01)"
    use = "biases of ReLU layers that must fire at the start"
    source = NOTES

    value: float = 0.01

    def __post_init__(self) -> None:
        self._require_real("value")

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        with np.errstate(over="ignore"):
            fits = bool(np.isfinite(np.float64(self.value).astype(dtype)))
        self._require("value", f"finite in {dtype}", fits, ValueError)

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            out.fill(self.value)
            return out

        return draw


@scheme
class Ones(Scheme):
    """All ones: for scales, such as the gamma of a normalization layer.

    A kernel of ones keeps all units of the layer equal forever.

    Example:
        >>> layer = keras.layers.BatchNormalization(gamma_initializer="winit>ones")
    """

    formula = "1"
    use = "scales of normalization layers"
    source = NOTES

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        return Constant(1.0).plan(shape, dtype)
