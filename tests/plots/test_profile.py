"""Profiles show the first step beside the healthy ranges."""

import re

import numpy as np
import pytest
from support.pictures import INF, NAN, record

from keras_winit import plots
from keras_winit.monitor import RULES
from keras_winit.plots.healthy_ranges import RANGES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_healthy_ranges_are_those_of_the_rules(rule):
    if rule.id in RANGES:
        low, high = re.match(r"(\S+) \.\. ([\d.e-]+)", rule.healthy).groups()
        assert (float(low), float(high)) == RANGES[rule.id]


def test_every_healthy_range_has_a_rule():
    assert RANGES.keys() <= {rule.id for rule in RULES}


def healthy_bands(axes):
    to_data = axes.transData.inverted()
    return [
        tuple(np.round(patch.get_extents().transformed(to_data).intervalx, 6))
        for patch in axes.patches
    ]


def test_values_stand_beside_the_healthy_range():
    statistics = {"gradient_norm": [4, 2, 0.02], "dead_share": [0.1, 0.385, 0.4]}
    first = record(0, [0.5, 1.4, 0.02], **statistics)
    picture = plots.profile([first, record(1, [9, 9, 9])])
    signal, gradient, dead = picture.axes
    assert healthy_bands(signal) == [(0.032, 1.3)]
    assert healthy_bands(gradient) == [(0.008, 1)]
    assert healthy_bands(dead) == [(0, 0.385)]
    np.testing.assert_allclose(signal.lines[0].get_xdata(), [0.5, 1.4, 0.02])
    np.testing.assert_allclose(gradient.lines[0].get_xdata(), [1, 0.5, 0.005])
    crosses = [axes.lines[-1].get_ydata().tolist() for axes in (signal, gradient, dead)]
    assert crosses == [[1, 2], [2], [2]]


@pytest.mark.parametrize(
    ("signal", "title"),
    [
        ([0.5, 1.4, 0.02], "3 layers at step 0: 2 values outside the healthy range"),
        ([0.5, 0.5, 0.02], "3 layers at step 0: 1 value outside the healthy range"),
        ([1, 0.5], "2 layers at step 0: all values in the healthy range"),
        ([1], "1 layer at step 0: all values in the healthy range"),
    ],
    ids=str,
)
def test_the_title_counts_values_outside(signal, title):
    assert plots.profile([record(0, signal)]).get_suptitle() == title


def test_zero_and_nonfinite_values_stand_at_the_edges():
    extreme = record(0, [1, 0, NAN], nonfinite=[0, 0, 8], gradient_norm=[1, INF, NAN])
    signal, gradient, _ = plots.profile([extreme]).axes
    assert signal.lines[-1].get_ydata().tolist() == [1, 2]
    low, high = signal.get_xlim()
    assert signal.lines[-1].get_xdata().tolist() == [low, high]
    assert gradient.lines[-1].get_ydata().tolist() == [1]


def test_healthy_layers_have_no_crosses():
    picture = plots.profile([record(0, [1, 0.5])])
    assert [len(axes.lines) for axes in picture.axes] == [2, 2, 2]
