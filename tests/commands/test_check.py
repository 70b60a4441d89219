"""`keras-winit check`: a saved model is reported on, repaired and saved."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_winit


@pytest.fixture
def saved(tmp_path):
    """Return the path of a model whose signal vanishes."""
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(32, "tanh", kernel_initializer="winit>small_normal") for _ in range(6)]
    model = keras.Sequential([keras.Input((32,)), *stack, layers.Dense(4, "softmax")])
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.parametrize("way", ["auto", "lsuv", "winit>xavier_normal"])
def test_a_vanishing_model_is_repaired(run, saved, tmp_path, capsys, way):
    data, fixed = tmp_path / "x.npy", tmp_path / "fixed.keras"
    x = np.random.default_rng(0).normal(size=(128, 32)).astype("float32")
    np.save(data, x)
    assert run(f"check {saved} --data {data} --fix {fixed} --with '{way}' --seed 1") == 0
    out = capsys.readouterr().out
    assert "wrong_init_for_activation" in out
    before, after = (line for line in out.splitlines() if line[:7] in ("before:", "after: "))
    assert before.startswith("before: The signal vanishes")
    assert after.startswith("after:  Nothing is wrong")
    assert out.endswith(f"saved: {fixed}\n")
    # Measures, without the package, the spread between samples in the last and first hidden layers.
    model = keras.models.load_model(fixed)
    hidden = [model.layers[0](x)]
    for layer in model.layers[1:-1]:
        hidden.append(layer(hidden[-1]))
    spreads = [
        np.std(keras.ops.convert_to_numpy(h), axis=0).mean() for h in (hidden[0], hidden[-1])
    ]
    assert spreads[1] > 0.2 * spreads[0]


def test_a_model_with_planted_faults_trains_once_it_is_fixed(run, tmp_path, capsys):
    keras.utils.set_random_seed(0)
    starts = ["he_normal", "zeros", "winit>large_normal", "winit>small_normal"]
    stack = [
        layers.Dense(16, "relu", kernel_initializer=start, name=f"d{number}")
        for number, start in enumerate(starts)
    ]
    model = keras.Sequential([keras.Input((8,)), *stack, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.save(tmp_path / "bad.keras")
    assert run(f"check {tmp_path / 'bad.keras'} --fix {tmp_path / 'good.keras'} --seed 1") == 0
    out = capsys.readouterr().out
    assert "spread before" in out
    x = np.random.default_rng(0).normal(size=(128, 8)).astype("float32")
    y = x[:, :1]
    losses = {}
    for name in ("bad", "good"):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        history = loaded.fit(x, y, epochs=20, batch_size=32, verbose=0, shuffle=False)
        losses[name] = history.history["loss"][-1]
    # The targets have variance 1, which is the loss of the best constant prediction.
    assert losses["good"] < 0.3 < 0.8 < losses["bad"]


def test_the_model_itself_is_not_changed(run, saved, capsys):
    content = saved.read_bytes()
    assert run(f"check {saved}") == 0
    assert saved.read_bytes() == content
    assert "keras_winit.reinitialize(model)" in capsys.readouterr().out


def test_a_report_is_drawn(run, saved, tmp_path, capsys):
    assert run(f"check {saved} --plot {tmp_path / 'report.png'}") == 0
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("check nothing.keras", 2, "argument MODEL: no file 'nothing.keras'"),
        ("check model.h5", 2, "argument MODEL: 'model.h5' must end in .keras"),
        ("check {saved} --fix out.h5", 2, "argument --fix: 'out.h5' must end in .keras"),
        ("check {saved} --fix {folder}/a/b.keras", 2, "no folder"),
        ("check {saved} --fix x.keras --with he", 2, "no initializer 'he'."),
        ("check {broken}", 1, "cannot be loaded. Received: "),
        ("check {saved} --data {broken}", 1, "is no array of numbers. Received: "),
        ("check {saved} --data none.npy", 1, "No such file or directory: 'none.npy'"),
    ],
)
def test_errors(run, saved, tmp_path, capsys, line, code, sentence):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK no archive")
    line = line.format(saved=saved, broken=broken, folder=tmp_path)
    try:
        result = run(line)
    except SystemExit as error:
        result = error.code
    error_text = capsys.readouterr().err
    assert result == code
    assert sentence in error_text
    assert error_text.count("\n") == 1


def test_code_in_a_model_is_not_run(run, tmp_path, capsys):
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "code.keras")
    assert run(f"check {tmp_path / 'code.keras'}") == 1
    assert "cannot be loaded" in capsys.readouterr().err


def test_the_command_says_what_the_function_says(run, saved, capsys):
    assert run(f"check {saved} --seed 3") == 0
    report = keras_winit.signal_report(keras.models.load_model(saved), seed=3)
    assert capsys.readouterr().out == f"{report}\n"
