"""Recommends an initializer for a layer, as the remedy of a finding."""

from keras_winit.models.layers import LayerInfo

# The usual scheme by the activation that follows the kernel.
SCHEMES = {
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "elu", "celu"), "winit>he_normal"),
    **dict.fromkeys(("gelu", "silu", "mish", "hard_silu"), "winit>he_normal"),
    "selu": "winit>lecun_normal",
}
DEFAULT_SCHEME = "winit>xavier_uniform"
RECURRENT_SCHEME = "winit>orthogonal"

# The schemes with the variance of each of these: to change one for another helps nothing.
SAME_VARIANCE = {
    "winit>he_normal": ("he_normal", "he_uniform"),
    "winit>lecun_normal": ("lecun_normal", "lecun_uniform"),
    DEFAULT_SCHEME: ("xavier_normal", "xavier_uniform", "glorot_normal", "glorot_uniform"),
    RECURRENT_SCHEME: ("orthogonal", "orthogonal_initializer", "scaled_orthogonal"),
}

# Remedies for a layer that has the scheme which fits its activation.
NORMALIZE = "normalize what the layer takes, for example with `keras.layers.LayerNormalization()`"

PASS_GRADIENTS = (
    "add residual connections, or normalize between this layer and the loss, for example with "
    "`keras.layers.LayerNormalization()`"
)


def scheme_advice(part: LayerInfo | None, otherwise: str = NORMALIZE) -> str:
    """Return a remedy that names the arguments to set in the layer.

    Args:
        part: Description of the layer. None if it is not known.
        otherwise: Remedy if the layer has the recommended schemes already.
    """
    activation = (part and part.activation) or ""
    scheme = SCHEMES.get(activation, DEFAULT_SCHEME)
    present = dict(part.initializers) if part is not None else {}
    depthwise = "depthwise_initializer" in present
    advice = []
    if present.get("kernel_initializer") not in SAME_VARIANCE[scheme] and not depthwise:
        advice.append(f'kernel_initializer="{scheme}"')
    recurrent = part is not None and any(kernel.role == "recurrent" for kernel in part.kernels)
    if recurrent and present.get("recurrent_initializer") not in SAME_VARIANCE[RECURRENT_SCHEME]:
        advice.append(f'recurrent_initializer="{RECURRENT_SCHEME}"')
    if depthwise:
        # The shape of such a kernel does not tell its fans.
        return (
            "before the layer is built, set `layer.depthwise_initializer = "
            f'keras_winit.for_layer("{scheme}", layer, "depthwise_kernel")`'
        )
    return f"set {' and '.join(advice)}" if advice else otherwise
