"""Recommends an initializer for a layer, as the remedy of a finding."""

from keras_winit.models.layers import LayerInfo

# The usual scheme by the activation that follows the kernel.
SCHEMES = {
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "elu", "celu"), "winit>he_normal"),
    **dict.fromkeys(("gelu", "silu", "mish", "hard_silu"), "winit>he_normal"),
    "selu": "winit>lecun_normal",
}
DEFAULT_SCHEME = "winit>xavier_uniform"


def scheme_advice(part: LayerInfo | None) -> str:
    """Return a remedy that names the arguments to set in the layer."""
    activation = (part and part.activation) or ""
    advice = f'set kernel_initializer="{SCHEMES.get(activation, DEFAULT_SCHEME)}"'
    if part is not None and any(kernel.role == "recurrent" for kernel in part.kernels):
        advice += ' and recurrent_initializer="winit>orthogonal"'
    return advice
