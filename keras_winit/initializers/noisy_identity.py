"""The identity with noise, which lets units that pass their input on become different."""

import math

import numpy as np

from keras_winit.initializers.base import RandomScheme, scheme
from keras_winit.initializers.identity import FillMatrix, FixedMatrix, Index
from keras_winit.initializers.placement import Array, DrawPart, Part, Shape, rounded
from keras_winit.theory.fans import fans


@scheme
class NoisyIdentity(RandomScheme, FixedMatrix):
    """An identity plus small normal noise: each layer of a deep network nearly copies its input.

    The kernel is gain · (D + Z), where D has a one at input i and output j if i = j mod inputs,
    and Z ~ N(0, noise**2 / fan_in). If a layer widens, D repeats the inputs, and the noise makes
    their copies different. If it narrows, D drops the surplus inputs. With a window,
    `(*window, in, out)`, D lies at the same tap as in `Dirac`, and Z at all taps. Each group,
    gate and depthwise channel of Keras' layers gets a matrix D of its own.

    Before tanh and other activations that saturate, pre-activations must be small: give the first
    kernel of the network a small gain, such as 0.1.

    Args:
        gain: Factor of the kernel. Defaults to 1.
        noise: Standard deviation of the noise times sqrt(fan_in), at least 0. Defaults to 0.085.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `gain` is not finite, or `noise` is negative or not
            finite. At call, if the shape has fewer than two axes, or may be that of a depthwise
            convolution and no layer tells.

    Example:
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer="winit>noisy_identity")

    Departs: The paper has no windows, groups and gates, and no gain of the first kernel.
    """

    formula = "gain · (I + N(0, noise² / fan_in)) (1, 0.085)"
    use = "deep ReLU, leaky ReLU and ELU networks without normalization or skips, all of one width"
    source = "Lee, Choi and Kim 2024, arXiv:2410.02242"

    gain: float = 1.0
    noise: float = 0.085

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("noise", "a number >= 0", lambda value: value >= 0)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        self._require_fits("gain", dtype)
        wide = "float64" if dtype == "float64" else "float32"
        draw_identity = super().plan(shape, wide)
        fan_in, _ = fans(shape, **vars(self._find_use(shape)))
        stddev = abs(self.gain) * self.noise / math.sqrt(fan_in or 1)
        stream = self.stream()

        def draw(part: Part) -> Array:
            values = stream.normal(shape, wide, part, stddev)
            values += draw_identity(part)
            return values if wide == dtype else rounded(values, dtype)

        return draw

    def _matrix(self, rows: int, columns: int) -> FillMatrix:
        def fill(out: Array, row: Index, column: Index) -> None:
            copied = column % max(columns, 1) % max(rows, 1)
            np.copyto(out, out.dtype.type(self.gain), where=row == copied)

        return fill
