"""Schemes that wrap another initializer, and functions that adapt any initializer to a kernel."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np

from keras_winit.initializers.base import Scheme
from keras_winit.initializers.kernels import AxesScheme
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Part,
    Shape,
    outside_of_traces,
    require_finite,
    rounded,
)
from keras_winit.theory.fans import Use


@dataclass(eq=False, repr=False)
class WrappingScheme(AxesScheme):
    """A scheme that arranges or changes the values of another initializer.

    Args:
        inner: The other initializer, in any form that Keras accepts. It keeps its own seed. A
            scheme of this package takes the axes and the use of the kernel from here, unless
            it has its own. An initializer from elsewhere is called once for the whole weight,
            in float32.
        **shared: Axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is a name that Keras does not know.
    """

    inner: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inner = self._checked_initializer("inner", self.inner)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @property
    def seed(self) -> Any:
        """The seed of `inner`."""
        return getattr(self.inner, "seed", None)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        made = super().from_config(config)
        if config.get("seed") is not None:
            # `EinsumDense` adds the seed object itself, which the config of `inner` cannot hold.
            made.inner = reseeded(made.inner, config["seed"])
        return made

    def for_block(self, number: int) -> Self:
        twin = super().for_block(number)
        twin.inner = for_block(self.inner, number)
        return twin

    def reseeded(self, seed: Any) -> Self:
        twin = copy.copy(self)
        twin.inner = reseeded(self.inner, seed)
        return twin

    def inner_plan(self, shape: Shape, dtype: str) -> DrawPart:
        """Return the plan of `inner` for a kernel of this use."""
        return plan_of(bound_to(self.inner, self.kernel_use), shape, dtype)

    def scaled_inner_plan(self, shape: Shape, dtype: str, factor: float) -> DrawPart:
        """Return the plan of `inner` times a factor, rounded to the dtype only once."""
        draw_inner = self.inner_plan(shape, "float64" if dtype == "float64" else "float32")

        def draw(part: Part) -> Array:
            values = draw_inner(part)
            with np.errstate(over="ignore", invalid="ignore"):
                np.multiply(values, values.dtype.type(factor), out=values)
            if values.dtype != dtype:
                return rounded(values, dtype)
            require_finite(values)
            return values

        return draw


def plan_of(initializer: Any, shape: Shape, dtype: str) -> DrawPart:
    """Return the plan of an initializer, of this package or any other."""
    if isinstance(initializer, Scheme):
        return initializer.plan(shape, dtype)
    with outside_of_traces():
        values = initializer(shape, "float32")

    return lambda part: rounded(keras.ops.convert_to_numpy(values)[part], dtype)


def bound_to(initializer: Any, use: Use, shape: Shape | None = None) -> Any:
    """Return an initializer for a weight that a layer uses in a certain way."""
    if isinstance(initializer, Scheme):
        return initializer.bound(use, shape)
    if isinstance(initializer, keras.initializers.VarianceScaling) and use.input_axes is not None:
        axes = {"input_axes": use.input_axes, "output_axes": use.output_axes}
        return initializer.from_config(
            {**initializer.get_config(), "seed": initializer.seed, **axes}
        )
    return initializer


def reseeded(initializer: Any, seed: Any) -> Any:
    """Return an initializer with another seed, or the same one if it draws nothing."""
    if isinstance(initializer, Scheme):
        return initializer.reseeded(seed)
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    return initializer.from_config({**config, "seed": seed}) if "seed" in config else initializer


def for_block(initializer: Any, number: int) -> Any:
    """Return an initializer for block `number`, from 0, of a weight; each draws other values."""
    if isinstance(initializer, Scheme):
        return initializer.for_block(number)
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return initializer  # It draws nothing, or from a generator that advances by itself.
    block_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) >> 1
    return initializer.from_config({**initializer.get_config(), "seed": block_seed})
