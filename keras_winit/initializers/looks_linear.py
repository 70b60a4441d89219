"""The scheme that lets chains of activations that are not odd start as products of rotations."""

import functools
from dataclasses import field
from typing import Any

import numpy as np

from keras_winit.initializers.base import scheme
from keras_winit.initializers.chains import ChainScheme, Sizes
from keras_winit.initializers.placement import Array, Shape
from keras_winit.theory.fans import Axes

# An activation counts as odd if its even part has less than this share of its second moment.
EVEN_SHARE = 1e-6


@scheme
class LooksLinear(ChainScheme):
    """Units in pairs with opposite weights: the network starts as a product of rotations.

    Units i and i + n/2 of a layer see opposite weights, so that the next kernel receives
    odd(z) = (f(z) - f(-z)) / 2 of each pre-activation z. That is exactly z / 2 for ReLU, GELU,
    SiLU and softplus, (1 + a) z / 2 for a leaky ReLU, and nearly linear for mish, ELU and SELU.
    With matrices A and B that have orthonormal rows or columns, the kernels are

    | place | kernel of (in, out) | default gain |
    | --- | --- | --- |
    | first | gain · [A, -A] | 1, for inputs of mean square 1 |
    | hidden | gain / 2 · [[A, -A], [-A, A]] | `keras_winit.gain(nonlinearity, "odd")` |
    | last | gain / 2 · [[B], [-B]] | 1 |

    A matrix with more columns than rows is scaled by sqrt(columns / rows), which keeps the mean
    square of signals. Give every kernel of the chain its place, and all biases zeros.

    Pairs lie along the last axis of the inputs and of the outputs. A unit without a partner
    gets a column that has none, and zeros in the next kernel. In a window the matrix lies at
    the center, as in `DeltaOrthogonal`; a first kernel uses all taps.

    Do not use it where a normalization or a skip lies between the kernels; nothing is gained.

    Args:
        place: "first", "hidden" or "last": the place of the kernel in its chain. Defaults to
            "hidden".
        gain: Factor of the kernel, at least 0. Defaults to None: as in the table.
        noise: Share of the variance, from 0 to 1, that independent normal weights at all taps
            have in A and B, except in a first kernel: A = sqrt(1 - noise) Q at the center, plus
            weights from N(0, noise / (taps · rows)). Convolutions train better with some.
            Defaults to 0.
        channels: Number of channels before a `Flatten` whose output the kernel takes: channel c
            of a position is then paired with channel c + channels/2 of the same position.
            Defaults to None: the size of the last input axis.
        nonlinearity: The activation between the kernels, whose outputs the kernel takes.
            Defaults to "relu".
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if an argument is out of its range, or the activation is
            odd, such as tanh: the two units of a pair would stay the same for ever. At call, if
            the shape has fewer than two axes, there is no pair of units, `channels` does not
            divide the inputs, or the kernel has groups, gates or depthwise channels.

    Example:
        >>> places = ("first", *["hidden"] * 48)
        >>> starts = [LooksLinear(place, nonlinearity="gelu") for place in places]
        >>> hidden = [keras.layers.Dense(64, "gelu", kernel_initializer=start) for start in starts]
        >>> output = keras.layers.Dense(10, kernel_initializer=LooksLinear("last"))

    Departs: The paper treats ReLU. Other activations, gains from their odd part, noise and the
        last kernel are additions. A constant even part, as that of the sigmoid, is
        accepted: the gradients of the next kernel break its symmetry.
    """

    formula = "gain/2 · [[A, -A], [-A, A]], A orthogonal, gain from odd(f) (2 for relu)"
    use = "deep networks without normalization or skips, activations that are not odd"
    source = "Balduzzi et al. 2017, arXiv:1702.08591, section 4"

    place: str = "hidden"
    gain: float | None = None
    noise: float = 0.0
    channels: int | None = None
    nonlinearity: Any = field(default="relu", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels is not None:
            self._require_whole("channels", 2)
        if self.nonlinearity is None or _cached_odd_share(self.nonlinearity) > 1 - EVEN_SHARE:
            raise ValueError(
                f"`LooksLinear(nonlinearity=...)` must be an activation that is not odd: with "
                f"f(-z) = -f(z), the two units of a pair never part. Received: "
                f"nonlinearity={self.nonlinearity!r}. Use `winit>near_linear_orthogonal`."
            )
        self.nonlinearity_gain("odd")

    def _default_gain(self) -> float:
        if self.place == "hidden":
            return self.nonlinearity_gain("odd")
        return 1.0

    def _matrix_sizes(self, shape: Shape, axes: Axes, sizes: Sizes) -> tuple[int, ...]:
        rows, columns = sizes.inputs, [sizes.outputs]
        if self.place != "first":
            channels = self._paired_channels(shape, axes)
            self._require_pairs("inputs", channels, shape)
            if sizes.inputs % max(channels, 1):
                raise ValueError(
                    f"`LooksLinear(channels=...)` must divide the number of inputs. Received: "
                    f"channels={channels}, shape={shape}."
                )
            rows = sizes.inputs // max(channels, 1) * (channels // 2)
        if self.place != "last":
            units = shape[axes.outputs[-1]] if axes.outputs else 1
            self._require_pairs("outputs", units, shape)
            rest = sizes.outputs // max(units, 1)
            columns = [rest * (units // 2), rest * (units % 2)]
        return rows, *columns

    def _paired_channels(self, shape: Shape, axes: Axes) -> int:
        return self.channels or (shape[axes.inputs[-1]] if axes.inputs else 1)

    def _require_pairs(self, side: str, units: int, shape: Shape) -> None:
        if units == 1:
            raise ValueError(
                f"`LooksLinear(place={self.place!r})` needs at least two {side} along the last "
                f"axis of them, to be paired. Received: shape={shape}."
            )

    def _arranged(self, sizes: Sizes, shape: Shape, axes: Axes, *matrices: Array) -> Array:
        half = matrices[0]
        if self.place != "last":
            units = shape[axes.outputs[-1]]
            rest = sizes.outputs // max(units, 1)
            half, single = (
                matrix.reshape(*matrix.shape[:3], rest, columns)
                for matrix, columns in zip(matrices, (units // 2, units % 2), strict=True)
            )
            half = np.concatenate([half, -half, single], axis=4)
            half = half.reshape(*half.shape[:3], sizes.outputs)
        if self.place != "first":
            channels = self._paired_channels(shape, axes)
            rest = sizes.inputs // max(channels, 1)
            paired = half.reshape(*half.shape[:2], rest, channels // 2, sizes.outputs) / 2
            unpaired = np.zeros((*paired.shape[:3], channels % 2, sizes.outputs), half.dtype)
            half = np.concatenate([paired, -paired, unpaired], axis=3)
        return half


# Cached because a chain has many kernels. The theory is imported when it is needed, as importing
# keras_winit must be fast.
@functools.lru_cache(maxsize=64)
def _cached_odd_share(nonlinearity: Any) -> float:
    from keras_winit.theory.gains import odd_share

    return odd_share(nonlinearity)
