"""Convolution kernels that are arranged by the spectra of their filters."""

import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from keras_winit.initializers.base import scheme
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.orthogonal import reflected
from keras_winit.initializers.placement import Array, Part, Shape, empty, part_shape, whole
from keras_winit.initializers.streams import Stream
from keras_winit.theory.fans import kernel_axes


@scheme
class ConvolutionAware(KernelScheme):
    """Filters with orthonormal spectra: each input channel gets another set of frequencies.

    For each filter of a kernel `(*window, in, out)`, its `in` windows are the inverse real
    Fourier transforms of the rows of random orthogonal matrices, as many as it takes; a
    row holds the real amplitudes of the window's half spectrum. Noise from N(0, noise**2)
    is added, since a window with such a spectrum is symmetric. The kernel is then scaled
    so that the mean square of its entries is scale / fan_in exactly. A window of a single
    entry has no spectrum: its entries are normal. A depthwise kernel has one input for each
    filter; of a transposed one the sides are taken as the layer uses them.

    Args:
        scale: The mean square of the weights, times fan_in. At least 0. Defaults to 2.
        noise: Standard deviation of the noise, before the kernel is scaled, when the
            windows have norm about 1 / sqrt(entries). At least 0. Defaults to 0.05.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `scale` or `noise` is negative or not finite. At
            call, if the kernel has no window of one to three axes, or has been given axes.

    Example:
        >>> layer = keras.layers.Conv2D(
        ...     64, 3, activation="relu", kernel_initializer="winit>convolution_aware"
        ... )

    Departs: The bases are uniform over all orthogonal matrices; the author's code takes
        the singular vectors of symmetric ones. The last bits of a weight may differ
        between machines, with their linear algebra.
    """

    formula = "F⁻¹(orthonormal) + N(0, noise²), scaled to E[w²] = scale / fan_in"
    use = "convolutions with ReLU"
    source = "Aghajanyan 2017, arXiv:1702.06295"

    scale: float = 2.0
    noise: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale", "noise"):
            self._require_real(name, "a number >= 0", lambda value: value >= 0)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        if len(shape) not in (3, 4, 5) or (self.input_axes, self.output_axes) != (None, None):
            raise ValueError(
                f"`ConvolutionAware` needs the kernel of a convolution, of three to five axes. "
                f"Received: shape={shape}. Use `winit>orthogonal`."
            )
        stream = self.stream()
        # All weights share one scale: no part of them can do without the rest.
        wide = "float64" if dtype == "float64" else "float32"
        kernel = functools.cache(lambda: self._kernel(stream, shape).astype(wide))

        def draw(part: Part) -> Array:
            out = empty(part_shape(part), dtype)
            if out.size:
                out[...] = kernel()[part]
            return out

        return draw

    def _kernel(self, stream: Stream, shape: Shape) -> npt.NDArray[np.float64]:
        axes = kernel_axes(shape, self.kernel_use)
        kept = axes.apart + axes.outputs
        window, into, out_of = (
            [shape[i] for i in side] for side in (axes.window, axes.inputs, kept)
        )
        channels, filters = math.prod(into), math.prod(out_of)
        half = (*window[:-1], window[-1] // 2 + 1)
        size = math.prod(half)
        blocks = -(-channels // size)
        # Bases and noise are two stretches of one draw: they share no random number.
        split = filters * blocks * size * size
        length = (split + math.prod(shape),)
        draws = stream.normal(length, "float32", whole(length), 1.0)
        bases = draws[:split].reshape(-1, size, size).astype(np.float64)
        bases = reflected(bases) if size > 1 else bases
        spectra = bases.reshape(filters, blocks * size, *half)[:, :channels]
        kernel = np.fft.irfftn(spectra, window, tuple(range(2, 2 + len(window))))
        kernel += self.noise * draws[split:].reshape(kernel.shape)
        kernel *= math.sqrt(self.scale / self.fans(shape)[0] / np.mean(kernel**2))
        # (out, in, *window) as it was drawn, to the axes of the layer.
        drawn = kernel.reshape(*out_of, *into, *window)
        return drawn.transpose(np.argsort(kept + axes.inputs + axes.window))
