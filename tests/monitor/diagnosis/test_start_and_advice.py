"""Kernels that start as they should, outputs that are off, and remedies that can help."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from support.planted import findings_in, make_facts, make_part, make_record, make_records

import keras_winit
from keras_winit.models.graph import try_trace
from keras_winit.models.layers import KernelInfo, describe_layers
from keras_winit.models.names import Names
from keras_winit.monitor import View
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.rules.remedies import reinitialize_code
from keras_winit.monitor.diagnosis.rules.scheme_advice import scheme_advice
from keras_winit.monitor.diagnosis.rules.wrong_init import NEW_WEIGHTS, WrongInit, _limits_of_chance

ANEW = 'draw its weights anew: `keras_winit.reinitialize(model, layers="a")`'
WRONG_INIT = "wrong_init_for_activation"
RNG = np.random.default_rng(0)


# 0.0005 and 0.9995 quantiles of chi-square over its degrees of freedom, from scipy.stats.
QUANTILES = {1: (3.93e-7, 12.12), 4: (0.0160, 5.00), 8: (0.0889, 3.483), 32: (0.3745, 2.0295)}


@pytest.mark.backend_independent
@pytest.mark.parametrize("entries", QUANTILES)
def test_limits_of_chance_are_those_of_chi_square_and_on_the_safe_side(entries):
    least, most = _limits_of_chance(entries)
    exact_least, exact_most = QUANTILES[entries]
    assert exact_least - 0.02 <= least <= exact_least
    assert exact_most <= most <= 1.05 * exact_most


def share_that_fires(entries, draw, count=20_000):
    """Return the share of the kernels from `draw` for which the rule fires, by its own limits."""
    rule, fired = WrongInit(), 0
    kernel = KernelInfo("b/kernel", entries, "kernel", (1,), (1.0, 2.0))
    facts = ModelFacts(parts={"b": make_part("b", kernels=(kernel,))})
    for norm in np.linalg.norm(draw((count, entries)), axis=1):
        record = make_record(0, variables={"b": {"weight_norm": norm}})
        fired += any(True for _ in rule.check(View([record], facts)))
    return fired / count


@pytest.mark.backend_independent
@pytest.mark.parametrize("entries", [1, 2, 4, 12])
def test_a_fitting_scheme_fires_in_fewer_than_1_of_1000_kernels(entries):
    def uniform(size):
        return RNG.uniform(-(3**0.5), 3**0.5, size)

    count, most = 4_000, 1e-3
    for draw in (RNG.standard_normal, uniform):
        # 5 standard errors above the stated probability.
        bound = most + 5 * (most / count) ** 0.5
        assert share_that_fires(entries, draw, count) <= bound
    # The same rule sees a kernel that is 100 times too large.
    assert share_that_fires(entries, lambda size: 100 * RNG.standard_normal(size), 200) > 0.9


@pytest.mark.parametrize("init", ["glorot_uniform", "winit>xavier_uniform"])
def test_a_kernel_of_a_single_weight_gets_no_verdict(init):
    for seed in range(30):
        keras.utils.set_random_seed(seed)
        dense = layers.Dense(1, kernel_initializer=init)
        dense.build((None, 1))
        kernel = abs(float(np.array(keras.ops.convert_to_numpy(dense.kernel))[0, 0]))
        info = KernelInfo("b/kernel", 1, "kernel", (1,), (1.0, 1.0))
        facts = make_facts({"b": {"kernels": (info,)}})
        record = make_record(0, variables={"b": {"weight_norm": kernel}})
        assert list(WrongInit().check(View([record], facts))) == []


@pytest.mark.backend_independent
def test_small_kernels_of_transformers_are_an_info():
    # The kernel has 64 * 64 entries of stddev 0.02, but the signal needs at least 0.125.
    small = {"b": {"weight_norm": 64 * 0.02}}
    record = make_record(0, variables=small)
    (finding,) = findings_in([record])
    assert (finding.rule, finding.severity) == (WRONG_INIT, "warning")
    (finding,) = findings_in([record], make_facts({"a": {"makes_scores": True}}))
    assert (finding.rule, finding.severity) == (WRONG_INIT, "info")
    tiny = make_record(0, variables={"b": {"weight_norm": 64 * 1e-3}})
    (finding,) = findings_in([tiny], make_facts({"a": {"makes_scores": True}}))
    assert finding.severity == "warning"


@pytest.mark.backend_independent
def test_a_signal_may_vanish_in_a_branch_of_small_kernels():
    weak = {"layers": {"b": {"unit_stddev": 0.001}, "a": {"unit_stddev": 0.5}}}
    in_branch = {"a": {"branch": 0}, "b": {"branch": 0}}
    small = make_records(2, variables={"b": {"weight_norm": 64 * 0.02}}, **weak)
    assert findings_in(small, make_facts(in_branch)) == ()
    (finding,) = findings_in(make_records(2, **weak), make_facts(in_branch))
    assert finding.rule == "vanishing_forward"


def attention_block(seed, stddev=0.02, width=32):
    """A pre-normalized transformer of two blocks whose kernels start from N(0, stddev**2)."""
    keras.utils.set_random_seed(seed)

    def init():
        return keras.initializers.RandomNormal(stddev=stddev)

    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(100, width, embeddings_initializer=init())(tokens)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x += layers.MultiHeadAttention(2, width // 2, kernel_initializer=init())(y, y)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(2 * width, "gelu", kernel_initializer=init())(y)
        x += layers.Dense(width, kernel_initializer=init())(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    x = layers.Dense(width, "tanh", kernel_initializer=init(), name="pooled")(x)
    model = keras.Model(tokens, layers.Dense(3, kernel_initializer=init())(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    return model


def test_a_transformer_as_it_comes_has_no_warning():
    x, y = RNG.integers(0, 100, (16, 12)), RNG.integers(0, 3, 16)
    findings = keras_winit.monitor.check(attention_block(0), x, y)
    assert {(finding.rule, finding.severity) for finding in findings} <= {(WRONG_INIT, "info")}


def test_attention_behind_an_embedding_as_it_comes_has_no_finding():
    keras.utils.set_random_seed(0)
    tokens = keras.Input((64,), dtype="int32")
    x = layers.Embedding(2000, 32)(tokens)
    x = layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 32)(x, x))
    model = keras.Model(tokens, layers.Dense(2)(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = RNG.integers(0, 2000, (32, 64)), RNG.integers(0, 2, 32)
    assert keras_winit.monitor.check(model, x, y) == ()


def test_a_rectifier_that_is_off_at_the_output():
    keras.utils.set_random_seed(0)
    positive = keras.initializers.RandomUniform(0, 1)
    last = layers.Dense(1, "relu", kernel_initializer=positive, name="last")
    model = keras.Sequential([keras.Input((4,)), last])
    model.compile("adam", "mse")
    x = -RNG.uniform(0.1, 1, (32, 4)).astype("float32")
    finding = keras_winit.monitor.check(model, x, x.sum(1) ** 2)[0]
    assert (finding.rule, finding.layer, finding.severity) == ("dead_output", "last", "error")
    assert finding.cause.startswith("the output of layer 'last' is zero for all samples: ")
    assert '`model.get_layer("last").activation = keras.activations.softplus`' in finding.remedy
    assert "vanishing_backward" in [other.rule for other in finding.consequences]


@pytest.mark.backend_independent
def test_zeros_at_the_output_are_right_once_the_loss_is_zero():
    off = {"head": {"dead_units": 64, "dead_share": 1.0}}
    assert findings_in(make_records(3, layers=off, loss=0.0)) == ()


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("activation", "scheme", "advice"),
    [
        (
            "relu",
            "glorot_uniform",
            f'{ANEW}, or set kernel_initializer="winit>he_normal" in the layer',
        ),
        ("relu", "he_uniform", "instead"),
        (
            "tanh",
            "random_normal",
            f'{ANEW}, or set kernel_initializer="winit>xavier_uniform" in the layer',
        ),
        ("tanh", "glorot_normal", "instead"),
        ("selu", "lecun_normal", "instead"),
        (None, "xavier_uniform", "instead"),
    ],
)
def test_no_remedy_recommends_what_the_layer_has(activation, scheme, advice):
    initializers = (("kernel_initializer", scheme),)
    part = make_part("a", activation=activation, initializers=initializers)
    assert scheme_advice("a", part, "instead") == advice


@pytest.mark.backend_independent
def test_advice_for_recurrent_and_depthwise_kernels():
    kernel = KernelInfo("a/recurrent_kernel", 64, "recurrent")
    part = make_part("a", activation="tanh", kernels=(kernel,))
    has = {"kernel_initializer": "glorot_uniform", "recurrent_initializer": "orthogonal"}
    assert (
        scheme_advice("a", replace(part, initializers=tuple(has.items())), "instead") == "instead"
    )
    has["recurrent_initializer"] = "random_normal"
    assert scheme_advice("a", replace(part, initializers=tuple(has.items()))) == (
        f'{ANEW}, or set recurrent_initializer="winit>orthogonal" in the layer'
    )
    depthwise = make_part("a", initializers=(("depthwise_initializer", "glorot_uniform"),))
    assert scheme_advice("a", depthwise) == ANEW


@pytest.mark.backend_independent
def test_a_layer_with_a_fitting_initializer_but_other_weights():
    facts = make_facts({"b": {"initializers": (("kernel_initializer", "he_normal"),)}})
    (finding,) = findings_in([make_record(0, variables={"b": {"weight_norm": 80.0}})], facts)
    assert (finding.rule, finding.remedy) == (
        WRONG_INIT,
        NEW_WEIGHTS + reinitialize_code("b"),
    )


@pytest.mark.backend_independent
def test_the_initializers_of_a_layer_are_read():
    stack = [
        layers.SeparableConv1D(4, 3, depthwise_initializer="he_normal", name="separable"),
        layers.LSTM(4, kernel_initializer="winit>xavier_uniform", name="lstm"),
        layers.Dense(3, kernel_initializer="winit>he_normal", name="dense"),
    ]
    model = keras.Sequential([keras.Input((8, 4)), *stack])
    parts = {
        part.name: part for part in describe_layers(model, Names(model), try_trace(model)).values()
    }
    assert parts["separable"].initializers == (
        ("depthwise_initializer", "he_normal"),
        ("pointwise_initializer", "glorot_uniform"),
    )
    assert dict(parts["lstm"].initializers)["kernel_initializer"] == "xavier_uniform"
    assert dict(parts["lstm"].initializers)["recurrent_initializer"].startswith("orthogonal")
    assert parts["dense"].initializers == (("kernel_initializer", "he_normal"),)


def test_a_recurrent_layer_of_zeros_has_equal_units():
    keras.utils.set_random_seed(0)
    zeros = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    stack = [layers.LSTM(8, name="lstm", **zeros), layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((5, 4)), *stack])
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = RNG.normal(size=(32, 5, 4)).astype("float32"), RNG.integers(0, 3, 32)
    finding = keras_winit.monitor.check(model, x, y)[0]
    assert (finding.rule, finding.layer) == ("constant_units", "lstm")
