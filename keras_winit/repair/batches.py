"""Takes one batch of inputs from data of any kind that Keras trains on."""

from typing import Any

import keras
import numpy as np


def first_batch(data: Any, samples: int) -> Any:
    """Return one batch of a model's inputs.

    Args:
        data: An array or, for several inputs, a list or dictionary of arrays; or batches: a
            `PyDataset`, a `tf.data.Dataset`, a `DataLoader` or another iterable of inputs or of
            tuples of inputs, targets and sample weights.
        samples: Number of samples that are taken from arrays, evenly spaced, because arrays
            are often sorted by class. Batches keep their size; the first one is taken.

    Raises:
        ValueError: If there is no sample, or no batch.
    """
    if isinstance(data, keras.utils.PyDataset):
        return _inputs(data[0])
    if isinstance(data, list | tuple | dict) or hasattr(data, "shape"):
        return _spaced_samples(data, samples)
    if not hasattr(data, "__iter__"):
        raise TypeError(f"`data` must be arrays or batches of arrays. Received: data={data!r}.")
    batch = next(iter(data), None)
    if batch is None:
        raise ValueError("`data` must hold a batch. Received: no batch.")
    # PyTorch joins the samples of a tuple to a list.
    is_from_torch = type(data).__module__.startswith("torch.")
    return _inputs(tuple(batch) if is_from_torch and isinstance(batch, list) else batch)


def _inputs(batch: Any) -> Any:
    # A list may be several inputs; only a tuple holds targets.
    if isinstance(batch, tuple):
        batch = keras.utils.unpack_x_y_sample_weight(batch)[0]
    return keras.tree.map_structure(_native, batch)


def _native(tensor: Any) -> Any:
    """Return the values of another backend's tensor; return anything else as it is."""
    is_foreign = hasattr(tensor, "numpy") and not keras.ops.is_tensor(tensor)
    return tensor.numpy() if is_foreign else tensor


def _spaced_samples(data: Any, samples: int) -> Any:
    leaves = keras.tree.flatten(data)
    if all(np.ndim(leaf) == 0 and not hasattr(leaf, "shape") for leaf in leaves):
        data = np.asarray(data)  # These are nested lists of numbers.
        leaves = [data]
    count = min((len(leaf) for leaf in leaves), default=0)
    if count == 0:
        raise ValueError("`data` must hold samples. Received: no sample.")
    rows = np.arange(count)
    if count > samples:
        rows = np.linspace(0, count - 1, samples).round().astype(int)
    return keras.tree.map_structure(lambda leaf: _rows(leaf, rows), data)


def _rows(values: Any, rows: Any) -> Any:
    if hasattr(values, "iloc"):  # This is a Pandas object.
        return values.iloc[rows].to_numpy()
    if isinstance(values, np.ndarray):
        return values[rows]
    return keras.ops.take(values, rows, axis=0)
