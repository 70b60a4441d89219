"""The scheme that lets chains of odd activations start as products of orthogonal matrices."""

import functools
import math
from dataclasses import field
from typing import Any

import numpy as np

from keras_winit.initializers.base import scheme
from keras_winit.initializers.chains import ChainScheme, Sizes
from keras_winit.initializers.placement import Array, Shape
from keras_winit.theory.fans import Axes


@scheme
class NearLinearOrthogonal(ChainScheme):
    """Orthogonal kernels with small pre-activations, at which an odd activation is nearly linear.

    A network with tanh, softsign, a sine or another odd activation then starts as a product of
    orthogonal matrices. With a matrix Q that has orthonormal rows or columns, and q the standard
    deviation of the pre-activations, the kernel is gain · Q; the default gain is

    | place | gain |
    | --- | --- |
    | first | q, for inputs of mean square 1 |
    | hidden | 1 / sqrt(E[f'(q z)**2]), z ~ N(0, 1) |
    | last | 1 |

    A matrix with more columns than rows is scaled by sqrt(columns / rows), which keeps the mean
    square of signals. In a window the matrix lies at the center, as in `DeltaOrthogonal`; a first
    kernel uses all taps. Give every kernel of the chain its place, and all biases zeros.

    The sigmoid is odd up to the constant 1/2. With `centered=True` the kernel takes no notice of
    a constant that all its inputs share: Q maps the vectors that sum to zero to such vectors.
    As training then moves all inputs along the constant, pre-activations must be larger: give
    all kernels of the chain stddev=1.

    Args:
        place: "first", "hidden" or "last": the place of the kernel in its chain. Defaults to
            "hidden".
        gain: Factor of the matrix, at least 0. Defaults to None: as in the table.
        noise: Share of the variance, from 0 to 1, that independent normal weights at all taps
            have, except in a first kernel. Defaults to 0.
        stddev: The standard deviation q of the pre-activations, above 0. Defaults to 0.1.
        centered: Whether the activation is odd up to a constant, as the sigmoid is: at every
            tap, the weights of each output sum to zero, except in a first kernel. Defaults to
            False.
        nonlinearity: The activation between the kernels, whose outputs the kernel takes.
            Defaults to "tanh".
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if an argument is out of its range, or the activation has
            a jump or no slope. At call, if the shape has fewer than two axes, the kernel has
            groups, gates or depthwise channels, or there is only one unit to be centered.

    Example:
        >>> first = NearLinearOrthogonal("first")
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer=first)

    Departs: The paper takes q from the weights and biases; here the first kernel sets it, and
        biases are zero. Centered kernels are an addition.
    """

    formula = "gain · Q, gain = 1/√E[f'(q z)²] (q 0.1, tanh)"
    use = (
        "deep networks without normalization or skips, with tanh, sigmoid or another odd activation"
    )
    source = "Pennington, Schoenholz and Ganguli 2017, arXiv:1711.04735, section 2"

    place: str = "hidden"
    gain: float | None = None
    noise: float = 0.0
    stddev: float = 0.1
    centered: bool = False
    nonlinearity: Any = field(default="tanh", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real(
            "stddev", "a number > 0 whose square is finite", lambda v: v > 0 and v * v < math.inf
        )
        self._require("centered", "True or False", isinstance(self.centered, bool), TypeError)
        slope = (
            1.0
            if self.nonlinearity is None
            else _root_mean_square_slope(self.nonlinearity, self.stddev)
        )
        self._require(
            "nonlinearity", "an activation with a slope", 0 < slope < math.inf, ValueError
        )
        self._slope = slope

    def _default_gain(self) -> float:
        if self.place == "hidden":
            return 1 / self._slope
        return self.stddev if self.place == "first" else 1.0

    @property
    def _centers_inputs(self) -> bool:
        return self.centered and self.place != "first"

    @property
    def _centers_outputs(self) -> bool:
        return self.centered and self.place != "last"

    def _matrix_sizes(self, shape: Shape, axes: Axes, sizes: Sizes) -> tuple[int, ...]:
        """Return the dimensions of the vectors that are mapped: one less if they sum to zero."""
        sides = sizes.inputs - self._centers_inputs, sizes.outputs - self._centers_outputs
        if (self._centers_inputs and sides[0] == 0) or (self._centers_outputs and sides[1] == 0):
            raise ValueError(
                f"`NearLinearOrthogonal(centered=True, place={self.place!r})` needs at least two "
                f"units on each centered side. Received: shape={shape}."
            )
        return sides

    def _arranged(self, sizes: Sizes, shape: Shape, axes: Axes, *matrices: Array) -> Array:
        (matrix,) = matrices
        matrix = _summing_to_zero(matrix, 2) if self._centers_inputs else matrix
        return _summing_to_zero(matrix, 3) if self._centers_outputs else matrix


def _summing_to_zero(vectors: Array, axis: int) -> Array:
    """Embed vectors in one more dimension so that each sums to zero; inner products stay.

    This is a Householder reflection that takes the first axis to the diagonal.
    """
    count = vectors.shape[axis] + 1
    root = math.sqrt(count)
    total = vectors.sum(axis, keepdims=True)
    return np.concatenate([total / root, vectors - total / (count - root)], axis)


# Cached because a chain has many kernels. The theory is imported when it is needed, as importing
# keras_winit must be fast.
@functools.lru_cache(maxsize=64)
def _root_mean_square_slope(nonlinearity: Any, stddev: float) -> float:
    """Return sqrt(E[f'(stddev z)**2])."""
    from keras_winit.theory.mean_field import chi_1

    return math.sqrt(chi_1(nonlinearity, stddev**2, 1.0))
