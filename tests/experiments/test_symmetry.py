"""Symmetry: equal units stay equal under training, random ones stay different."""

import pytest

from keras_winit import symmetry


@pytest.mark.parametrize("name", ["zeros", "ones", "constant"])
def test_equal_units_stay_equal(name):
    result = symmetry(f"winit>{name}")
    assert result.before == result.after == (1, 1)


def test_overflowed_units_are_counted():
    result = symmetry("winit>large_normal", "relu", units=64, steps=5)
    assert result.before == (64, 64)
    assert all(1 <= count <= 64 for count in result.after)


def test_random_units_stay_different():
    result = symmetry("winit>lecun_normal")
    assert result.before == result.after == (16, 16)
    assert result.loss_after < 0.5 * result.loss_before
    assert "\n    2      16                       16               16" in str(result)
