"""Findings in real training: planted faults are found, healthy models are left in peace."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.scenarios import SCENARIOS, numpy_of

import keras_winit
from keras_winit.models.layers import describe_layers
from keras_winit.models.names import Names
from keras_winit.monitor import FindingError, check
from keras_winit.monitor.records import Record

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 128)
DATA = (RNG.normal(size=(4, 16))[LABELS] + RNG.normal(size=(128, 16))).astype("float32")

NEGATIVE = keras.initializers.RandomNormal(-0.3, 0.05)


def mlp(init="winit>he_normal", activation="relu", head="glorot_uniform", rate=1e-3, special=None):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    kernels = [(special or {}).get(i, init) for i in range(3)]
    model = keras.Sequential(
        [
            keras.Input((16,)),
            *(
                layers.Dense(32, activation, kernel_initializer=kernel, name=f"d{i}")
                for i, kernel in enumerate(kernels)
            ),
            layers.Dense(4, "softmax", kernel_initializer=head, name="head"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def watch(model, x=DATA, **options):
    # Each step, so that only one train function is compiled.
    monitor = keras_winit.ActivationMonitor(**{"verbose": 0, "every": 1, **options})
    model.fit(x, LABELS, batch_size=16, verbose=0, shuffle=False, callbacks=[monitor])
    return monitor


FAULTS = {
    "zeros": ("symmetric_units", "d0", lambda: mlp("zeros")),
    "one constant": ("constant_units", "d1", lambda: mlp(special={1: "ones"})),
    "one small": (
        "wrong_init_for_activation",
        "d1",
        lambda: mlp(special={1: "winit>small_normal"}),
    ),
    "negative": ("dead_units", "d1", lambda: mlp(special={1: NEGATIVE})),
    "rate": ("update_too_large", "d0", lambda: mlp(rate=30.0)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_the_first_finding(name):
    rule, layer, build = FAULTS[name]
    finding = watch(build()).findings[0]
    assert (finding.rule, finding.layer.split("/")[-1]) == (rule, layer)
    assert finding.severity in ("warning", "error")


def test_the_scale_of_inputs_is_named_for_what_it_saturates():
    monitor = watch(mlp("winit>xavier_uniform", "tanh"), 300 * DATA)
    assert [finding.rule for finding in monitor.findings] == ["input_scale"]
    assert "saturated" in [one.rule for one in monitor.findings[0].consequences]


@pytest.mark.parametrize(
    "build",
    [mlp, lambda: mlp("winit>xavier_uniform", "tanh"), lambda: mlp(head="zeros")],
    ids=["relu", "tanh", "zero head"],
)
def test_healthy_training_is_silent(build, capsys):
    monitor = watch(build(), verbose="auto", every=None)
    assert monitor.findings == ()
    assert capsys.readouterr() == ("", "")


def test_what_is_found_is_printed_once_and_kept(capsys):
    monitor = watch(mlp("zeros"), verbose="auto")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("symmetric_units  ") == 1
    assert monitor.history.findings == monitor.findings
    assert str(monitor).endswith(str(monitor.findings))
    assert monitor._repr_html_() == monitor.findings._repr_html_()


def test_writers_get_plain_values():
    class Keeps:
        got = ()

        def write(self, sample):
            assert isinstance(sample, Record)

        def write_findings(self, step, findings):
            self.got = (step, findings)

        def flush(self):
            pass

    writer = Keeps()
    watch(mlp(special={1: "ones"}), writers=[writer])
    _, rows = writer.got
    assert rows[0]["rule"] == "constant_units"
    assert isinstance(rows[0]["consequences"], tuple)


def test_stop_ends_the_fit():
    monitor = watch(mlp("zeros"), on_finding="stop")
    assert [sample.step for sample in monitor.history.records] == [0, 1]
    assert monitor.history.findings[0].rule == "symmetric_units"


def test_raise_names_the_layer_and_leaves_the_model_whole():
    model = mlp("zeros")
    with pytest.raises(
        FindingError, match=r"found symmetric_units in '.*d0' at step 1: "
    ) as caught:
        watch(model, on_finding="raise")
    assert caught.value.finding.rule == "symmetric_units"
    assert all(np.isfinite(value).all() for value in model.get_weights())
    watch(model)


def test_a_function_gets_each_finding():
    got = []
    watch(mlp(special={1: "ones"}), on_finding=got.append)
    assert got[0].rule == "constant_units"


def test_an_unknown_action():
    with pytest.raises(ValueError, match="on_finding") as caught:
        keras_winit.ActivationMonitor(on_finding="shout")
    assert str(caught.value) == (
        "`ActivationMonitor(on_finding=...)` must be 'warn', 'raise', 'stop' or a function. "
        "Received: on_finding='shout'."
    )


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 1),
        ({"samples": 1}, 16),
        ({"statistics": ["stddev", "dead_units", "gradient_norm"]}, 16),
    ],
)
def test_what_says_little_of_units_is_held_against_none(options, size):
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0, **options)
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(DATA[:32], LABELS[:32], batch_size=size, verbose=0, callbacks=[monitor])
    assert monitor.findings == ()


def test_a_dead_layer_is_found_in_batches_of_one():
    model = mlp(special={1: NEGATIVE})
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0)
    model.fit(DATA[:8], LABELS[:8], batch_size=1, verbose=0, callbacks=[monitor])
    assert [(f.rule, f.layer, f.severity) for f in monitor.findings][:1] == [
        ("dead_units", "d1", "error")
    ]


def test_models_that_their_first_step_builds_have_the_same_findings():
    keras.utils.set_random_seed(0)
    rows = [layers.Dense(32, "relu", kernel_initializer="ones", name="d0"), layers.Dense(4)]
    model = keras.Sequential([*rows, layers.Softmax()])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert "constant_units" in {finding.rule for finding in watch(model, 0.01 * DATA).findings}


# Penalties and weights of samples say nothing of what a model knows.
@pytest.mark.parametrize("kind", ["regularizer", "add_loss", "sample_weight", None])
def test_only_the_loss_of_the_targets_can_be_that_of_a_guess(kind):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)

    class Adds(layers.Layer):
        def call(self, x):
            if kind == "add_loss":
                self.add_loss(keras.ops.convert_to_tensor(100.0))
            return x

    penalty = keras.regularizers.L2(0.5) if kind == "regularizer" else None
    hidden = layers.Dense(512, "relu", kernel_initializer="he_normal", kernel_regularizer=penalty)
    # One that is sure, and wrong.
    scale = None if kind else layers.Rescaling(100.0)
    rows = [hidden, Adds(), layers.Dense(4), *([scale] if scale else []), layers.Softmax()]
    model = keras.Sequential([keras.Input((16,)), *rows])
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = keras_winit.ActivationMonitor(every=1, verbose=0)
    weights = np.full(16, 100.0) if kind == "sample_weight" else None
    model.fit(DATA[:16], LABELS[:16], sample_weight=weights, verbose=0, callbacks=[monitor])
    assert monitor.history.records[0].loss > 12
    found = "bad_initial_loss" in {finding.rule for finding in monitor.findings}
    assert found == (kind is None)


def test_check_finds_before_training_and_changes_nothing():
    model = mlp("zeros")
    model.optimizer.build(model.trainable_variables)
    before = numpy_of([*model.variables, *model.optimizer.variables])
    assert check(model, DATA[:32], LABELS[:32])[0].rule == "symmetric_units"
    after = numpy_of([*model.variables, *model.optimizer.variables])
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert check(mlp(), DATA[:32], LABELS[:32]) == ()


def test_what_check_refuses():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)], name="m")
    with pytest.raises(ValueError, match="compiled") as caught:
        check(model, DATA)
    assert str(caught.value) == (
        "`check` needs a compiled model. Received: 'm', not compiled. Call "
        "`model.compile(optimizer, loss)`."
    )
    with pytest.raises(ValueError, match="steps") as caught:
        check(mlp(), DATA, LABELS, steps=0)
    assert str(caught.value) == "`check(steps=...)` must be an integer >= 1. Received: steps=0."


def parts(name):
    keras.utils.clear_session()
    model, data = SCENARIOS[name]()
    if not model.built:
        model(data[0])
    before = [(len(p._inbound_nodes), len(p._outbound_nodes)) for p in model._flatten_layers()]
    found = {part.name: part for part in describe_layers(model, Names(model)).values()}
    after = [(len(p._inbound_nodes), len(p._outbound_nodes)) for p in model._flatten_layers()]
    assert before == after
    return found


class Noisy(keras.Model):
    """Assigns and draws while it is called."""

    def __init__(self):
        super().__init__()
        self.dense, self.generator = layers.Dense(4), keras.random.SeedGenerator(1)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        self.count.assign_add(1.0)
        return self.dense(x + keras.random.normal((1, 8), seed=self.generator))


def test_description_runs_nothing_of_what_it_looks_at():
    model = Noisy()
    model(np.zeros((2, 8), "float32"))
    before = float(model.count), np.array(model.generator.state)
    assert [part.name for part in describe_layers(model, Names(model)).values()] == [
        model.dense.name
    ]
    assert float(model.count) == before[0] == 1
    np.testing.assert_array_equal(np.array(model.generator.state), before[1])


def test_description_leaves_nothing_on_operations():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(keras.ops.sin(inputs)))
    operation = next(one for one in model.operations if type(one).__name__ == "Sin")
    describe_layers(model, Names(model))
    assert len(operation._inbound_nodes) == 1


def test_description_of_a_residual_model():
    found = parts("normalized")
    dense, last = found["dense"], found["dense_1"]
    assert (dense.activation, dense.branch, dense.ends_branch, dense.normalized) == (
        "softplus",
        0,
        True,
        True,
    )
    assert (last.hidden, last.branch, last.activation) == (False, None, None)


def test_description_of_attention():
    found = parts("attention")
    assert found["query"].branch == found["attention_output"].branch == 0
    assert found["attention_output"].ends_branch
    assert not found["query"].ends_branch
    assert found["wide"].activation == "gelu"
    assert found["embedding"].is_embedding
    assert found["query"].kernels[0].unit_axes == (1, 2)
    low, high = found["wide"].kernels[0].variances
    assert (low, round(high * 8, 3)) == (1 / 8, 2.352)


def test_rescaling_prepares_an_input_and_normalizes_nothing():
    rows = [layers.Rescaling(3.0), layers.Dense(4, name="a"), layers.Rescaling(3.0)]
    model = keras.Sequential([keras.Input((4,)), *rows, layers.Dense(4, name="b")])
    found = {part.name: part for part in describe_layers(model, Names(model)).values()}
    assert [(found[n].takes_raw_input, found[n].normalized) for n in "ab"] == [(False, False)] * 2


def test_description_of_a_model_with_layers_of_its_own():
    found = parts("subclassed")
    assert [found[n].branch for n in ("dense", "dense_1", "dense_2")] == [0, 1, None]
    assert found["dense_1"].ends_branch
    assert not found["dense_2"].hidden
