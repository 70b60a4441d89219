"""Takes one batch out of data of any kind that Keras trains on."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np


def first_batch(data: Any) -> tuple[Any, Any] | None:
    """Return the inputs and the targets of the first batch, or None if the data are no batches.

    Args:
        data: Batches: a `PyDataset`, a `tf.data.Dataset`, a `DataLoader` or another iterable of
            inputs or of tuples of inputs, targets and sample weights. Arrays are no batches.

    Raises:
        ValueError: If there is no batch.
    """
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif isinstance(data, Sequence | Mapping) or hasattr(data, "shape"):
        return None
    elif hasattr(data, "__iter__"):
        batch = next(iter(data), None)
    else:
        return None
    if batch is None:
        raise ValueError("`data` must hold a batch. Received: no batch.")
    # A list may be several inputs, but PyTorch joins the samples of a tuple to a list.
    is_from_torch = type(data).__module__.startswith("torch.")
    if isinstance(batch, tuple) or is_from_torch or isinstance(data, keras.utils.PyDataset):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    else:
        x, y = batch, None
    return keras.tree.map_structure(_native, x), keras.tree.map_structure(_native, y)


def as_arrays(data: Any) -> Any:
    """Return data that are no batches as one array, or as a structure of arrays."""
    leaves = keras.tree.flatten(data)
    # A list of numbers, or of lists of numbers, is one array; a list of arrays is several.
    is_nested_list = bool(leaves) and not any(hasattr(leaf, "shape") for leaf in leaves)
    if is_nested_list and not isinstance(data, dict):
        return np.asarray(data)
    return keras.tree.map_structure(_as_array, data)


def _as_array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "shape") else np.asarray(leaf)


def _native(tensor: Any) -> Any:
    """Return the values of another backend's tensor; return anything else as it is."""
    is_foreign = hasattr(tensor, "numpy") and not keras.ops.is_tensor(tensor)
    return tensor.numpy() if is_foreign else tensor
