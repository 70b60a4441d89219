"""Recommends an initializer for a layer, as the remedy of a finding."""

from keras_winit.models.layers import LayerInfo
from keras_winit.monitor.diagnosis.rules.remedies import NORMALIZE, reinitialize_code

# The usual scheme by the activation that follows the kernel.
SCHEMES = {
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "elu", "celu"), "winit>he_normal"),
    **dict.fromkeys(("gelu", "silu", "mish", "hard_silu"), "winit>he_normal"),
    "selu": "winit>lecun_normal",
}
DEFAULT_SCHEME = "winit>xavier_uniform"
RECURRENT_SCHEME = "winit>orthogonal"

# The schemes with the variance of each recommended one, by which replacing them gains nothing.
SAME_VARIANCE = {
    "winit>he_normal": ("he_normal", "he_uniform"),
    "winit>lecun_normal": ("lecun_normal", "lecun_uniform"),
    DEFAULT_SCHEME: ("xavier_normal", "xavier_uniform", "glorot_normal", "glorot_uniform"),
    RECURRENT_SCHEME: ("orthogonal", "orthogonal_initializer", "scaled_orthogonal"),
}

PASS_GRADIENTS = (
    "start from units of mean 0 and variance 1: `keras_winit.lsuv(model, x, per_channel=True, "
    "center=True)`, or add residual connections or normalizations"
)


def scheme_advice(layer: str, part: LayerInfo | None, otherwise: str = NORMALIZE) -> str:
    """Return a remedy that draws the layer anew, and names the arguments to set in it.

    Args:
        layer: Name of the layer.
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
    anew = f"draw its weights anew: {reinitialize_code(layer)}"
    if depthwise:
        # The shape of such a kernel does not tell its fans, so that no name of a scheme serves.
        return anew
    return f"{anew}, or set {' and '.join(advice)} in the layer" if advice else otherwise
