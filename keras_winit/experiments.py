"""The experiments of the lecture notes, on real Keras layers."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_winit import statistics
from keras_winit.initializers import Scheme
from keras_winit.initializers.distributions import LargeNormal
from keras_winit.initializers.kernels import reseeded

BINS = 120


@dataclass(frozen=True)
class Layer:
    """What one layer gives out.

    `mean`, `stddev`: of all entries. `unit_stddev`: of one unit over the samples, averaged
    over units. `saturated_share`: of entries where the activation's slope is below 5 % of
    its steepest. `dead_share`: of units that are zero for every sample. `nonfinite`: how many
    entries are NaN or infinite, of which the others tell nothing. `counts`, `edges`: a
    histogram of the entries, n counts between n + 1 edges.
    """

    mean: float
    stddev: float
    unit_stddev: float
    saturated_share: float
    dead_share: float
    nonfinite: int
    counts: tuple[int, ...]
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Propagation:
    """How a signal fares through a stack of layers; prints as a table."""

    initializer: str
    activation: str
    width: int
    samples: int
    batch_normalization: bool
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        """A title and one line a layer."""
        normalized = ", batch normalization" if self.batch_normalization else ""
        lines = [
            f"{self.initializer}: {len(self.layers)} {self.activation} layers of "
            f"{self.width} units{normalized}, {self.samples} samples of N(0, 1)",
            "layer        mean      stddev   unit stddev   saturated     dead",
        ]
        lost = any(layer.nonfinite for layer in self.layers)
        lines[-1] += "   not finite" if lost else ""
        for number, layer in enumerate(self.layers, 1):
            lines.append(
                f"{number:5d}  {layer.mean:10.2g}  {layer.stddev:10.4g}    "
                f"{layer.unit_stddev:10.4g}    {layer.saturated_share:8.1%} {layer.dead_share:8.1%}"
                + (f"{layer.nonfinite:13d}" if lost else "")
            )
        return "\n".join(lines)


def propagate(
    initializer: Any,
    activation: Any = "tanh",
    depth: int = 10,
    width: int = 500,
    samples: int = 1000,
    seed: int = 0,
    batch_normalization: bool = False,
) -> Propagation:
    """Push N(0, 1) inputs through a stack of equal dense layers and look at each output.

    The two rules of a healthy start can be read off: means near zero, and the same
    standard deviation in every layer.

    Args:
        initializer: Of the kernels: a name such as "winit>he_normal", or anything else
            that `kernel_initializer` takes. Each layer draws with a seed of its own,
            derived from `seed`; a seed of the initializer's is not used.
        activation: A name or a function.
        depth: Number of layers, at least 1.
        width: Units of each layer and of the input, at least 1.
        samples: Inputs, at least 1.
        seed: Of inputs and kernels.
        batch_normalization: Whether each layer normalizes its pre-activations over the
            samples.

    Returns:
        A `Propagation`: `layers` holds mean, standard deviation, saturated and dead
        shares and a histogram of each; `print` shows the table.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If a number is too small, Keras does not know the initializer or the
            activation, or the activation does not act on each entry by itself.

    Example:
        >>> result = propagate("winit>lecun_normal", "tanh", depth=3)
        >>> [round(layer.stddev, 2) for layer in result.layers]
        [0.63, 0.49, 0.41]

    Source: CS231n lecture on training neural networks, activation statistics; the 0.01
        and 1 of `winit>small_normal` and `winit>large_normal`, the 1/sqrt(fan_in) of
        `winit>lecun_normal`.
    """
    for name, number in (("depth", depth), ("width", width), ("samples", samples)):
        _require_whole("propagate", name, number, 1)
    _require_whole("propagate", "seed", seed, 0)
    function = _elementwise("propagate", activation)
    _require_initializer("propagate", initializer)
    first, *rest = _seeds(seed, depth + 1)
    signal = LargeNormal(seed=first)((samples, width), "float32")
    layers = []
    for kernel_seed in rest:
        kernel = reseeded(keras.initializers.get(initializer), kernel_seed)
        signal = keras.layers.Dense(width, kernel_initializer=kernel, dtype="float32")(signal)
        if batch_normalization:
            signal = keras.layers.BatchNormalization(dtype="float32")(signal, training=True)
        saturated = statistics.saturated_share(signal, function)
        signal = function(signal)
        layers.append(_layer(signal, saturated))
    return Propagation(
        initializer=_name(initializer),
        activation=getattr(function, "__name__", str(function)),
        width=width,
        samples=samples,
        batch_normalization=batch_normalization,
        layers=tuple(layers),
    )


def _name(initializer: Any) -> str:
    if isinstance(initializer, str):
        return initializer
    return repr(initializer) if isinstance(initializer, Scheme) else str(initializer)


def _require_whole(call: str, name: str, number: Any, least: int) -> None:
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole or number < least:
        raise (ValueError if whole else TypeError)(
            f"`{call}({name}=...)` must be an integer >= {least}. Received: {name}={number!r}."
        )


def _require_initializer(call: str, initializer: Any) -> None:
    # Keras takes None for its default, which would not heed the seed.
    if initializer is None:
        raise ValueError(f"`{call}(initializer=...)` must be an initializer. Received: None.")


def _elementwise(call: str, activation: Any) -> Any:
    """The activation as a function, made sure that it acts on each entry by itself."""
    function = keras.activations.get(activation)
    if not statistics.elementwise(function):
        raise ValueError(
            f"`{call}(activation=...)` must act on each entry by itself. "
            f"Received: activation={activation!r}."
        )
    return function


def _layer(output: Any, saturated: Any) -> Layer:
    output = ops.stop_gradient(output)
    found = statistics.joined([statistics.reduced(*statistics.flatten(output))])
    units = statistics.Units(*(ops.convert_to_numpy(f)[None].astype(np.float64) for f in found))
    summary = {name: float(value[0]) for name, value in statistics.summary(units).items()}
    values = ops.convert_to_numpy(output).astype(np.float64)
    counts, edges = np.histogram(values[np.isfinite(values)], BINS)
    return Layer(
        mean=summary["mean"],
        stddev=summary["stddev"],
        unit_stddev=summary["unit_stddev"],
        saturated_share=float(saturated),
        # Of any activation, not only of one that has no negative outputs.
        dead_share=float(np.mean((units.low == 0) & (units.high == 0))),
        nonfinite=int(summary["nonfinite"]),
        counts=tuple(counts.tolist()),
        edges=tuple(edges.tolist()),
    )


def _seeds(seed: int, count: int) -> list[int]:
    """Seeds that any initializer takes, from one."""
    states = np.random.SeedSequence(seed).generate_state(count)
    return [int(state) >> 1 for state in states]


@dataclass(frozen=True)
class Symmetry:
    """How many different units each hidden layer has, before and after training."""

    initializer: str
    units: int
    steps: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    loss_before: float
    loss_after: float

    def __str__(self) -> str:
        """A title and one line a layer."""
        lines = [
            f"{self.initializer}: {self.steps} steps, loss "
            f"{self.loss_before:.4f} to {self.loss_after:.4f}",
            "layer   units   different at the start   after training",
        ]
        for number, (before, after) in enumerate(zip(self.before, self.after, strict=True), 1):
            lines.append(f"{number:5d}   {self.units:5d}   {before:22d}   {after:14d}")
        return "\n".join(lines)


def symmetry(
    initializer: Any, activation: Any = "tanh", units: int = 16, steps: int = 100, seed: int = 0
) -> Symmetry:
    """Train a small network and count the different units of its two hidden layers.

    With zeros or one constant all units of a layer are equal, get equal gradients and so
    stay equal: the layer is as wide as one unit, for good.

    Args:
        initializer: Of all kernels, as in `propagate`.
        activation: Of the hidden layers: a name or a function.
        units: In each hidden layer, at least 2.
        steps: Of gradient descent, over all samples.
        seed: Of the samples and the kernels.

    Returns:
        A `Symmetry`, which prints as a table.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If a number is too small, or Keras does not know the initializer or the
            activation.

    Example:
        >>> result = symmetry("winit>constant", units=16, steps=20)
        >>> result.before, result.after
        ((1, 1), (1, 1))

    Source: CS231n notes, Neural Networks Part 2, weight initialization.
    """
    if units < 2:
        raise ValueError(
            f"`symmetry(units=...)` must be an integer >= 2. Received: units={units!r}."
        )
    _require_initializer("symmetry", initializer)
    first_seed, *rest = _seeds(seed, 4)
    generator = np.random.default_rng(first_seed)
    x = generator.standard_normal((256, 8)).astype(np.float32)
    y = np.sin(x[:, :1]) * x[:, 1:2] + x[:, 2:3]
    kernels = [reseeded(keras.initializers.get(initializer), state) for state in rest]
    first, second, last = (
        keras.layers.Dense(size, function, kernel_initializer=kernel, dtype="float32")
        for size, function, kernel in zip(
            (units, units, 1), (activation, activation, None), kernels, strict=True
        )
    )
    model = keras.Sequential([keras.Input((8,)), first, second, last])
    model.compile(keras.optimizers.SGD(0.05), "mse")

    def different() -> tuple[int, ...]:
        # Sums in another order differ in the last bits; training spreads that a little.
        return tuple(statistics.distinct_units(layer.kernel, 1e-4) for layer in (first, second))

    before, loss_before = different(), float(model.evaluate(x, y, verbose=0))
    for _ in range(steps):
        model.train_on_batch(x, y)
    after, loss_after = different(), float(model.evaluate(x, y, verbose=0))
    return Symmetry(_name(initializer), units, steps, before, after, loss_before, loss_after)


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: images as rows of 64 values of mean 0 and standard deviation 1."""

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def digits(seed: int = 0) -> Digits:
    """The 1,797 handwritten digits that scikit-learn brings along, a quarter of them for tests.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits need scikit-learn: pip install scikit-learn"
        ) from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype(np.float32), labels[order].astype(np.int64)
    cut = len(images) * 3 // 4
    mean, stddev = images[:cut].mean(), images[:cut].std()
    images = (images - mean) / stddev
    return Digits(images[:cut], labels[:cut], images[cut:], labels[cut:])


def digits_classifier(initializer: Any, seed: int = 0, depth: int = 8) -> Any:
    """A compiled ReLU network for the digits, all kernels from one initializer."""
    *hidden, last = (
        reseeded(keras.initializers.get(initializer), state) for state in _seeds(seed, depth + 1)
    )
    model = keras.Sequential([keras.Input((64,))], name="digits")
    for number, kernel in enumerate(hidden, 1):
        name = f"hidden_{number}"
        model.add(keras.layers.Dense(64, "relu", kernel_initializer=kernel, name=name))
    model.add(keras.layers.Dense(10, kernel_initializer=last, name="scores"))
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train_on_digits(
    models: Sequence[Any], data: Digits, epochs: int = 10, callbacks: Sequence[Any] = ()
) -> Iterator[tuple[float, ...]]:
    """Train models side by side; after each epoch give the share of right answers of each.

    `callbacks` holds a callback for each model, or is empty.
    """
    for _ in range(epochs):
        for model, callback in itertools.zip_longest(models, callbacks):
            model.fit(
                data.train_images,
                data.train_labels,
                batch_size=32,
                verbose=0,
                callbacks=callback and [callback],
            )
        yield tuple(
            float(model.evaluate(data.test_images, data.test_labels, verbose=0)[1])
            for model in models
        )
