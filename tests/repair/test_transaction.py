"""Tests of `restored_on_error`, and of the table of changes."""

import re

import keras
import numpy as np
import pytest
from support.laws import numpy

from keras_winit.repair.changes import Change, Changes, stddev
from keras_winit.repair.transaction import restored_on_error

L = keras.layers


@pytest.fixture
def model():
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(4), L.BatchNormalization(), L.Dropout(0.5), L.Dense(2)]
    )
    model.layers[0].kernel.assign(np.array([[np.nan, np.inf, -0.0, 1e-40]] * 3, np.float32))
    return model


def set_to_ones(model, error):
    """Set the variables of the first three layers to ones, then raise an error."""
    with restored_on_error("lsuv", model.variables) as progress:
        for number, layer in enumerate(model.layers[:3], 1):
            progress.reach(layer.name, number, len(model.layers))
            for variable in layer.variables:
                variable.assign(np.ones(variable.shape))
        raise error


@pytest.mark.parametrize("error", [ValueError("bad layer"), KeyboardInterrupt()])
def test_an_error_restores_every_variable_to_the_bit(model, error):
    before = [numpy(variable).tobytes() for variable in model.variables]
    with pytest.raises(type(error)) as caught:
        set_to_ones(model, error)
    assert [numpy(variable).tobytes() for variable in model.variables] == before
    assert caught.value.__notes__ == [
        f"`lsuv` stopped at layer '{model.layers[2].name}' (3 of 4). The model is as it was before "
        f"the call."
    ]


def test_an_error_before_the_first_layer_says_so(model):
    with pytest.raises(ZeroDivisionError) as caught, restored_on_error("lsuv", model.variables):
        raise ZeroDivisionError
    assert caught.value.__notes__ == [
        "`lsuv` stopped before it reached the first layer. The model is as it was before the call."
    ]


def test_without_an_error_the_changes_stay(model):
    with restored_on_error("lsuv", model.variables):
        model.layers[-1].kernel.assign(np.ones((4, 2)))
    np.testing.assert_array_equal(numpy(model.layers[-1].kernel), np.ones((4, 2)))


CHANGES = Changes(
    "reinitialize",
    [
        Change("dense", "kernel", "he_normal", "before relu", 0.05, 0.123456),
        Change("block/<old>", "kernel", "", "frozen", 0.25, 0.25),
    ],
    ["Traced on symbolic tensors."],
)


@pytest.mark.backend_independent
def test_the_table_aligns_its_columns():
    assert str(CHANGES).splitlines() == [
        "reinitialize: 1 of 2 weights set",
        "layer        weight  change     stddev before   after  reason",
        "dense        kernel  he_normal           0.05  0.1235  before relu",
        "block/<old>  kernel  left                0.25          frozen",
        "Traced on symbolic tensors.",
    ]
    assert [row.was_set for row in CHANGES.rows] == [True, False]
    assert repr(CHANGES) == "<Changes: reinitialize: 1 of 2 weights set>"


@pytest.mark.backend_independent
def test_the_table_of_a_notebook_escapes_names():
    table = CHANGES._repr_html_()
    assert table.count("<tr>") == 3
    assert "block/&lt;old&gt;" in table
    assert not re.search("<old>", table)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_stddev_of_a_variable(dtype):
    assert stddev(keras.Variable([[1.0, 3.0]], dtype=dtype)) == 1.0


def test_variables_without_a_stddev():
    assert stddev(keras.Variable(np.zeros((0, 3)))) is None
    assert stddev(keras.Variable([True, False], dtype="bool", trainable=False)) is None
