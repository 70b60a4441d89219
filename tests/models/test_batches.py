"""The first batch of data: what counts as batches, and what is inputs or targets in them."""

import keras
import numpy as np
import pytest

from keras_winit.models.batches import as_arrays, first_batch

X, Y = np.ones((2, 3), "float32"), np.zeros((2, 1), "float32")


class OneBatch(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


@pytest.mark.parametrize("batch", [(X, Y), (X, Y, np.ones(2)), [X, Y]])
def test_a_py_dataset_gives_inputs_and_targets_as_fit_reads_them(batch):
    x, y = first_batch(OneBatch(batch))
    assert x is X
    assert y is Y


@pytest.mark.parametrize(
    ("batch", "inputs", "targets"), [(X, X, None), ((X, Y), X, Y), ([X, Y], [X, Y], None)]
)
def test_in_other_iterables_only_a_tuple_holds_targets(batch, inputs, targets):
    x, y = first_batch(iter([batch]))
    pairs = zip(keras.tree.flatten(x), keras.tree.flatten(inputs), strict=True)
    assert all(one is other for one, other in pairs)
    assert y is targets


def test_without_a_batch():
    with pytest.raises(ValueError, match=r"^`data` must hold a batch\. Received: no batch\.$"):
        first_batch(iter([]))


@pytest.mark.parametrize("data", [X, [X, X], {"a": X}, [[1.0, 2.0]], None])
def test_arrays_are_no_batches(data):
    assert first_batch(data) is None


def test_nested_lists_are_one_array_and_lists_of_arrays_are_several():
    np.testing.assert_array_equal(as_arrays([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    assert [array.shape for array in as_arrays([X, X])] == [X.shape] * 2
    assert as_arrays({"a": X})["a"] is X
