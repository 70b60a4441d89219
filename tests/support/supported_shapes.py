"""The kernel shapes that each scheme supports, and its required arguments.

Tests over the registry skip the other shapes or expect an error.
"""

from keras_winit.initializers import REGISTRY

# Schemes of kernels in a chain, which refuse gates and depthwise channels.
CHAIN_SCHEMES = ("looks_linear", "near_linear_orthogonal")

# Required arguments of schemes.
NEEDED = {"fan_in_bias": {"fan_in": 64}}


def _convolution(shape):
    return len(shape) in (3, 4, 5)


# Whether a scheme supports a shape. Schemes that are not listed support every shape.
FITS = {
    "sparse": lambda shape: len(shape) >= 2,
    "identity": lambda shape: len(shape) >= 2,
    "noisy_identity": lambda shape: len(shape) >= 2,
    "hadamard": lambda shape: len(shape) >= 2,
    "orthogonal": lambda shape: len(shape) >= 2,
    "delta_orthogonal": lambda shape: len(shape) >= 2 and shape[-2] <= shape[-1],
    "scaled_orthogonal": lambda shape: len(shape) >= 2,
    "looks_linear": lambda shape: len(shape) >= 2 and 1 not in shape[-2:],
    "near_linear_orthogonal": lambda shape: len(shape) >= 2,
    "per_gate": lambda shape: len(shape) >= 2 and shape[-1] % 4 == 0,
    "forget_bias": lambda shape: len(shape) == 1 and shape[0] % 4 == 0,
    "chrono": lambda shape: len(shape) == 1 and shape[0] % 4 == 0,
    "embedding_normal": lambda shape: len(shape) >= 1,
    "blocks": lambda shape: len(shape) >= 1 and shape[-1] % 3 == 0,
    "irnn": lambda shape: len(shape) == 2 and shape[0] == shape[1],
    "dirac": _convolution,
    "convolution_aware": _convolution,
    "icnr": lambda shape: _convolution(shape) and shape[-1] % 2 ** (len(shape) - 2) == 0,
    "bilinear": lambda shape: _convolution(shape) and {n % 4 for n in shape[:-2]} <= {0, 1},
}


def fits(name, shape):
    return name not in FITS or FITS[name](tuple(shape))


def fitting(name, *shapes):
    """Return the first of the shapes that a scheme supports, or else another one that it does."""
    others = ((30, 30), (5, 4, 8, 16), (24,), (30, 42))
    return next(shape for shape in (*shapes, *others) if fits(name, shape))


def make(name, **arguments):
    return REGISTRY[name](**NEEDED.get(name, {}), **arguments)
