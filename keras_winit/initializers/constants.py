"""Schemes that draw nothing."""

from collections.abc import Callable

import numpy as np

from keras_winit.initializers.base import NOTES, Scheme, scheme
from keras_winit.initializers.placement import Array, Part, Shape, empty, part_shape, zeros


@scheme
class Zeros(Scheme):
    """All zeros: for biases, and for what is meant to start switched off.

    As a kernel it never breaks the symmetry: all units of a layer get the same gradient
    and stay equal.

    Example:
        >>> layer = keras.layers.Dense(64, bias_initializer="winit>zeros")
    """

    formula = "0"
    use = "biases; heads that start switched off"
    source = NOTES

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        return lambda part: zeros(part_shape(part), dtype)


@scheme
class Constant(Scheme):
    """One value everywhere: for biases, by default the small positive one of the notes.

    0.01 lets every ReLU fire at the start. As a kernel any constant keeps all units of a
    layer equal for ever.

    Args:
        value: In weight units. Defaults to 0.01.

    Raises:
        TypeError: At construction, if `value` is not a number.
        ValueError: At construction, if `value` is not finite; at call, if it is not in
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

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
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
    """All ones: for scales, such as the gamma of a normalization.

    As a kernel it keeps all units of a layer equal for ever.

    Example:
        >>> layer = keras.layers.BatchNormalization(gamma_initializer="winit>ones")
    """

    formula = "1"
    use = "scales of normalization layers"
    source = NOTES

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        return Constant(1.0).plan(shape, dtype)
