"""Draws the weights of a built model anew, each by what it is for."""

import random
from collections.abc import Callable
from typing import Any

import keras

from keras_winit.initializers.arguments import as_index, find_initializer
from keras_winit.models.inspect import Inspection, inspect_kernels
from keras_winit.models.names import Names
from keras_winit.models.selection import selection
from keras_winit.models.variable_values import draw
from keras_winit.repair.changes import Change, Changes, stddev
from keras_winit.repair.choose import RESIDUAL, Choice
from keras_winit.repair.output_bias import output_biases
from keras_winit.repair.scheme_text import scheme_text
from keras_winit.repair.transaction import restored_on_error
from keras_winit.repair.weight_plans import Wishes, weight_plans


def reinitialize(
    model: Any,
    scheme: Any = "auto",
    layers: Any = None,
    seed: int | None = None,
    residual: str | None = None,
    reset_statistics: bool = False,
    reset_optimizer: bool = False,
    y: Any = None,
    data: Any = None,
) -> Changes:
    """Draw the weights of a built model anew, with the true fans of every kernel.

    By default each kernel gets the scheme that suits what it is for, see `repair/choose.py`:
    He-like with the exact gain of the activation that follows, Xavier before activations that
    saturate and in attention, orthogonal recurrences, and gain 1 for outputs. Chains of at least
    four dense or convolution kernels, without a normalization or a skip between them, keep the
    differences between samples: by `NoisyIdentity` if the activations return positive values
    unchanged, as ReLU does, and all hidden layers are dense and of one width; by
    `NearLinearOrthogonal` if they are odd, such as tanh, nearly odd, such as SELU, or odd up to a
    constant, such as the sigmoid; else by `LooksLinear`. Biases become 0, those of an LSTM's
    forget gate 1. Scales and offsets of normalizations get the values of the layer's own
    initializers.

    Frozen weights, quantized layers, layers with LoRA, embeddings from a given table and
    weights of unknown use are left as they are; the table says so. A weight that several
    layers or calls share is set once. If the function fails or is interrupted, the model is as
    it was before.

    Args:
        model: A built model or layer.
        scheme: "auto", or an initializer of any form for all kernels. It is bound to each
            layer, as by `for_layer`, and draws different values for each kernel.
        layers: The layers to set, with all inside them: a pattern of names such as "block*", a
            layer, a class of layers, a predicate, or a list of these. Defaults to None: all.
        seed: An integer. Each weight draws from a stream of its own, which depends on the seed
            and on the position of the weight in `model.weights`, and is the same on every
            backend. Defaults to None: a new seed, which `keras.utils.set_random_seed`
            determines.
        residual: How to scale the branches of a residual network with N branches. "gpt2": the
            last kernel of each branch by N^-1/2. "fixup": zeros there and in the output layer,
            and N^(-1 / (2 m - 2)) for the other kernels of a branch with m in a row. Defaults
            to None: N^-1/2 in branches without a normalization if the scheme is "auto", else 1.
        reset_statistics: Whether the moving statistics of batch normalization are reset.
            Defaults to False.
        reset_optimizer: Whether the optimizer forgets its momenta and its step count. Its
            learning rate stays. Defaults to False.
        y: Targets, to start at the best constant prediction: the output bias becomes the log
            of the class frequencies, the log odds, or the mean of the targets. An array, or a
            dictionary by the name of the output layer. Defaults to None.
        data: A batch of inputs, used only for the order of the calls if the model cannot be
            traced on symbolic tensors. Defaults to None: zeros.

    Returns:
        A table of all weights: what was set, to what and why, and what was left.

    Raises:
        ValueError: If the model is not built; if an argument is none of the above; if `layers`
            selects no weights; if the targets do not fit the outputs; or if a scheme has no
            rule for a kernel.
        TypeError: If an argument has the wrong type, or an initializer that is not of this
            package is to fill a kernel whose use its shape does not tell.

    Example:
        >>> layers = [keras.layers.DepthwiseConv2D(3, activation="relu"), keras.layers.Flatten()]
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(10)])
        >>> for row in reinitialize(model, seed=0).rows:
        ...     print(row.weight, row.change, row.reason, sep=" | ")
        kernel | he_normal(kind=depthwise) | before relu
        bias | zeros | bias
        kernel | lecun_normal | output
        bias | zeros | bias

    Source: He et al. 2015, arXiv:1502.01852, for any activation; Glorot and Bengio 2010
        (AISTATS); Radford et al. 2019 (GPT-2), section 2.3; Zhang et al. 2019,
        arXiv:1901.09321 (fixup); Balduzzi et al. 2017, arXiv:1702.08591 (looks-linear).
    """
    _check_arguments(model, scheme, residual, reset_optimizer)
    names = Names(model)
    is_auto = isinstance(scheme, str) and scheme == "auto"
    initializer = None if is_auto else find_initializer(scheme)
    selected = _selected(model, layers, names)
    inspection = inspect_kernels(model, names, data)
    wishes = Wishes(
        initializer,
        residual,
        selected,
        reset_statistics,
        {} if y is None else _output_bias_choices(model, inspection, names, y),
    )
    plans = list(weight_plans(model, inspection, names, wishes, _base_seed(seed, initializer)))
    optimizer = model.optimizer if reset_optimizer else None
    saved = [*model.variables, *(optimizer.variables if optimizer else ())]
    before = [stddev(plan.variable) for plan in plans]
    with restored_on_error("reinitialize", saved) as progress:
        to_set = [plan for plan in plans if plan.initializer is not None]
        order = {layer: i for i, layer in enumerate(dict.fromkeys(p.layer for p in to_set), 1)}
        for plan in to_set:
            progress.reach(plan.layer, order[plan.layer], len(order))
            draw(plan.variable, plan.initializer)
        if optimizer:
            _reset_optimizer(optimizer)
    rows = [
        Change(
            layer=plan.layer,
            weight=plan.variable.name,
            change="" if plan.initializer is None else scheme_text(plan.initializer),
            reason=plan.reason,
            stddev_before=stddev_before,
            stddev_after=stddev(plan.variable),
        )
        for plan, stddev_before in zip(plans, before, strict=True)
    ]
    return Changes("reinitialize", rows, _notes(inspection, residual))


def _check_arguments(model: Any, scheme: Any, residual: Any, reset_optimizer: bool) -> None:
    if not model.built:
        raise ValueError(
            f"`reinitialize` needs a built model. Received: {model.name!r}, not built. Call it on "
            f"data, or `model.build(input_shape)`."
        )
    if scheme is None:
        raise ValueError(
            "`reinitialize(scheme=...)` must be 'auto' or an initializer. Received: scheme=None."
        )
    if residual not in (None, *RESIDUAL):
        raise ValueError(
            f"`reinitialize(residual=...)` must be 'gpt2', 'fixup' or None. "
            f"Received: residual={residual!r}."
        )
    if reset_optimizer and not getattr(model, "optimizer", None):
        raise ValueError(
            "`reinitialize(reset_optimizer=True)` needs a compiled model. Received: a model "
            "without an optimizer."
        )


def _selected(model: Any, layers: Any, names: Names) -> Callable[[Any], bool]:
    """Return the predicate of the layers that are selected, with all inside them."""
    if layers is None:
        return lambda layer: True
    is_chosen = selection("reinitialize", layers)
    chosen = [layer for layer in model._flatten_layers() if is_chosen(layer, names.of)]
    ids = {id(inner) for layer in chosen for inner in layer._flatten_layers()}
    if not any(layer.weights for layer in chosen):
        raise ValueError(
            f"`reinitialize(layers=...)` must select at least one layer with weights. "
            f"Received: layers={layers!r}."
        )
    return lambda layer: id(layer) in ids


def _base_seed(seed: Any, initializer: Any) -> int:
    """Return the seed from which the seeds of all weights are derived."""
    if seed is None:
        seed = getattr(initializer, "seed", None) if _is_seeded(initializer) else None
    if seed is None:
        # Keras' initializers draw their seeds so too: `keras.utils.set_random_seed` sets them.
        return random.randint(1, int(1e9))
    number = as_index(seed)
    if number is None:
        raise TypeError(
            f"`reinitialize(seed=...)` must be an integer or None. Received: seed={seed!r}."
        )
    return int(number % 2**64)


def _is_seeded(initializer: Any) -> bool:
    """Return whether an initializer was given an integer as its seed."""
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    return as_index(config.get("seed")) is not None


def _output_bias_choices(
    model: Any, inspection: Inspection, names: Names, y: Any
) -> dict[int, Choice]:
    heads = {names.of(kernel.owner): kernel for kernel in inspection.kernels if kernel.head}
    return output_biases(model, heads, y)


def _reset_optimizer(optimizer: Any) -> None:
    """Set the variables of an optimizer to the values that a new one would have."""
    if not optimizer.built:
        return
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    fresh = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    fresh.build(inner._trainable_variables)
    for variable, initial in zip(optimizer.variables, fresh.variables, strict=True):
        if variable.name != "learning_rate":
            variable.assign(initial)


def _notes(inspection: Inspection, residual: str | None) -> list[str]:
    """Return the sentences below the table."""
    notes = [] if inspection.method == "symbolic" else [inspection.sentence]
    if residual is not None and inspection.branches == 0:
        notes.append(f"No residual branch was found, so residual={residual!r} changed nothing.")
    return notes
