"""The starts that are compared: each draws the weights of a network from a seed."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_winit
from trainability_cases.networks import Network, data_of

# Samples that LSUV measures.
SAMPLES = 256

# Standard deviation of the noise that Lee et al. add to an identity, times sqrt(fan_in).
NOISE = 0.085

# Activations that are odd.
ODD = ("tanh", "softsign")


def _keras(network: Network, seed: int) -> Any:
    return network.build()


def _he(network: Network, seed: int) -> Any:
    return network.build(kernel_initializer="he_normal")


def _torch(network: Network, seed: int) -> Any:
    """Draw as `torch.nn` does: `Linear`, `Conv2d`, `LSTM`, `Embedding`, `MultiheadAttention`."""
    model = network.build()
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Embedding):
            _set(layer.embeddings, random.normal(size=layer.embeddings.shape))
        elif hasattr(layer, "recurrent_kernel"):
            for variable in layer.weights:
                _set_uniform(random, variable, layer.units)
        elif isinstance(layer, keras.layers.EinsumDense):
            # Query, key and value are one matrix in torch, and its fans are those of the whole.
            width = math.prod(layer.kernel.shape) ** 0.5
            packed = layer.name != "attention_output"
            _set_uniform(random, layer.kernel, width * 2 / 3 if packed else width)
            layer.bias.assign(np.zeros(layer.bias.shape))
        elif getattr(layer, "kernel", None) is not None:
            fan_in = math.prod(layer.kernel.shape[:-1])
            _set_uniform(random, layer.kernel, fan_in)
            _set_uniform(random, layer.bias, fan_in)
    return model


def _set(variable: Any, values: Any) -> None:
    variable.assign(values.astype("float32"))


def _set_uniform(random: Any, variable: Any, fan: float) -> None:
    limit = fan**-0.5
    _set(variable, random.uniform(-limit, limit, variable.shape))


def _orthogonal(network: Network, seed: int) -> Any:
    model = network.build()
    scheme = keras_winit.Orthogonal(nonlinearity=network.activation)
    keras_winit.reinitialize(model, scheme, seed=seed)
    return model


def _identity(network: Network, seed: int) -> Any:
    """Set identities where a kernel has as many outputs as inputs; the others are Keras'."""
    model = network.build()

    def is_square(layer: Any) -> bool:
        kernel = getattr(layer, "kernel", None)
        return kernel is not None and kernel.shape[-2] == kernel.shape[-1]

    scheme = "winit>dirac" if network.task == "images" else "winit>identity"
    keras_winit.reinitialize(model, scheme, layers=is_square, seed=seed)
    return model


def _noisy_identity(network: Network, seed: int) -> Any:
    """Set identities plus noise (Lee et al. 2024, arXiv:2410.02242).

    Before an odd activation the first kernel is times 0.1, as in the near-linear start.
    """
    if network.part != "mlp":
        raise ValueError("The paper has no rule for other networks than chains of dense layers.")
    model = network.build()
    random = np.random.default_rng(seed)
    for number, layer in enumerate(model.layers):
        rows, columns = layer.kernel.shape
        ones = np.arange(rows)[:, None] == np.arange(columns) % rows
        kernel = ones + random.normal(scale=NOISE / rows**0.5, size=(rows, columns))
        is_small = number == 0 and network.activation in ODD
        _set(layer.kernel, kernel * (0.1 if is_small else 1.0))
    return model


def _chain(network: Network, seed: int, scheme: Any) -> Any:
    """Set the kernels of a chain by their place in it."""
    if network.part not in ("mlp", "cnn"):
        raise ValueError(f"{network.part!r} is not a chain.")
    model = network.build()
    layers = [layer for layer in model.layers if getattr(layer, "kernel", None) is not None]
    places = ["first", *["hidden"] * (len(layers) - 2), "last"]
    seeds = np.random.SeedSequence(seed).generate_state(len(layers))
    for layer, place, layer_seed in zip(layers, places, seeds, strict=True):
        draw = scheme(place, seed=int(layer_seed), nonlinearity=network.activation)
        layer.kernel.assign(draw(layer.kernel.shape))
    return model


def _looks_linear(network: Network, seed: int) -> Any:
    return _chain(network, seed, keras_winit.LooksLinear)


def _near_linear(network: Network, seed: int) -> Any:
    if network.activation not in ODD:
        raise ValueError(f"{network.activation!r} is not odd.")
    return _chain(network, seed, keras_winit.NearLinearOrthogonal)


def _analytic(network: Network, seed: int) -> Any:
    model = network.build()
    keras_winit.analytic_init(model, seed=seed)
    return model


def _lsuv(network: Network, seed: int) -> Any:
    model = network.build()
    keras_winit.lsuv(model, data_of(network.task, seed)[0][:SAMPLES], seed=seed)
    return model


def _auto(network: Network, seed: int) -> Any:
    model = network.build()
    keras_winit.reinitialize(model, seed=seed)
    return model


STARTS: dict[str, Callable[[Network, int], Any]] = {
    "Keras' default": _keras,
    "Keras' He": _he,
    "torch's default": _torch,
    "orthogonal": _orthogonal,
    "identity": _identity,
    "noisy identity": _noisy_identity,
    "analytic_init": _analytic,
    "lsuv": _lsuv,
    "looks-linear": _looks_linear,
    "near-linear": _near_linear,
    "auto": _auto,
}


def started(start: str, network: Network, seed: int) -> Any:
    """Return the network as a model with its weights drawn.

    Raises:
        ValueError: If the start has no rule for the network.
    """
    keras.utils.set_random_seed(seed)
    return STARTS[start](network, seed)
