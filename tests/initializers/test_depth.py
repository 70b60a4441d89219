"""Schemes for deep networks, compared with the formulas of their papers, written out here."""

import math

import keras
import numpy as np
import pytest
from support.laws import deviations, normal, numpy

import keras_winit

SHAPE = (256, 384)
XAVIER = math.sqrt(2 / (256 + 384))
# Arguments, and the standard deviation of the weights according to the paper.
PAPER = [
    ({}, 0.02 / math.sqrt(24)),
    ({"depth": 48, "rule": "gpt2"}, 0.02 / math.sqrt(96)),
    ({"depth": 18, "rule": "deepnorm"}, 144**-0.25 * XAVIER),
    ({"depth": 18, "rule": "deepnorm", "stack": "encoder"}, 0.87 * 18 ** (-5 / 16) * XAVIER),
    (
        {"depth": 18, "rule": "deepnorm", "stack": "encoder", "decoder_depth": 6},
        0.87 * (18**4 * 6) ** (-1 / 16) * XAVIER,
    ),
    ({"depth": 6, "rule": "deepnorm", "stack": "decoder"}, 72**-0.25 * XAVIER),
    ({"depth": 16, "rule": "fixup"}, 0.25 * math.sqrt(2 / 384)),
    ({"depth": 16, "rule": "fixup", "layers": 3}, 0.5 * math.sqrt(2 / 384)),
    ({"depth": 16, "rule": "t_fixup"}, 0.67 / 2 * XAVIER),
    ({"depth": 16, "rule": "t_fixup", "stack": "decoder"}, 144**-0.25 * XAVIER),
    ({"depth": 12, "rule": "sub_ln"}, math.sqrt(math.log(24)) * XAVIER),
    ({"depth": 12, "rule": "sub_ln", "stack": "decoder"}, math.sqrt(math.log(36)) * XAVIER),
    (
        {"depth": 12, "rule": "sub_ln", "stack": "encoder", "decoder_depth": 6},
        math.sqrt(math.log(18) * math.log(24) / 3) * XAVIER,
    ),
    ({"depth": 24, "rule": "wang"}, 2 / (24 * math.sqrt(256))),
    ({"inner": keras_winit.LecunNormal(seed=0), "depth": 8}, 1 / 64),
]


@pytest.mark.parametrize(("arguments", "stddev"), PAPER, ids=str)
def test_rules_give_the_stddev_of_the_paper(arguments, stddev):
    keras.utils.set_random_seed(0)
    weights = numpy(keras_winit.DepthScaled(**arguments)(SHAPE))
    assert deviations(weights, normal(stddev)) == []


def test_wang_uses_the_width_of_the_model():
    # The kernel of a feed-forward block's second layer has four inputs for each output.
    keras.utils.set_random_seed(0)
    weights = numpy(keras_winit.DepthScaled(depth=24, rule="wang")((1024, 256)))
    assert deviations(weights, normal(2 / (24 * math.sqrt(256)))) == []


def test_a_depth_that_is_off_by_one_fails():
    keras.utils.set_random_seed(0)
    weights = numpy(keras_winit.DepthScaled(depth=7)(SHAPE))
    assert deviations(weights, normal(0.02 / math.sqrt(2 * 8)))


def test_attention_passes_its_axes_to_inner():
    keras.utils.set_random_seed(0)
    scheme = keras_winit.DepthScaled("winit>lecun_normal", depth=8)
    layer = keras.layers.MultiHeadAttention(8, 32, kernel_initializer=scheme)
    layer.build((2, 5, 384), (2, 5, 384))
    kernels = [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense]
    for dense, fan_in in zip(kernels, (384, 384, 384, 256), strict=True):
        assert deviations(numpy(dense.kernel), normal(0.25 / math.sqrt(fan_in))) == []
    assert len({numpy(dense.kernel).tobytes() for dense in kernels[:3]}) == 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_small_init_and_embeddings(seed):
    wide, narrow = (
        numpy(keras_winit.SmallInit(seed=seed)(shape)) for shape in ((256, 1024), (1024, 256))
    )
    for weights in (wide, narrow):
        assert deviations(weights, normal(math.sqrt(2 / (256 + 1024)))) == []
    given = numpy(keras_winit.SmallInit(dim=100, seed=seed)(SHAPE))
    assert deviations(given, normal(math.sqrt(2 / 500))) == []
    table = numpy(keras_winit.EmbeddingNormal(seed=seed)((1000, 96)))
    assert deviations(table, normal(1 / math.sqrt(96))) == []
    assert abs((table**2).sum(axis=1).mean() - 1) < 5 * math.sqrt(2 / table.size)


def test_float16_weights_are_rounded_once():
    scheme = keras_winit.DepthScaled(keras_winit.HeNormal(seed=3), depth=5)
    exact, rounded = numpy(scheme(SHAPE)), numpy(scheme(SHAPE, "float16"))
    np.testing.assert_array_equal(rounded, exact.astype(np.float16))
