"""The convolution-aware scheme, which draws the spectra of filters instead of the filters."""

import math

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import scheme
from keras_winit.initializers.calling_layer import require_convolution
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.orthogonal import orthonormal_columns
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Shape,
    cut_from_whole,
    rounded,
    whole,
    zeros,
)
from keras_winit.initializers.streams import Stream
from keras_winit.theory.fans import kernel_axes

# Largest number of entries of the orthogonal matrices of one kernel: 2 GiB in float64.
MOST_DRAWS = 1 << 28


@scheme
class ConvolutionAware(KernelScheme):
    """Filters with orthonormal spectra: each input channel gets another set of frequencies.

    Each filter of a kernel `(*window, in, out)` has `in` windows. They are the inverse real
    Fourier transforms of the rows of one or more random orthogonal matrices; a row holds the
    real amplitudes of a window's half spectrum. A window with such a spectrum is symmetric, so
    noise from N(0, noise**2) is added. The kernel is then scaled so that the mean square of its
    entries is exactly scale / fan_in. A window of a single entry has no spectrum, and its
    entries are normal. In a depthwise kernel each filter has one input. In a transposed kernel
    inputs and outputs are those of the layer.

    Args:
        scale: Mean square of the weights times fan_in, above 0. Defaults to 2.
        noise: Standard deviation of the noise, at least 0, before the kernel is scaled; at that
            point a window has a norm of about 1 / sqrt(entries). Defaults to 0.05.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `scale` is not above 0 or `noise` is negative. At
            call, if the kernel has no window of one to three axes or a very large one, or axes
            were given.

    Example:
        >>> layer = keras.layers.Conv2D(
        ...     64, 3, activation="relu", kernel_initializer="winit>convolution_aware"
        ... )

    Departs: The orthogonal matrices are uniformly distributed; the author's code uses the
        singular vectors of symmetric random matrices. The last bits of a weight may differ
        between machines with different linear algebra libraries.
    """

    formula = "F⁻¹(orthonormal) + N(0, noise²), scaled to E[w²] = scale / fan_in"
    use = "convolutions with ReLU"
    source = "Aghajanyan 2017, arXiv:1702.06295"

    scale: float = 2.0
    noise: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_real("scale", "a number > 0", lambda value: value > 0)
        self._require_real("noise", "a number >= 0", lambda value: value >= 0)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        require_convolution(self, shape, "a convolution", "Use `winit>orthogonal`.")
        self._require_few_draws(shape)
        stream = self.stream()
        wide = "float64" if dtype == "float64" else "float32"

        def make() -> Array:
            if 0 in shape:
                return zeros(shape, dtype)
            return rounded(self._kernel(stream, shape).astype(wide), dtype)

        # All weights share one scale factor, so a part cannot be made without the rest.
        return cut_from_whole(make, shape, dtype)

    def _require_few_draws(self, shape: Shape) -> None:
        """Raise an error if the orthogonal matrices would not fit into memory."""
        axes = kernel_axes(shape, self.kernel_use)
        channels, filters = (
            math.prod(shape[axis] for axis in side)
            for side in (axes.inputs, axes.apart + axes.outputs)
        )
        size = max(math.prod(shape[:-3]), 1) * (shape[-3] // 2 + 1)
        if filters * -(-channels // size) * size**2 > MOST_DRAWS:
            raise ValueError(
                f"`ConvolutionAware` needs a smaller window: for each filter it draws an "
                f"orthogonal matrix of {size} rows and columns. Received: shape={shape}. Use "
                f"`winit>he_normal`."
            )

    def _kernel(self, stream: Stream, shape: Shape) -> npt.NDArray[np.float64]:
        axes = kernel_axes(shape, self.kernel_use)
        filter_axes = axes.apart + axes.outputs
        window, inputs, outputs = (
            [shape[axis] for axis in side] for side in (axes.window, axes.inputs, filter_axes)
        )
        channels, filters = math.prod(inputs), math.prod(outputs)
        half_spectrum = (*window[:-1], window[-1] // 2 + 1)
        size = math.prod(half_spectrum)
        matrices = -(-channels // size)  # Number of orthogonal matrices for each filter.
        # Matrices and noise come from one draw, so that they share no random number.
        split = filters * matrices * size * size
        length = (split + math.prod(shape),)
        draws = stream.normal(length, "float32", whole(length), 1.0)
        bases = draws[:split].reshape(-1, size, size).astype(np.float64)
        bases = orthonormal_columns(bases) if size > 1 else bases
        spectra = bases.reshape(filters, matrices * size, *half_spectrum)[:, :channels]
        kernel = np.fft.irfftn(spectra, window, tuple(range(2, 2 + len(window))))
        kernel += self.noise * draws[split:].reshape(kernel.shape)
        kernel *= math.sqrt(self.scale / self.fans(shape)[0] / np.mean(kernel**2))
        # The kernel was made in the order (out, in, *window).
        kernel = kernel.reshape(*outputs, *inputs, *window)
        return kernel.transpose(np.argsort(filter_axes + axes.inputs + axes.window))
