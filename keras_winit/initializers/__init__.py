'''The schemes, one module for each family. Importing them registers them with Keras.

This package is also the extension point: a new scheme is a class with the `scheme` decorator.
Choose its base class by what the scheme needs:

| base class | the scheme |
| --- | --- |
| `Scheme` | draws nothing, and needs only the shape |
| `RandomScheme` | draws from a `seed` |
| `AxesScheme` | draws nothing, and needs to know how the layer uses its kernel |
| `KernelScheme` | draws, and needs to know how the layer uses its kernel |
| `GainScheme` | is a `KernelScheme` whose scale can follow a `nonlinearity` |
| `WrappingScheme` | arranges or changes the values of another initializer, `inner` |

The class states its arguments as annotated attributes, which are also its saved config. Its
`plan` returns a function that makes any part of a weight: JAX asks for one shard at a time.

Example:
    >>> from keras_winit.initializers import KernelScheme, scheme
    >>> @scheme
    ... class LargerFanNormal(KernelScheme):
    ...     """Normal with Var[w] = gain**2 / max(fan_in, fan_out)."""
    ...
    ...     formula = "N(0, gain² / max(fan_in, fan_out))"
    ...     use = "an example"
    ...     source = "by definition"
    ...
    ...     gain: float = 1.0
    ...
    ...     def plan(self, shape, dtype):
    ...         stream, stddev = self.stream(), self.gain * max(self.fans(shape)) ** -0.5
    ...         return lambda part: stream.normal(shape, dtype, part, stddev)
    >>> keras.initializers.get("winit>larger_fan_normal")
    LargerFanNormal()
    >>> tuple(LargerFanNormal(2.0, seed=1)((64, 32)).shape)
    (64, 32)

`REGISTRY` maps the name of each scheme, such as "he_normal", to its class.
'''

# The registry keeps this order, and with it the table in the README.
# isort: off
from keras_winit.initializers import (
    constants as constants,
    distributions as distributions,
    scaling as scaling,
    sparse as sparse,
    orthogonal as orthogonal,
    looks_linear as looks_linear,
    near_linear as near_linear,
    identity as identity,
    noisy_identity as noisy_identity,
    recurrent as recurrent,
    bias as bias,
    convolution as convolution,
    upsampling as upsampling,
    implicit as implicit,
    depth as depth,
    combinators as combinators,
)

# isort: on
from keras_winit.initializers.base import REGISTRY, RandomScheme, Scheme, scheme
from keras_winit.initializers.kernels import AxesScheme, GainScheme, KernelScheme
from keras_winit.initializers.wrapping import WrappingScheme

__all__ = [
    "REGISTRY",
    "AxesScheme",
    "GainScheme",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "WrappingScheme",
    "scheme",
]
