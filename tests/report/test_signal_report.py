"""Tests of `signal_report`: what it measures, predicts and says, and that it changes nothing."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from support import scenarios
from support.faulty_models import CASES
from support.printed_code import alternatives, run_code

import keras_winit
from keras_winit import signal_report
from keras_winit.initializers import REGISTRY
from keras_winit.report.data import random_inputs

# Standard deviations of the outputs in the notes' experiment, by quadrature.
NOTES = {
    "small_normal": [0.2135, 0.0476, 0.0107, 0.00238, 0.000533, 0.000119],
    "large_normal": [0.9820, 0.9817, 0.9817, 0.9817],
    "lecun_normal": [0.628, 0.486, 0.408, 0.358, 0.322, 0.294, 0.273, 0.255, 0.241, 0.228],
}
# At depth 50 and width 256: ranges of the variance of the last output and of the mean square
# of the gradient of the first one, over seeds.
DEPTH_50 = {
    "relu, He": ("relu", 2**0.5, 0.0, (0.54, 4.0), (0.48, 1.6)),
    "relu, gain 1": ("relu", 1.0, 0.0, (1e-16, 2e-15), (3e-16, 3e-15)),
    "tanh, gain 1": ("tanh", 1.0, 0.0, (0.0085, 0.0107), (0.012, 0.015)),
    "tanh, exact gain": ("tanh", 1.592537, 0.0, (0.99, 1.05), (1.7e3, 2.0e3)),
    "tanh, critical": ("tanh", 1.760955**0.5, 0.05**0.5, (0.53, 0.62), (0.35, 0.62)),
}


def stack(depth, width, activation, scheme=None, head=None, bias="zeros"):
    """Return a stack of equal dense layers whose kernels have different seeds."""
    make = scheme or (lambda seed: keras_winit.XavierUniform(seed=seed))
    hidden = [
        layers.Dense(width, activation, kernel_initializer=make(number), bias_initializer=bias)
        for number in range(depth)
    ]
    return keras.Sequential(
        [keras.Input((width,)), *hidden, *([layers.Dense(head)] if head else [])]
    )


def centered(place, **arguments):
    return keras_winit.NearLinearOrthogonal(place, stddev=1.0, centered=True, **arguments)


def states(model):
    """Return all values that a model, its optimizer and its metrics hold."""
    variables = [*model.variables]
    if getattr(model, "compiled", False):
        variables += [*model.optimizer.variables, *model.metrics_variables]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def attributes_of(layer):
    """Return the names of a layer's attributes, without the masks that cells keep for a call."""
    return sorted(name for name in vars(layer) if not name.endswith("dropout_mask"))


@pytest.mark.parametrize("name", NOTES)
def test_the_notes_experiment_is_predicted_and_measured(name):
    model = stack(10, 500, "tanh", lambda seed: REGISTRY[name](seed=seed))
    rows = signal_report(model, samples=500).rows
    expected = np.array(NOTES[name])
    predicted = np.array([row.predicted_stddev for row in rows])[: len(expected)]
    measured = np.array([row.stddev for row in rows])
    # The predictions use the drawn kernels, whose variance is off by sqrt(2 / 250,000) of it.
    np.testing.assert_allclose(predicted, expected, rtol=0.015)
    np.testing.assert_allclose(measured[: len(expected)], expected, rtol=0.04)
    np.testing.assert_allclose(
        [row.gradient for row in rows], [row.predicted_gradient for row in rows], rtol=0.1
    )


@pytest.mark.parametrize("name", DEPTH_50)
def test_signal_and_gradient_of_fifty_layers_are_those_of_theory(name):
    activation, gain, bias_stddev, variances, gradients = DEPTH_50[name]

    def scheme(seed):
        return keras_winit.VarianceScaling(gain**2, "fan_in", "normal", seed=seed)

    bias = keras.initializers.RandomNormal(stddev=bias_stddev, seed=7) if bias_stddev else "zeros"
    chain = stack(50, 256, activation, scheme, bias=bias)
    # The gradient of the input is measured at an identity layer.
    model = keras.Sequential([keras.Input((256,)), layers.Identity(), *chain.layers])
    report = signal_report(model, samples=200)
    first, last = report.rows[0], f"{report.rows[-1].layer}.pre"
    variance = report.record.lookup(last, "stddev") ** 2 + report.record.lookup(last, "mean") ** 2
    # A single seed may lie somewhat beyond the range of a few.
    low, high = variances
    assert low / 1.5 < variance < high * 1.5
    low, high = gradients
    assert low / 1.5 < first.gradient**2 < high * 1.5
    assert first.predicted_gradient == pytest.approx(first.gradient, rel=0.5)


def test_chi_is_that_of_mean_field_theory():
    rows = signal_report(
        stack(
            20,
            256,
            "tanh",
            lambda seed: keras_winit.VarianceScaling(4.0, "fan_in", "normal", seed=seed),
        )
    ).rows
    point = keras_winit.theory.mean_field.fixed_point("tanh", 2.0)
    settled = [row.chi for row in rows[10:-1]]
    assert np.exp(np.mean(np.log(settled))) == pytest.approx(point.chi_1, rel=0.05)


def test_default_relu_net_of_30_layers_is_told_to_vanish_with_the_right_number():
    report = signal_report(stack(30, 256, "relu", head=10))
    spreads = [row.unit_stddev for row in report.rows if row.hidden]
    assert spreads[-1] / spreads[0] < 1e-4
    number = f"{100 * spreads[-1] / spreads[0]:.2g} %"
    last = report.rows[29].layer
    assert report.verdict == (
        f"The signal vanishes: {number} of the differences between samples arrive in layer "
        f"{last!r} (30 of 31); call `keras_winit.reinitialize(model)`."
    )
    assert report.findings[0].rule == "vanishing_forward"
    # Each layer halves the mean square: 2**-15 of the signal is left, and a little less, because
    # the outputs of different samples become alike.
    assert report.rows[29].stddev / report.rows[0].stddev == pytest.approx(2**-14.5, rel=0.7)


@pytest.mark.parametrize("kind", ["dense", "normalized"])
def test_a_healthy_net_has_nothing_wrong(kind):
    if kind == "dense":
        model = stack(10, 128, "relu", lambda seed: keras_winit.HeNormal(seed=seed), head=10)
    else:
        model = scenarios.normalized()[0]
    report = signal_report(model, samples=64)
    assert report.findings == ()
    assert report.verdict.startswith("Nothing is wrong with this start")
    assert report.changes == ()


# The report is silent on these rules: they need training, or their findings are only notes.
IN_TRAINING = ("update_too_large", "update_frozen", "nothing_learns", "equal_kernels")


@pytest.mark.backend_independent
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", sorted(set(CASES) - set(IN_TRAINING)))
def test_what_a_report_says_to_change_is_code_that_repairs_the_model(fault):
    keras.utils.set_random_seed(0)
    build, x, y = CASES[fault]
    scope = {"model": build(), "x": x, "y": y}
    report = signal_report(scope["model"], x, y)
    found = [other.rule for one in report.findings for other in (one, *one.consequences)]
    # The rules on a constant output and on the gradient of two kernels are sure only in training.
    assert fault in found or fault in ("constant_output", "vanishing_backward")
    _, what_to_change = str(report).split("\nwhat to change\n")
    for line in what_to_change.splitlines():
        codes = alternatives(line)[0]
        scope = run_code(codes, scope["model"], scope["x"], scope["y"])
    after = signal_report(scope["model"], scope["x"], scope["y"])
    assert after.findings == ()
    assert after.verdict.startswith("Nothing is wrong with this start")


def test_all_units_of_a_layer_are_a_hundred_percent():
    build, x, _ = CASES["dead_units"]
    verdict = signal_report(build(), x).verdict
    assert verdict.startswith("Units are dead: 100 % of those of layer 'd1' (2 of 3)")


def test_batch_normalization_at_rest_is_explained():
    hidden = [
        part
        for _ in range(20)
        for part in (layers.Dense(32, use_bias=False), layers.BatchNormalization(), layers.ReLU())
    ]
    model = keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(3)])
    assert signal_report(model).verdict.startswith("Nothing is wrong")
    at_rest = signal_report(model, training=False).verdict
    assert at_rest.startswith("In inference mode the last of 20 hidden layers varies ")
    assert "batch normalization has no statistics yet" in at_rest


SCENARIOS = [
    *("sequential", "normalized", "nested_and_shared", "many_inputs_and_outputs", "subclassed"),
    *("drawing", "convolutions", "recurrent", "with_embedding", "attention", "frozen"),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_model_is_unchanged(name):
    model, data = getattr(scenarios, name)()
    if not model.built:
        model(data[0])
    function, call = object(), keras.layers.Layer.__call__
    model.train_function = function
    before, random = states(model), keras.random.uniform((2,), seed=keras.random.SeedGenerator(1))
    attributes = [attributes_of(layer) for layer in model._flatten_layers()]
    report = signal_report(model, data[0], data[1], samples=8, training=True)
    after = states(model)
    assert len(after) == len(before)
    assert all(map(np.array_equal, before, after))
    assert model.train_function is function
    assert keras.layers.Layer.__call__ is call
    assert [attributes_of(layer) for layer in model._flatten_layers()] == attributes
    assert random is not None
    assert report.record.loss is not None
    assert report.rows
    assert all(np.isfinite(row.stddev) for row in report.rows)
    assert any(row.gradient > 0 for row in report.rows)


def test_a_failing_layer_leaves_the_model_unpatched():
    class Failing(layers.Layer):
        def call(self, x):
            raise KeyboardInterrupt

    model = keras.Sequential([layers.Dense(4, "relu"), Failing()])
    model.layers[0].build((None, 4))
    model.built = True
    activation, call = model.layers[0].activation, keras.layers.Layer.__call__
    with pytest.raises(KeyboardInterrupt) as caught:
        signal_report(model, np.ones((4, 4), "float32"))
    (note,) = caught.value.__notes__
    first = model.layers[0].name
    assert note == (
        f"`signal_report` stopped after layer {first!r}. The model is as it was before the call."
    )
    assert keras.layers.Layer.__call__ is call
    assert model.layers[0].activation is activation


def test_mixed_precision():
    low = "mixed_bfloat16"
    hidden = [layers.Dense(32, "relu", dtype=low) for _ in range(3)]
    model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(2, dtype="float32")])
    rows = signal_report(model).rows
    assert [row.gradient > 0 for row in rows] == [True] * 4
    assert rows[0].predicted_stddev == pytest.approx(rows[0].stddev, rel=0.2)


def test_embedding_and_recurrent_layers():
    parts = [layers.Embedding(7, 16, mask_zero=True), layers.LSTM(8), layers.Dense(2)]
    report = signal_report(keras.Sequential([keras.Input((5,)), *parts]), samples=20)
    assert [row.kind for row in report.rows] == ["Embedding", "LSTM", "Dense"]
    assert all(row.gradient > 0 for row in report.rows)
    assert np.isnan(report.rows[0].predicted_stddev)


def test_gradient_and_cosine_agree_with_numpy():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="a"), layers.Dense(3)])
    x = np.random.default_rng(2).normal(size=(16, 6)).astype("float32")
    row = signal_report(model, x, seed=4).rows[0]
    cotangent = np.random.default_rng([4, 1]).standard_normal((16, 3), "float32")
    kernels = [keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers]
    assert row.gradient == pytest.approx(
        np.sqrt(np.mean((cotangent @ kernels[1].T) ** 2)), rel=1e-4
    )
    outputs = x @ kernels[0]
    directions = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    cosines = (directions @ directions.T)[np.triu_indices(16, 1)]
    assert row.cosine == pytest.approx(cosines.mean(), abs=1e-5)


def test_equal_units_are_counted():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(3)])
    kernel = np.array(keras.ops.convert_to_numpy(model.layers[0].kernel))
    kernel[:, 4:] = kernel[:, :4]
    model.layers[0].kernel.assign(kernel)
    report = signal_report(model)
    assert report.rows[0].repeated_share == pytest.approx(4 / 7)
    assert report.findings[0].rule == "constant_units"


@pytest.mark.parametrize(
    ("activation", "start"), [("gelu", keras_winit.LooksLinear), ("sigmoid", centered)]
)
def test_kernels_whose_weights_cancel_are_not_predicted(activation, start):
    places = ("first", "hidden", "hidden")
    model = keras.Sequential([keras.Input((32,))])
    for place in places:
        scheme = start(place, nonlinearity=activation)
        model.add(layers.Dense(32, activation, kernel_initializer=scheme))
    first, *others = keras_winit.signal_report(model).rows
    assert first.predicted_stddev == pytest.approx(first.stddev, rel=0.1)
    assert all(np.isnan(row.predicted_stddev) for row in others)


def test_padding_lowers_the_predicted_variance():
    # With 3 x 3 taps at 3 x 3 positions, a share of (7 / 9)**2 of the taps lies within the image.
    model = keras.Sequential([keras.Input((3, 3, 64)), layers.Conv2D(512, 3, padding="same")])
    row = signal_report(model, samples=64).rows[0]
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    expected = np.sqrt(np.mean(kernel**2) * 9 * 64 * 49 / 81)
    assert row.predicted_stddev == pytest.approx(expected, rel=0.02)
    assert row.stddev == pytest.approx(expected, rel=0.02)


def test_a_loss_that_does_not_fit_is_found_before_training():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(4)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    report = signal_report(model, np.ones((8, 8)), np.zeros(8, int))
    assert any(finding.rule == "loss_mismatch" for finding in report.findings)


def test_parts_of_a_report():
    report = signal_report(stack(30, 64, "relu", head=3))
    text, page = str(report), report._repr_html_()
    for part in (report.title, report.verdict, "what to change", "vanishing_forward", "cosine"):
        assert part in text
    assert "<table>" in page
    assert "reinitialize(model)" in page
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["rows"][0]["layer"] == report.rows[0].layer
    assert plain["findings"][0]["rule"] == "vanishing_forward"
    assert plain["rows"][-1]["predicted_gradient"] == 1.0


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    report = signal_report(stack(4, 16, "tanh"))
    picture = report.plot(tmp_path / "signal.png")
    titles = [axes.get_title().partition("\n")[0] for axes in picture.axes]
    assert titles == ["stddev", "spread", "cosine", "gradient", "saturation"]
    assert (tmp_path / "signal.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"needs rows with statistics\. Received: 0 rows without"):
        keras_winit.plots.signal([])


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.full((4, 6), index + 1.0, "float32"), np.zeros((4, 3), "float32")


def test_data_of_a_py_dataset_is_its_first_batch():
    model, _ = scenarios.sequential()
    report = signal_report(model, Batches())
    assert "4 inputs of shape (6)" in report.title
    assert report.record.inputs == ("input",)
    assert report.record.lookup("input", "mean") is None
    assert report.record.input_values[0, 0] == 1.0
    assert report.record.loss is not None


def test_data_of_a_tf_data_set_is_its_first_batch():
    tf = pytest.importorskip("tensorflow")
    model, (x, y) = scenarios.sequential()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    report = signal_report(model, data)
    expected = signal_report(model, x[:4], y[:4])
    assert report.rows == expected.rows or str(report) == str(expected)
    assert report.record.loss == pytest.approx(expected.record.loss, rel=1e-6)


def test_nested_lists_are_one_array():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    assert "5 inputs of shape (4)" in signal_report(model, np.ones((5, 4)).tolist()).title


def test_several_inputs_get_random_data_of_their_kind():
    words, numbers = keras.Input((4,), dtype="int32", name="w"), keras.Input((6,), name="n")
    looked_up = layers.Flatten()(layers.Embedding(3, 5)(words))
    x = layers.Dense(8, "relu")(layers.concatenate([looked_up, numbers]))
    report = signal_report(keras.Model({"w": words, "n": numbers}, layers.Dense(2)(x)), samples=64)
    assert report.title.endswith("64 random inputs of shape (6) and (4), in inference mode")
    assert report.record.inputs == ("input",)
    assert report.rows[-1].gradient == pytest.approx(1.0, rel=0.3)


def test_random_integers_lie_below_the_rows_of_the_embedding():
    model = keras.Sequential([keras.Input((50,)), layers.Embedding(3, 5), layers.Flatten()])
    values = random_inputs(model, 20, seed=0)
    assert sorted(set(values.ravel().tolist())) == [0, 1, 2]


def test_errors():
    model = keras.Sequential([layers.Dense(2)])
    with pytest.raises(ValueError, match=r"^`signal_report` needs a built model, or data\. Rec"):
        signal_report(model)
    with pytest.raises(TypeError, match=r"^`signal_report\(data=\.\.\.\)` must be a batch or a da"):
        signal_report(stack(1, 4, "relu"), iter([]))
    with pytest.raises(ValueError, match=r"must hold at least one sample\. Received: shapes="):
        signal_report(stack(1, 4, "relu"), np.zeros((0, 4)))
    with pytest.raises(
        ValueError, match=r"^`signal_report\(samples=\.\.\.\)` must be an integer >"
    ):
        signal_report(stack(1, 4, "relu"), samples=0)


def test_a_subclassed_model_without_data():
    report = signal_report(scenarios.subclassed()[0].__class__(), scenarios.X)
    assert report.rows[-1].gradient > 0


@pytest.mark.backend_independent
def test_series_of_the_correlation_map_agrees_with_its_quadrature():
    from keras_winit.theory import activations, maps, quadrature

    for name in ("relu", "tanh", "gelu", "sigmoid"):
        function = activations.find_activation("test", name, {})
        sampled = quadrature.adaptive_quadrature(function, 1.7)
        exact = maps.pair_mean(function, sampled, 0.6, 1.7)
        assert maps.pair_mean_by_series(sampled, 0.6, 1.7) == pytest.approx(exact, rel=1e-6)
