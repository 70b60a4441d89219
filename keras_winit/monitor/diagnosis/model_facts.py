"""Facts about a model that the rules need besides its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_winit.models.layers import LayerInfo
from keras_winit.models.losses import expected_loss, is_regression
from keras_winit.models.setup import ModelSetup


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """Facts about a model that do not change while it trains.

    Args:
        parts: The description of each layer, by the name that the layer has in the records.
        expected_loss: Loss of a classifier that gives all classes equal chances. None if the
            loss is not a single cross-entropy, or contains penalties or sample weights.
        scaled_loss: Whether the optimizer searches for a scale of the loss. Infinite gradients
            are then a normal part of that search.
        is_regression: Whether every loss is one of a regression, such as the squared error.
        accumulates: Whether the optimizer sums up the gradients of several steps.
        plain_loss: Whether the loss contains no penalties and no sample weights.
        setup: How its outputs end and what it was compiled with. None if that was not read.
    """

    parts: Mapping[str, LayerInfo] = field(default_factory=dict)
    expected_loss: float | None = None
    scaled_loss: bool = False
    is_regression: bool = False
    accumulates: bool = False
    plain_loss: bool = False
    setup: ModelSetup | None = None


def collect_model_facts(
    model: Any, parts: Mapping[int, LayerInfo], watch: Any, setup: ModelSetup | None = None
) -> ModelFacts:
    """Return the facts about a compiled model, given its parts by the `id` of their layer."""
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    layers = [layer for layer in model._flatten_layers() if id(layer) in parts]
    return ModelFacts(
        parts={watch.names.of(layer): parts[id(layer)] for layer in layers},
        expected_loss=expected_loss(model) if watch.plain_loss else None,
        scaled_loss=isinstance(optimizer, keras.optimizers.LossScaleOptimizer),
        is_regression=is_regression(model),
        accumulates=bool(getattr(inner, "gradient_accumulation_steps", None)),
        plain_loss=bool(watch.plain_loss),
        setup=setup,
    )
