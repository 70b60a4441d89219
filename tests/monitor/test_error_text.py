"""Errors as one line of text."""

import keras
import pytest

from keras_winit.monitor.error_text import one_line


class Fails(keras.layers.Layer):
    def call(self, x):
        raise ValueError("the cause\nwith more lines")


def test_an_error_in_a_layer_keeps_its_cause():
    with pytest.raises(ValueError, match="the cause") as caught:
        Fails()(keras.ops.ones((2, 3)))
    text = one_line(caught.value)
    assert text.startswith("ValueError: Exception encountered when calling Fails.call().")
    assert text.endswith(" the cause")


CASES = [
    (KeyError("a"), "KeyError: 'a'"),
    (ValueError("b\nc"), "ValueError: b"),
    (OSError(), "OSError:"),
]


@pytest.mark.backend_independent
@pytest.mark.parametrize(("error", "text"), CASES)
def test_other_errors_are_their_type_and_first_line(error, text):
    assert one_line(error) == text
