"""Handwritten digits, and a deep classifier for them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_winit.experiments.initializers import seeded_initializers
from keras_winit.models.seeds import derived_seeds


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, split into training and test data.

    Args:
        train_images: Images as rows of 64 values. Over all of them, the mean is 0 and the
            standard deviation is 1.
        train_labels: Digits of the training images.
        test_images: Images on the same scale.
        test_labels: Digits of the test images.
    """

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def digits(seed: int = 0) -> Digits:
    """Load the 1,797 handwritten digits of scikit-learn, a quarter of them as test data.

    Args:
        seed: Seed of the shuffle before the split. Defaults to 0.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "`digits` needs scikit-learn. Install it with `pip install scikit-learn`."
        ) from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype(np.float32), labels[order].astype(np.int64)
    split = len(images) * 3 // 4
    mean, stddev = images[:split].mean(), images[:split].std()
    images = (images - mean) / stddev
    return Digits(images[:split], labels[:split], images[split:], labels[split:])


def digits_classifier(initializer: Any, seed: int = 0, depth: int = 8) -> Any:
    """Build and compile a ReLU network for the digits.

    Args:
        initializer: Initializer of all kernels, as in `propagate`.
        seed: Seed of the kernels. Defaults to 0.
        depth: Number of hidden layers, of 64 units each. Defaults to 8.
    """
    *hidden, last = seeded_initializers(initializer, derived_seeds(seed, depth + 1))
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
    """Train models side by side; after each epoch yield the test accuracy of each.

    Args:
        models: Compiled models, as `digits_classifier` builds them.
        data: The digits.
        epochs: Number of epochs. Defaults to 10.
        callbacks: One callback for each model, or none at all.
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
