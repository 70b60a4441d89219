"""What schemes share that depend on the layer: axes, gains, and the wrapping of others."""

import copy
import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import keras
import numpy as np

from keras_winit.initializers.base import RandomScheme, Scheme, as_index
from keras_winit.initializers.placement import (
    Array,
    Part,
    Shape,
    empty,
    outside_of_traces,
    part_shape,
)
from keras_winit.theory.fans import KINDS, Use, fans


@dataclass(eq=False, repr=False)
class AxesScheme(Scheme, keras.initializers.VarianceScaling):
    """A scheme that depends on what the layer does with its kernel.

    Being a `keras.initializers.VarianceScaling` is what makes Keras' `EinsumDense`, and
    with it the attention layers, pass their true axes; nothing else comes from there.
    What a shape cannot tell of the other layers is said by the arguments below, all of
    which `keras_winit.for_layer(scheme, layer)` reads from the layer.

    Args:
        input_axes: Axes of the kernel that are summed over. None: what `output_axes`
            leaves, or by `kind`. Counted from 0, or from the end if negative.
        output_axes: Axes of the kernel that the output keeps. None: what `input_axes`
            leaves, or by `kind`. Axes named on neither side make kernels of their own.
            Name both sides in an `EinsumDense`, which replaces both if either is None.
        kind: How a kernel without axes is stored. "dense", the default, also of
            convolutions: `(*window, in, out)`. "depthwise": `(*window, channels, m)`.
            "transposed": `(*window, out, in)`.
        groups: Of a convolution. At least 1, the default.
        gates: Blocks of outputs side by side, 4 in an LSTM. At least 1, the default.
        strides: Of a convolution, one for all axes of the window or one for each. At
            least 1, the default.

    Raises:
        TypeError: At construction, if an argument has the wrong type.
        ValueError: At construction, if a number is below 1, `kind` is not one of the
            three, or is given beside axes. At call, if an axis lies outside the shape or
            is named twice, or the outputs cannot be split into the groups and gates.
    """

    # `EinsumDense` passes one along with its axes.
    seed: ClassVar[Any] = None

    input_axes: Sequence[int] | None = field(default=None, kw_only=True)
    output_axes: Sequence[int] | None = field(default=None, kw_only=True)
    kind: str = field(default="dense", kw_only=True)
    groups: int = field(default=1, kw_only=True)
    gates: int = field(default=1, kw_only=True)
    strides: int | Sequence[int] = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("input_axes", "output_axes"):
            if getattr(self, name) is not None:
                setattr(self, name, self._whole_numbers(name, "a sequence of integers or None"))
        self._require_choice("kind", KINDS)
        if self.kind != "dense" and (self.input_axes, self.output_axes) != (None, None):
            raise ValueError(
                f"`{type(self).__name__}` takes axes or a `kind`, not both. Received: "
                f"kind={self.kind!r}, input_axes={self.input_axes!r}, "
                f"output_axes={self.output_axes!r}."
            )
        self._require_whole("groups", 1)
        self._require_whole("gates", 1)
        if as_index(self.strides) is not None:
            self._require_whole("strides", 1)
        else:
            requirement = "an integer >= 1, or one for each axis of the window"
            self.strides = self._whole_numbers("strides", requirement)
            self._require("strides", requirement, min(self.strides, default=0) >= 1, ValueError)

    def _whole_numbers(self, name: str, requirement: str) -> tuple[int, ...]:
        try:
            return tuple(operator.index(number) for number in getattr(self, name))
        except TypeError:
            self._require(name, requirement, False, TypeError)
            raise

    @property
    def kernel_use(self) -> Use:
        """What the layer does with the kernel, by the arguments of this scheme."""
        return Use(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Use)})

    def fans(self, shape: Shape) -> tuple[float, float]:
        """`(fan_in, fan_out)` of a kernel, by the arguments of this scheme."""
        return fans(shape, **vars(self.kernel_use))

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        fields = {f.name: f.default for f in dataclasses.fields(self)}
        if any(getattr(self, name) != fields[name] for name in vars(use)):
            return self  # Whoever made it has said it.
        twin = copy.copy(self)
        for name, value in vars(use).items():
            setattr(twin, name, value)
        return twin

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # Not all schemes take the seed.
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in config.items() if k in known or k != "seed"})


@dataclass(eq=False, repr=False)
class KernelScheme(RandomScheme, AxesScheme):
    """A scheme that draws, and depends on what the layer does with its kernel.

    Args:
        **shared: `seed`, as in `RandomScheme`; axes, `kind`, `groups`, `gates`, `strides`,
            as in `AxesScheme`.
    """


@dataclass(eq=False, repr=False)
class GainScheme(KernelScheme):
    """A scheme whose size can follow the nonlinearity behind the kernel.

    Args:
        nonlinearity: An activation, by name or as a function of arrays, whose gain
            multiplies the standard deviation. None, the default: 1.
        **shared: What `KernelScheme` takes.

    Raises:
        ValueError: At construction, if the nonlinearity is unknown or has no gain.
    """

    nonlinearity: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nonlinearity is None:
            return
        if not isinstance(self.nonlinearity, str):
            # As Keras does in its layers: a name where there is one. A function of another
            # module may have that of one of Keras' own.
            function = keras.activations.get(self.nonlinearity)
            name = getattr(function, "__name__", None)
            known = isinstance(name, str) and getattr(keras.activations, name, None) is function
            self.nonlinearity = name if known else function
        # A function stays one in the config: Keras writes down its name when it saves.
        self.nonlinearity_gain("second_moment")

    def nonlinearity_gain(self, mode: str) -> float:
        """The gain of the nonlinearity by `keras_winit.gain`, 1 if there is none."""
        return 1.0 if self.nonlinearity is None else _gain(self.nonlinearity, mode)


# Cached because the gain of a function of tensors takes a tenth of a second to compute.
@functools.lru_cache(maxsize=64)
def _gain(nonlinearity: Any, mode: str) -> float:
    # Imported here because few networks need a gain, and importing keras_winit must be fast.
    from keras_winit.theory.gains import gain

    return gain(nonlinearity, mode)


@dataclass(eq=False, repr=False)
class WrappingScheme(AxesScheme):
    """A scheme that arranges or alters what another initializer gives.

    Args:
        inner: The other initializer, in any form that Keras takes. It keeps its seed, and
            gets the axes and the use of the kernel from here unless it has its own. One
            that is not of this package is drawn whole and in float32, once for a call.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if `inner` is not an initializer.
        ValueError: At construction, if `inner` is the name of none.
    """

    inner: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inner = self._initializer("inner", self.inner)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @property
    def seed(self) -> Any:
        """That of `inner`."""
        return getattr(self.inner, "seed", None)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        made = super().from_config(config)
        if config.get("seed") is not None:
            # `EinsumDense` passes the live one on, which a config cannot hold.
            made.inner = reseeded(made.inner, config["seed"])
        return made

    def block(self, number: int) -> Self:
        twin = super().block(number)
        twin.inner = block_of(self.inner, number)
        return twin

    def reseeded(self, seed: Any) -> Self:
        twin = copy.copy(self)
        twin.inner = reseeded(self.inner, seed)
        return twin

    def inner_plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        """How to make any part of what `inner` gives for a kernel of this use."""
        return plan_of(bound_to(self.inner, self.kernel_use), shape, dtype)

    def scaled_inner(self, shape: Shape, dtype: str, factor: float) -> Callable[[Part], Array]:
        """The same times a number, rounded to the dtype once."""
        plan = self.inner_plan(shape, "float64" if dtype == "float64" else "float32")

        def draw(part: Part) -> Array:
            values = plan(part)
            np.multiply(values, values.dtype.type(factor), out=values)
            if values.dtype == dtype:
                return values
            out = empty(part_shape(part), dtype)
            out[...] = values
            return out

        return draw


def plan_of(initializer: Any, shape: Shape, dtype: str) -> Callable[[Part], Array]:
    """How to make any part of what an initializer gives, be it of this package or not."""
    if isinstance(initializer, Scheme):
        return initializer.plan(shape, dtype)
    with outside_of_traces():
        values = initializer(shape, "float32")

    def draw(part: Part) -> Array:
        out = empty(part_shape(part), dtype)
        out[...] = keras.ops.convert_to_numpy(values)[part]
        return out

    return draw


def bound_to(initializer: Any, use: Use, shape: Shape | None = None) -> Any:
    """An initializer for a weight that a layer uses in a certain way."""
    if isinstance(initializer, Scheme):
        return initializer.bound(use, shape)
    if isinstance(initializer, keras.initializers.VarianceScaling) and use.input_axes is not None:
        axes = {"input_axes": use.input_axes, "output_axes": use.output_axes}
        return initializer.from_config(
            {**initializer.get_config(), "seed": initializer.seed, **axes}
        )
    return initializer


def reseeded(initializer: Any, seed: Any) -> Any:
    """The same initializer with another seed; itself if it draws nothing."""
    if isinstance(initializer, Scheme):
        return initializer.reseeded(seed)
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    return initializer.from_config({**config, "seed": seed}) if "seed" in config else initializer


def block_of(initializer: Any, number: int) -> Any:
    """An initializer for the part `number`, from 0, of a kernel: it draws other values."""
    if isinstance(initializer, Scheme):
        return initializer.block(number)
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return initializer  # It draws nothing, or from a generator that moves on.
    other = int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) >> 1
    return initializer.from_config({**initializer.get_config(), "seed": other})
