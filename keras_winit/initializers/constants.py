"""Schemes with one value for all entries of a weight."""

from typing import Any

import keras
import numpy as np

from keras_winit.initializers.base import DTYPES, NOTES, Scheme, scheme
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Part,
    Shape,
    empty,
    part_shape,
    zeros,
)

# Zeros and ones also start counters and masks.
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES_OF_CONSTANTS = ("bool", *INTEGERS, *DTYPES)


@scheme
class Zeros(Scheme):
    """All zeros, of any dtype: for biases, and for layers that are meant to start with no output.

    A kernel of zeros never breaks the symmetry: all units of the layer get the same gradient
    and stay equal.

    Example:
        >>> layer = keras.layers.Dense(64, bias_initializer="winit>zeros")
    """

    dtypes = DTYPES_OF_CONSTANTS

    formula = "0"
    use = "biases; output layers that start at zero"
    source = NOTES

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        return lambda part: zeros(part_shape(part), dtype)


@scheme
class Constant(Scheme):
    """One value everywhere: for biases, by default the small positive value of the notes.

    With a bias of 0.01 every ReLU fires at the start. A constant kernel keeps all units of the
    layer equal forever. An array gives each entry a value of its own.

    Args:
        value: The value of all entries, in weight units: a number, or an array, a tensor or
            nested lists of numbers in the shape of the weight or one that NumPy broadcasts to
            it. Defaults to 0.01.

    Raises:
        TypeError: At construction, if `value` holds anything but real numbers.
        ValueError: At construction, if a number is not finite. At call, if it is not finite in
            the dtype, or the value does not broadcast to the shape.

    Example:
        >>> layer = keras.layers.Dense(64, bias_initializer="winit>constant")
    """

    formula = "value (0.01)"
    use = "biases of ReLU layers that must fire at the start"
    source = NOTES

    value: Any = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.value, dict):
            # The config of Keras' `Constant` holds an array in this form.
            self.value = keras.saving.deserialize_keras_object(self.value)
        if keras.ops.is_tensor(self.value):
            self.value = keras.ops.convert_to_numpy(self.value)
        if not isinstance(self.value, np.ndarray | list | tuple):
            self._require_real("value")
            return
        requirement = "a finite number, or an array of them"
        try:
            values = np.asarray(self.value)
        except ValueError:
            values = np.empty(0, object)
        self._require("value", requirement, values.dtype.kind in "iuf", TypeError)
        values = values.astype(np.float64)
        self._require("value", requirement, bool(np.isfinite(values).all()), ValueError)
        self.value = values.tolist()

    def get_config(self) -> dict[str, Any]:
        return {"value": np.asarray(self.value).tolist()}

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        self._require_fits("value", dtype)
        given = np.asarray(self.value, np.float64)
        try:
            values = np.broadcast_to(given, shape)
        except ValueError:
            raise ValueError(
                f"`Constant(value=...)` must have a shape that broadcasts to the weight. "
                f"Received: a value of shape {given.shape}, shape={shape}."
            ) from None

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            if given.ndim:
                out[...] = values[part]
            else:
                out.fill(self.value)
            return out

        return draw


@scheme
class Ones(Scheme):
    """All ones, of any dtype: for scales, such as the gamma of a normalization layer.

    A kernel of ones keeps all units of the layer equal forever.

    Example:
        >>> layer = keras.layers.BatchNormalization(gamma_initializer="winit>ones")
    """

    dtypes = DTYPES_OF_CONSTANTS

    formula = "1"
    use = "scales of normalization layers"
    source = NOTES

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            out.fill(1)
            return out

        return draw
