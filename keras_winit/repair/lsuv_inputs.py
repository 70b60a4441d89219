"""The inputs of `lsuv`: the first batch, or samples of arrays at even distances."""

from typing import Any

import keras
import numpy as np

from keras_winit.models.batches import as_arrays, first_batch


def lsuv_inputs(data: Any, samples: int) -> Any:
    """Return one batch of a model's inputs.

    Args:
        data: An array or, for several inputs, a list or dictionary of arrays; or batches, see
            `first_batch`.
        samples: Number of samples that are taken from arrays, evenly spaced, because arrays
            are often sorted by class. Batches keep their size; the first one is taken.

    Raises:
        TypeError: If the data are neither arrays nor batches.
        ValueError: If there is no sample, or no batch.
    """
    batch = first_batch(data)
    if batch is not None:
        return batch[0]
    if not (hasattr(data, "shape") or hasattr(data, "__iter__")):
        raise TypeError(f"`data` must be arrays or batches of arrays. Received: data={data!r}.")
    arrays = as_arrays(data)
    count = min((len(leaf) for leaf in keras.tree.flatten(arrays)), default=0)
    if count == 0:
        raise ValueError("`data` must hold samples. Received: no sample.")
    rows = np.arange(count)
    if count > samples:
        rows = np.linspace(0, count - 1, samples).round().astype(int)
    return keras.tree.map_structure(lambda leaf: _rows(leaf, rows), arrays)


def _rows(values: Any, rows: Any) -> Any:
    if hasattr(values, "iloc"):  # This is a Pandas object.
        return values.iloc[rows].to_numpy()
    if isinstance(values, np.ndarray):
        return values[rows]
    return keras.ops.take(values, rows, axis=0)
