import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import matplotlib.colors
import matplotlib.image
import matplotlib.style
import numpy as np
import pytest
from trainability_cases.networks import NETWORKS, conv2d, data_of
from trainability_cases.protocol import steps_to_threshold
from trainability_cases.starts import STARTS, started
from trainability_cases.summary import (
    STYLES,
    difference,
    draw,
    draw_in_both_styles,
    read_rows,
    share_that_trains,
    table,
)

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "trainability.py"

jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="trains on JAX")


def row(start, *scores, name="relu"):
    steps = [[5, 7] if score >= 0.9 else [None, 7] for score in scores]
    pairs = [[score - 0.01, score + 0.01] for score in scores]
    kind = {"part": "mlp", "name": name, "depth": 50, "start": start}
    return {**kind, "scores": pairs, "steps": steps}


@jax_only
def test_thirty_layers_train_from_auto_and_a_second_run_measures_nothing(tmp_path):
    file = tmp_path / "rows.jsonl"
    choice = ["--part", "mlp", "--depth", "30", "--activation", "relu", "--start", "auto"]
    command = [sys.executable, BENCHMARK, *choice, "--seeds", "1", "--first-seed", "100"]
    command += ["--file", file]
    # A benchmark imports the modules beside it.
    environment = {**os.environ, "PYTHONSAFEPATH": ""}
    for expected in ("1 rows to measure", "0 rows to measure"):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert expected in done.stdout, done.stderr[-2000:]
    (measured,) = (json.loads(line) for line in file.read_text().splitlines())
    assert np.shape(measured["scores"]) == (4, 1)
    # The network trains: its score is far above the 0.1 of chance.
    assert measured["scores"][0][0] > 0.5


@jax_only
@pytest.mark.parametrize("is_adam", [True, False])
def test_an_update_is_that_of_the_optimizer_of_keras(is_adam):
    from trainability_cases.training import _update

    random = np.random.default_rng(0)
    variable = keras.Variable(random.normal(size=5))
    optimizer = keras.optimizers.Adam(1e-3) if is_adam else keras.optimizers.SGD(1e-2, 0.9)
    weights, moments = [variable.value], ([np.zeros(5)], [np.zeros(5)])
    for number in range(1, 4):
        gradient = random.normal(size=5).astype("float32")
        optimizer.apply([gradient], [variable])
        rate = 1e-3 if is_adam else 1e-2
        weights, moments = _update(is_adam, rate, number, weights, moments, [gradient])
        np.testing.assert_allclose(weights[0], variable.value, rtol=1e-5)


def test_a_convolution_as_a_product_is_the_convolution():
    inputs = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("float32")
    usual = keras.layers.Conv2D(6, 3, padding="same")
    product = conv2d(6, 3)
    expected = keras.ops.convert_to_numpy(usual(inputs))
    product.build(inputs.shape)
    product.set_weights(usual.get_weights())
    result = keras.ops.convert_to_numpy(product(inputs))
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.backend_independent
def test_each_network_of_the_benchmark_is_one_row():
    rows = [(network.part, network.name, network.depth) for network in NETWORKS]
    assert len(set(rows)) == len(rows)


@pytest.mark.backend_independent
def test_the_mask_of_the_adding_problem_marks_the_target():
    inputs, targets, test_inputs, _ = data_of("adding", 0)
    np.testing.assert_array_equal(inputs[:, :, 1].sum(1), 2)
    np.testing.assert_allclose(np.prod(inputs, axis=2).sum(1), targets)
    # The sum of two uniform numbers has variance 1/6.
    assert targets.var() == pytest.approx(1 / 6, rel=0.1)
    assert len(test_inputs) == 500


def test_the_start_of_torch_has_the_limits_of_its_linear_layers():
    network = next(n for n in NETWORKS if (n.part, n.depth, n.name) == ("mlp", 10, "relu"))
    kernel, bias = started("torch's default", network, 0).layers[0].get_weights()
    for values in (kernel, bias):
        # The layer has 64 inputs, so PyTorch draws from U(-1/8, 1/8).
        assert abs(values).max() <= 1 / 8
        assert abs(values).max() > 0.11


@pytest.mark.backend_independent
def test_steps_are_counted_to_the_end_of_the_first_window_that_reaches_the_threshold():
    curve = np.zeros(100)
    curve[40:] = 1.0
    # 18 of the 20 steps 42 to 61, which are numbers 39 to 58 from 0 on, have a score of 1.
    assert steps_to_threshold(curve) == 58
    assert np.isnan(steps_to_threshold(np.full(100, 0.89)))
    assert steps_to_threshold(np.ones(100)) == 20


@pytest.mark.backend_independent
def test_the_table_names_where_auto_is_behind_and_where_it_fails():
    rows = [
        row("lsuv", 0.95, 0.93, 0.5, 0.5),
        row("auto", 0.95, 0.85, 0.2, 0.5),
        row("lsuv", 0.1, 0.1, 0.1, 0.1, name="gelu"),
        row("auto", 0.95, 0.95, 0.95, 0.5, name="gelu"),
    ]
    assert share_that_trains(rows[:1]) == 0.5
    gap, error = difference(rows[0], rows[1])
    # The two seeds of a row differ by 0.02: their variance is 0.0002, that of their mean 0.0001.
    assert gap == pytest.approx(0.095)
    assert error == pytest.approx(0.0002**0.5)
    text = "\n".join(table(rows))
    assert "of the best for 1 of 2 networks" in text
    assert "mlp 50 relu: 0.095 ± 0.014 behind lsuv" in text
    assert "does not in 1 of 8 settings" in text
    assert "mlp 50 relu, Adam 1e-4: 0.850, best other 0.930" in text


@pytest.mark.backend_independent
def test_the_picture_has_a_line_for_each_start(tmp_path):
    rows = [row("lsuv", 0.95, 0.93, 0.5, 0.5), row("auto", 0.95, 0.95, 0.95, 0.5)]
    picture = draw(rows, tmp_path / "picture.png")
    lines = picture.axes[0].lines
    assert [line.get_ydata()[0] for line in lines] == [50, 75]
    assert (tmp_path / "picture.png").stat().st_size > 1000
    deeper = [{**rows[1], "depth": 100}]
    assert len(draw([*rows, *deeper], tmp_path / "picture.png").axes[0].lines) == 1


@pytest.mark.backend_independent
def test_the_picture_shows_no_share_of_fewer_networks_than_were_measured(tmp_path):
    refused = {**row("near-linear"), "refused": "not odd"}
    del refused["scores"]
    rows = [
        row("lsuv", 0.95, 0.95, 0.95, 0.95),
        refused,
        row("auto", 0.95, 0.95, 0.95, 0.5),
        row("near-linear", 0.95, 0.5, 0.5, 0.5, name="tanh"),
        row("auto", 0.95, 0.5, 0.5, 0.5, name="tanh"),
    ]
    picture = draw(rows, tmp_path / "picture.png")
    shown = {line.get_label(): line.get_ydata()[0] for line in picture.axes[0].lines}
    assert shown == {
        "near-linear (1 of 2 activations)": 25,
        "keras_winit.reinitialize(model)": 50,
    }


@pytest.mark.backend_independent
def test_each_start_has_a_style_and_auto_shows_on_a_dark_page(tmp_path):
    assert {*STYLES, "auto"} == set(STARTS)
    rows = [row("auto", 0.95, 0.93, 0.5, 0.5)]
    with matplotlib.style.context("dark_background"):
        (line,) = draw(rows, tmp_path / "picture.png").axes[0].lines
    assert matplotlib.colors.to_rgb(line.get_color()) == (1, 1, 1)
    draw_in_both_styles(rows, tmp_path / "picture.png")
    light, dark = (
        matplotlib.image.imread(tmp_path / name) for name in ("picture.png", "picture-dark.png")
    )
    assert light[0, 0, :3].mean() > 0.9 > 0.1 > dark[0, 0, :3].mean()


@pytest.mark.backend_independent
def test_no_file_holds_no_rows(tmp_path):
    assert read_rows(tmp_path / "missing.jsonl") == []
    assert list(STARTS)[-1] == "auto"
