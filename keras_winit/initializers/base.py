"""What every scheme shares: names, seeds, configs, and the way into Keras."""

import copy
import dataclasses
import math
import numbers
import operator
import random
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import keras
import numpy as np

from keras_winit.initializers.placement import Array, Part, Shape, native_dtype, place, take_state
from keras_winit.initializers.streams import Stream
from keras_winit.theory.fans import Use

PACKAGE = "winit"
DTYPES = ("bfloat16", "float16", "float32", "float64")

# A source that several families share.
NOTES = "CS231n notes, Neural Networks Part 2, weight initialization"

SchemeClass = TypeVar("SchemeClass", bound="type[Scheme]")

# Every scheme by its name: the one list behind the table of the README, `keras-winit
# list`, `__all__` and the tests. The names are the file format of saved models.
REGISTRY: dict[str, "type[Scheme]"] = {}


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def scheme(cls: SchemeClass) -> SchemeClass:
    """Make a class a scheme: its annotated attributes are its arguments and its config.

    It is registered with Keras as `winit>name`, name being the class's in snake case, and
    its docstring ends in its `source`.
    """
    made = dataclass(eq=False, repr=False)(cls)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", made.__name__).lower()
    made.identifier = f"{PACKAGE}>{name}"
    made.__doc__ = f"{(made.__doc__ or '').rstrip()}\n\n    Source: {made.source}.\n    "
    REGISTRY[name] = made
    return keras.saving.register_keras_serializable(PACKAGE, name)(made)  # type: ignore[no-any-return]


@dataclass(eq=False, repr=False)
class Scheme(keras.initializers.Initializer):
    """A rule for the first values of a weight.

    A subclass states its arguments as annotated attributes, checks them in
    `__post_init__`, and says in `plan` how any part of a kernel is made.
    """

    identifier: ClassVar[str]
    # What `keras-winit list` and the README print.
    formula: ClassVar[str]
    use: ClassVar[str]
    source: ClassVar[str]

    # Which part of a kernel this is for; 0: all of it.
    _block = 0

    def __call__(self, shape: Sequence[int], dtype: Any = None, layout: Any = None) -> Any:
        """The first values of a weight, as a tensor of the current Keras backend.

        Args:
            shape: Of the weight. Sizes may be zero.
            dtype: bfloat16, float16, float32 or float64. None: `keras.config.floatx()`.
            layout: On JAX, how the weight is spread over devices. Keras passes it.

        Raises:
            ValueError: If the scheme has no rule for the shape, or the dtype is not one
                of the four.
        """
        known = self._known_shape(shape)
        kind = self._float_dtype(dtype)
        return place(self.plan(known, kind), known, kind, layout)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        """How to make any part of a weight, in memory from `placement.empty` or `zeros`."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        """Check the arguments."""

    def bound(self, use: Use, shape: Shape | None = None) -> Self:
        """This scheme for a weight that a layer uses in a certain way; itself if all the same.

        Args:
            use: What the layer does with the weight or, if it is a bias, with its kernel.
            shape: Of the kernel, if it is known.
        """
        return self

    def block(self, number: int) -> Self:
        """This scheme for the part `number`, from 0, of a kernel: it draws other values."""
        twin = copy.copy(self)
        twin._block = (self._block << 16) + number + 1
        return twin

    def reseeded(self, seed: Any) -> Self:
        """This scheme with another seed; itself if it draws nothing."""
        return self

    def get_config(self) -> dict[str, Any]:
        """The arguments, ready for JSON: `from_config` gives an equal scheme."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self._arguments().items()}

    def __repr__(self) -> str:
        """The arguments that differ from their defaults, the scheme's own first."""
        fields = sorted(dataclasses.fields(self), key=lambda f: bool(f.kw_only))
        values = self._arguments()
        shown = (f"{f.name}={values[f.name]!r}" for f in fields if values[f.name] != f.default)
        return f"{type(self).__name__}({', '.join(shown)})"

    def _arguments(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def _known_shape(self, shape: Sequence[int]) -> Shape:
        try:
            known = tuple(operator.index(size) for size in shape)
        except TypeError:
            known = (-1,)
        if any(size < 0 for size in known):
            raise ValueError(
                f"`{type(self).__name__}` needs a shape of known sizes. Received: shape={shape!r}."
            )
        return known

    def _float_dtype(self, dtype: Any) -> str:
        try:
            kind = str(keras.backend.standardize_dtype(dtype))
        except ValueError:
            kind = "unknown"
        if kind not in DTYPES:
            raise ValueError(
                f"`{type(self).__name__}` makes weights of dtype {', '.join(DTYPES[:-1])} or "
                f"{DTYPES[-1]}. Received: dtype={dtype!r}. Make them in one of these and "
                f"cast or quantize them afterwards."
            )
        return native_dtype(kind)

    def _require(self, name: str, requirement: str, valid: bool, error: type[Exception]) -> None:
        if not valid:
            raise error(
                f"`{type(self).__name__}({name}=...)` must be {requirement}. "
                f"Received: {name}={getattr(self, name)!r}."
            )

    def _require_real(
        self,
        name: str,
        requirement: str = "a finite number",
        valid: Callable[[float], bool] = lambda value: True,
    ) -> None:
        """Check a real argument, and keep it as a Python float."""
        value = getattr(self, name)
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        self._require(name, requirement, real, TypeError)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        self._require(name, requirement, math.isfinite(number) and valid(number), ValueError)
        setattr(self, name, number)

    def _require_whole(self, name: str, least: int) -> None:
        """Check an integer argument, and keep it as a Python int."""
        value = getattr(self, name)
        requirement = f"an integer >= {least}"
        number = as_index(value)
        self._require(name, requirement, number is not None, TypeError)
        self._require(name, requirement, number >= least, ValueError)
        setattr(self, name, number)

    def _require_choice(self, name: str, choices: Sequence[str]) -> None:
        requirement = "one of " + ", ".join(repr(choice) for choice in choices)
        value = getattr(self, name)
        self._require(name, requirement, isinstance(value, str) and value in choices, ValueError)

    def _initializer(self, name: str, value: Any) -> Any:
        """An initializer in any form that Keras takes, as an instance."""
        requirement = "an initializer: its name, its config, its class or an instance"
        try:
            found = keras.initializers.get(value)
        except ValueError:
            self._require(name, requirement, False, ValueError)
        is_one = isinstance(found, keras.initializers.Initializer)
        self._require(name, requirement, is_one, TypeError)
        return found


def as_index(value: Any) -> Any:
    """An integer of any kind as a Python int; None for anything else, booleans included."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


@dataclass(eq=False, repr=False)
class RandomScheme(Scheme):
    """A scheme that draws.

    Args:
        seed: An int gives the same values at every call, and wherever it is used: two
            layers of one shape, or the query, key and value of an attention layer, start
            equal. Any int of any size counts, modulo 2**64. None, the default: a seed of
            its own for each instance, fixed by `keras.utils.set_random_seed`, and the
            same values at every call of the instance. A `keras.random.SeedGenerator`:
            the next values at every call, its state advancing by one; in a `tf.function`
            or under `jax.jit` a call happens once, when it is traced. Attention layers make
            a copy of it for each of their kernels, which then start equal.

    Raises:
        TypeError: At construction, if an argument has the wrong type.
    """

    seed: int | keras.random.SeedGenerator | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.seed, dict):
            self.seed = keras.saving.deserialize_keras_object(self.seed)
        self._seeded = self.seed is not None
        if self.seed is None:
            # What Keras' own initializers take from Python's generator: exchanging one
            # for ours leaves the seeds of all other layers as they were.
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
        """The random numbers of this call."""
        if isinstance(self.seed, keras.random.SeedGenerator):
            seed, count = take_state(self.seed)
            return Stream(seed, 1 + count, self._block)
        assert isinstance(self.seed, int)
        return Stream(self.seed, block=self._block)

    def __copy__(self) -> Self:
        # A shallow copy shares the generator, as it does in Keras.
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.seed, keras.random.SeedGenerator):
            state["seed"] = _PORTABLE.setdefault(self.seed, _PortableGenerator(self.seed))
        return state


class _PortableGenerator:
    """What a `SeedGenerator` is pickled and deep-copied as, being neither by itself.

    There is one for each generator, so that schemes which share it still do afterwards.
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
