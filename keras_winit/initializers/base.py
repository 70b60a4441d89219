"""The base classes of all schemes: registered names, seeds, configs and argument checks."""

import contextlib
import copy
import dataclasses
import operator
import random
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import keras

from keras_winit.initializers.arguments import CheckedArguments, as_index
from keras_winit.initializers.placement import (
    Array,
    DrawPart,
    Part,
    Shape,
    native_dtype,
    next_state,
    to_tensor,
)
from keras_winit.initializers.streams import Stream
from keras_winit.theory.fans import Use

PACKAGE = "winit"
DTYPES = ("bfloat16", "float16", "float32", "float64")

# The `source` of schemes in several families.
NOTES = "CS231n notes, Neural Networks Part 2, weight initialization"

SchemeClass = TypeVar("SchemeClass", bound="type[Scheme]")

# Every scheme by its name. The README's table, `keras-winit list` and the tests are made from
# this registry. The names are part of the file format of saved models.
REGISTRY: dict[str, "type[Scheme]"] = {}


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def scheme(cls: SchemeClass) -> SchemeClass:
    """Make a class a scheme and register it with Keras.

    Its annotated attributes become its arguments and its config. Its registered name is
    `winit>` and the name of the class in snake case. Its `source` is added to its docstring.
    """
    made = dataclass(eq=False, repr=False)(cls)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", made.__name__).lower()
    made.identifier = f"{PACKAGE}>{name}"
    made.__doc__ = f"{(made.__doc__ or '').rstrip()}\n\n    Source: {made.source}.\n    "
    REGISTRY[name] = made
    return keras.saving.register_keras_serializable(PACKAGE, name)(made)  # type: ignore[no-any-return]


@dataclass(eq=False, repr=False)
class Scheme(CheckedArguments, keras.initializers.Initializer):
    """A rule for the initial values of a weight.

    A subclass states its arguments as annotated attributes, checks them in `__post_init__`,
    and implements `plan`.
    """

    identifier: ClassVar[str]
    # Texts for `keras-winit list` and the README.
    formula: ClassVar[str]
    use: ClassVar[str]
    source: ClassVar[str]

    # Dtypes of the weights that the scheme makes.
    dtypes: ClassVar[tuple[str, ...]] = DTYPES

    # Number of the block of a weight that this instance draws; 0 for a whole weight.
    _block = 0

    def __call__(self, shape: Sequence[int], dtype: Any = None, layout: Any = None) -> Any:
        """Return the initial values of a weight, as a tensor of the current Keras backend.

        Args:
            shape: Shape of the weight. Sizes may be zero.
            dtype: "bfloat16", "float16", "float32" or "float64". Defaults to
                `keras.config.floatx()`.
            layout: On JAX, the distribution of the weight over devices. Keras passes it.

        Raises:
            ValueError: If the scheme has no rule for the shape, or the dtype is not one
                of the four.
        """
        checked_shape = self._checked_shape(shape)
        checked_dtype = self._checked_dtype(dtype)
        try:
            draw = self.plan(checked_shape, checked_dtype)
        except OverflowError:
            raise self._range_error(checked_dtype) from None

        def finite_part(part: Part) -> Array:
            try:
                return draw(part)
            except OverflowError:
                raise self._range_error(checked_dtype) from None

        return to_tensor(finite_part, checked_shape, checked_dtype, layout)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        """Return a function that makes any part of a weight.

        The function takes a part, one slice for each axis, and returns its values in memory
        from `placement.empty` or `placement.zeros`. A `SeedGenerator` advances here, not when
        the function is called.
        """
        raise NotImplementedError

    def __post_init__(self) -> None:
        """Check the arguments."""

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        """Return this scheme for a weight that a layer uses in a certain way.

        Args:
            use: How the layer uses the weight or, if the weight is a bias, its kernel.
            shape: Shape of the kernel, if it is known.

        Returns:
            A new scheme, or this one if the use makes no difference.
        """
        return self

    def for_block(self, number: int) -> Self:
        """Return this scheme for one block of a weight; each block draws other values.

        Args:
            number: Number of the block, from 0.
        """
        twin = copy.copy(self)
        twin._block = (self._block << 16) + number + 1
        return twin

    def reseeded(self, seed: Any) -> Self:
        """Return this scheme with another seed, or this one if it draws nothing."""
        return self

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as JSON values, from which `from_config` makes an equal scheme."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self._arguments().items()}

    def __repr__(self) -> str:
        """Show the arguments that differ from their defaults, keyword-only ones last."""
        fields = sorted(dataclasses.fields(self), key=lambda f: bool(f.kw_only))
        values = self._arguments()
        shown = (f"{f.name}={values[f.name]!r}" for f in fields if values[f.name] != f.default)
        return f"{type(self).__name__}({', '.join(shown)})"

    def _range_error(self, dtype: str) -> ValueError:
        return ValueError(
            f"`{type(self).__name__}` must have weights that are finite in {dtype}. Received: "
            f"{self!r}. Give it a smaller scale, or the layer a dtype with a larger range."
        )

    def _arguments(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def _checked_shape(self, shape: Sequence[int]) -> Shape:
        try:
            sizes = tuple(operator.index(size) for size in shape)
        except TypeError:
            sizes = (-1,)
        if any(size < 0 for size in sizes):
            raise ValueError(
                f"`{type(self).__name__}` needs a shape of integers >= 0. "
                f"Received: shape={shape!r}."
            )
        return sizes

    def _checked_dtype(self, dtype: Any) -> str:
        try:
            name = str(keras.backend.standardize_dtype(dtype))
        except (ValueError, TypeError):
            name = "unknown"
        if name not in self.dtypes:
            *others, last = self.dtypes
            raise ValueError(
                f"`{type(self).__name__}` makes weights of dtype {', '.join(others)} or {last}. "
                f"Received: dtype={dtype!r}. Use one of these dtypes, and cast or quantize the "
                f"weights afterwards."
            )
        return native_dtype(name)


@dataclass(eq=False, repr=False)
class RandomScheme(Scheme):
    """A scheme that draws random values.

    Args:
        seed: An integer, a `keras.random.SeedGenerator` or None.

            - An integer gives the same values at every call and in every instance. Two layers
              of one shape start equal, as do the query, key and value kernels of one attention
              layer. It may have any size; it counts modulo 2**64.
            - None, the default, gives each instance a seed of its own, which
              `keras.utils.set_random_seed` determines. One instance gives the same values at
              every call.
            - A `SeedGenerator` gives new values at every call, and its state advances by one.
              In a `tf.function` or under `jax.jit` a call happens once, during tracing.
              Attention layers copy the generator for each of their kernels, which then start
              equal.

    Raises:
        TypeError: At construction, if an argument has the wrong type.
    """

    seed: int | keras.random.SeedGenerator | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.seed, dict):
            # A config that is none of a `SeedGenerator` is refused below.
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                self.seed = keras.saving.deserialize_keras_object(self.seed)
        self._seeded = self.seed is not None
        if self.seed is None:
            # Keras' own initializers take the same number from Python's generator. Replacing
            # one of them by a scheme therefore leaves the seeds of all other layers unchanged.
            self.seed = random.randint(1, int(1e9))
        elif not isinstance(self.seed, keras.random.SeedGenerator):
            number = as_index(self.seed)
            requirement = "an integer, a `keras.random.SeedGenerator` or None"
            self._require("seed", requirement, number is not None, TypeError)
            self.seed = number % 2**64

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "seed": keras.saving.serialize_keras_object(config["seed"])}

    def reseeded(self, seed: Any) -> Self:
        twin: Self = self.from_config({**self.get_config(), "seed": seed})
        return twin

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "seed": self.seed if self._seeded else None}

    def stream(self) -> Stream:
        """Return the random numbers of one call; a `SeedGenerator` advances."""
        if isinstance(self.seed, keras.random.SeedGenerator):
            seed, count = next_state(self.seed)
            return Stream(seed, 1 + count, self._block)
        assert isinstance(self.seed, int)
        return Stream(self.seed, block=self._block)

    def __copy__(self) -> Self:
        # A shallow copy shares the `SeedGenerator`, as in Keras; `__getstate__` would not.
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.seed, keras.random.SeedGenerator):
            state["seed"] = _PORTABLE.setdefault(self.seed, _PortableGenerator(self.seed))
        return state


class _PortableGenerator:
    """Stands in for a `SeedGenerator`, which itself supports neither pickles nor deep copies.

    There is one for each generator, so that the copies of schemes that share a generator share
    one as well.
    """

    def __init__(self, generator: keras.random.SeedGenerator) -> None:
        self.generator = weakref.ref(generator)

    def __reduce__(self) -> Any:
        generator: Any = self.generator()
        state = keras.ops.convert_to_numpy(generator.state)
        return _restored, (keras.saving.serialize_keras_object(generator), state)


_PORTABLE: Any = weakref.WeakKeyDictionary()


def _restored(config: dict[str, Any], state: Any) -> keras.random.SeedGenerator:
    generator = keras.saving.deserialize_keras_object(config)
    generator.state.assign(state)
    return generator
