"""The base classes of schemes for kernels: their use by the layer, random values, a gain."""

import copy
import dataclasses
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import keras

from keras_winit.initializers.arguments import as_index
from keras_winit.initializers.base import RandomScheme, Scheme
from keras_winit.initializers.placement import Shape
from keras_winit.theory.fans import KINDS, Use, fans


@dataclass(eq=False, repr=False)
class AxesScheme(Scheme, keras.initializers.VarianceScaling):
    """A scheme that depends on how the layer uses its kernel.

    It is a `keras.initializers.VarianceScaling` only because Keras' `EinsumDense`, and with it
    the attention layers, pass the true axes of their kernels to instances of that class. It
    uses nothing else of that class.

    The shape of a kernel does not show how other layers use it. The arguments below say so;
    `keras_winit.for_layer(scheme, layer)` reads all of them from the layer. Only `Identity`,
    `Hadamard` and `Dirac`, which would silence channels, look for the layer themselves.

    Args:
        input_axes: Axes of the kernel that the layer sums over. Counted from 0, or from the
            end if negative. None, the default: all axes that are not in `output_axes` or, if
            that is None as well, the axes that `kind` implies.
        output_axes: Axes of the kernel that the output keeps. None, the default: likewise.
            Axes on neither side separate independent kernels, such as those of experts. In an
            `EinsumDense` give both sides, because the layer replaces both if one is None.
        kind: Storage order of a kernel without given axes. "dense", the default, also for
            convolutions: `(*window, in, out)`. "depthwise": `(*window, channels, m)`.
            "transposed": `(*window, out, in)`.
        groups: Number of groups of a convolution, at least 1. Defaults to 1.
        gates: Number of blocks of outputs side by side, at least 1, such as 4 in an LSTM.
            Defaults to 1.
        strides: Strides of a convolution, at least 1: one number for all axes of the window,
            or one for each. Defaults to 1.

    Raises:
        TypeError: At construction, if an argument has the wrong type.
        ValueError: At construction, if a number is below 1, `kind` is not one of the three, or
            both `kind` and axes are given. At call, if an axis lies outside the shape or is
            named twice, or the outputs cannot be split into the groups and gates.
    """

    # `EinsumDense` reads the seed of every initializer, and passes it to `from_config`.
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
        """The use of the kernel by its layer, as the arguments of this scheme state it."""
        return Use(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Use)})

    def fans(self, shape: Shape) -> tuple[float, float]:
        """Return `(fan_in, fan_out)` of a kernel, according to the arguments of this scheme."""
        return fans(shape, **vars(self.kernel_use))

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        if any(getattr(self, name) != defaults[name] for name in vars(use)):
            return self  # Arguments that were given explicitly take precedence.
        twin = copy.copy(self)
        for name, value in vars(use).items():
            setattr(twin, name, value)
        return twin

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # `EinsumDense` adds the seed of the scheme, which is None if the scheme has none.
        if "seed" in {f.name for f in dataclasses.fields(cls)}:
            return cls(**config)
        made = cls(**{name: value for name, value in config.items() if name != "seed"})
        if config.get("seed") is not None and made.seed is None:
            raise ValueError(
                f"`{cls.__name__}` takes no `seed`. Received: seed={config['seed']!r}. If it "
                f"holds other initializers, give them seeds."
            )
        return made


@dataclass(eq=False, repr=False)
class KernelScheme(RandomScheme, AxesScheme):
    """A scheme that draws random values and depends on how the layer uses its kernel.

    Args:
        **shared: `seed`, as in `RandomScheme`; axes, `kind`, `groups`, `gates`, `strides`,
            as in `AxesScheme`.
    """


@dataclass(eq=False, repr=False)
class GainScheme(KernelScheme):
    """A scheme whose scale can follow the activation that is applied after the kernel.

    Args:
        nonlinearity: An activation, by name or as a function of arrays, whose gain
            multiplies the standard deviation. Defaults to None: a gain of 1.
        **shared: The arguments of `KernelScheme`.

    Raises:
        ValueError: At construction, if the nonlinearity is unknown or has no gain.
    """

    nonlinearity: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nonlinearity is None:
            return
        if not isinstance(self.nonlinearity, str):
            # A function of Keras is stored by its name, as in Keras' layers. A function of
            # another module stays a function, even if one of Keras has the same name; Keras
            # writes its name when it saves the config.
            try:
                function = keras.activations.get(self.nonlinearity)
            except (ValueError, TypeError):
                self._require("nonlinearity", "an activation or None", False, ValueError)
            name = getattr(function, "__name__", None)
            known = isinstance(name, str) and getattr(keras.activations, name, None) is function
            self.nonlinearity = name if known else function
        self.nonlinearity_gain("second_moment")

    def nonlinearity_gain(self, mode: str) -> float:
        """Return `keras_winit.gain` of the nonlinearity, or 1 if there is none."""
        return 1.0 if self.nonlinearity is None else _gain(self.nonlinearity, mode)


# The results are cached: the gain of a function of tensors takes a tenth of a second.
@functools.lru_cache(maxsize=64)
def _gain(nonlinearity: Any, mode: str) -> float:
    # Imported here because few networks need a gain, and importing keras_winit must be fast.
    from keras_winit.theory.gains import gain

    return gain(nonlinearity, mode)
