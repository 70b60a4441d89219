"""Sets every kernel of a model by the mean and variance that theory predicts for its inputs."""

import math
import random
from numbers import Real
from typing import Any

import keras

from keras_winit.initializers.arguments import find_initializer
from keras_winit.initializers.wrapping import reseeded
from keras_winit.models.graph import trace_calls
from keras_winit.models.no_gradients import no_gradients
from keras_winit.repair.changes import Changes
from keras_winit.repair.owners import kernel_owners
from keras_winit.repair.signal_walk import SignalWalk
from keras_winit.repair.transaction import restored_on_error


def analytic_init(
    model: Any,
    *,
    target: float = 1.0,
    scheme: Any = "winit>lecun_normal",
    inputs: tuple[float, float] = (0.0, 1.0),
    count_padding: bool = False,
    layers: Any = None,
    seed: Any = None,
) -> Changes:
    """Give the pre-activations of every layer unit variance, by theory alone and without data.

    Mean m and variance v of the entries are followed from the inputs through every layer: exact
    integrals for activations, and formulas or draws for sums, products, concatenation, dropout,
    padding, pooling, normalization and attention. A kernel that receives them is drawn with

        Var[w] = target / (fan_in (v + m**2)),

    where fan_in is true for depthwise, grouped, strided, transposed and gated kernels. In
    recurrent layers, recurrent kernels become orthogonal, and input kernels give the rest of the
    variance. Embeddings give entries of variance `target`. Biases stay as they are.

    Entries at different positions count as independent, and batch normalization as in training,
    so that pre-activations of a real model deviate, most of all in deep convolutional
    networks without normalization. `keras_winit.lsuv` is exact on a batch.

    Args:
        model: A built model that runs on symbolic tensors.
        target: Variance of the pre-activations, above 0. Defaults to 1.
        scheme: Initializer of the kernels, in any form that Keras accepts. Its values are
            scaled to the variance above. Defaults to a truncated normal distribution.
        inputs: Mean and variance of the model's inputs. Defaults to (0, 1).
        count_padding: Whether the padding of a convolution lowers its fan_in to the mean number
            of inputs on the map. Defaults to False. It helps on small maps and in plain
            networks; in residual networks it may overshoot.
        layers: The layers to set, with all inside them: a pattern of names such as "block*", a
            layer, a class of layers, a predicate, or a list of these. Defaults to None: all.
        seed: An integer, a `keras.random.SeedGenerator` or None. Every kernel has a stream of
            its own, which is the same on each backend.

    Returns:
        A table with one row for each kernel, which prints. Its notes name the layers without a
        rule, which pass mean and variance on unchanged.

    Raises:
        TypeError: If `model` is not a layer, or an argument has the wrong type.
        ValueError: If an argument is out of range, the model is not built, or it does not run on
            symbolic tensors. After any error, also Ctrl-C, all variables are as before the call.

    Example:
        >>> layer = keras.layers.Dense(4, "relu")
        >>> model = keras.Sequential([keras.Input((8,)), layer, keras.layers.Dense(2)])
        >>> for row in analytic_init(model, seed=1).rows:
        ...     print(row.reason)
        inputs have the mean square 1, fan_in 8
        inputs have the mean square 0.5, fan_in 4

    Source: Bingham and Miikkulainen 2023, arXiv:2109.08958, section 3.
    Departs: Written from the formulas. Dropout and zero padding count the mean of their inputs,
        sums and products count the correlation of their terms, and fans are true.
    """
    _check_arguments(model, target, inputs)
    initializer = find_initializer(scheme)
    if seed is None:
        seed = random.randint(1, int(1e9))
    try:
        calls = trace_calls(model)
    except Exception as error:
        raise ValueError(
            f"`analytic_init` needs a model that runs on symbolic tensors. Received: "
            f"model={model.name!r}, which raised {type(error).__name__}: {error}. Use `lsuv`."
        ) from error
    owners = kernel_owners("analytic_init", model, layers)
    with restored_on_error("analytic_init", model.variables) as progress, no_gradients():
        drawn = reseeded(initializer, seed)
        walk = SignalWalk(owners, target, drawn, inputs, count_padding, progress)
        walk.run(calls)
    return Changes("analytic_init", walk.rows(), walk.notes())


def _check_arguments(model: Any, target: Any, inputs: Any) -> None:
    if not isinstance(model, keras.Layer):
        raise TypeError(
            f"`analytic_init(model=...)` must be a model or a layer. Received: model={model!r}."
        )
    if not model.built:
        raise ValueError(
            f"`analytic_init` needs a built model. Received: {model.name!r}, not built. Call it "
            f"on data, or `model.build(input_shape)`."
        )
    if isinstance(target, bool) or not isinstance(target, Real):
        raise TypeError(
            f"`analytic_init(target=...)` must be a number > 0. Received: target={target!r}."
        )
    if not 0 < float(target) < math.inf:
        raise ValueError(
            f"`analytic_init(target=...)` must be a number > 0. Received: target={target!r}."
        )
    try:
        mean, variance = (float(number) for number in inputs)
        valid = math.isfinite(mean) and 0 <= variance < math.inf
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"`analytic_init(inputs=...)` must be a mean and a variance >= 0. "
            f"Received: inputs={inputs!r}."
        )
