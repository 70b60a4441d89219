"""The demo: what it prints, the files that it leaves, and its check of the saved model."""

import re

import keras
from support import boards

from keras_winit_commands import demo


def test_demo(run_process, tmp_path):
    process = run_process("$KERAS_WINIT demo --epochs 4", tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    _check_output(process.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["keras-winit-demo"]
    folder = tmp_path / "keras-winit-demo"
    assert {path.name for path in folder.iterdir()} == {"digits.keras", "logs"}
    model = keras.models.load_model(folder / "digits.keras")
    # The bad network's kernels have the standard deviation 0.01, He's (2 / 64) ** 0.5 = 0.18.
    assert keras.ops.std(model.layers[1].kernel) > 0.1
    assert _logged_steps(folder) == [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100, 150]
    # A second run finds the folder of the first, and its logs replace those of the first.
    process = run_process("$KERAS_WINIT demo --epochs 1", tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert _logged_steps(folder) == [0, 1, 2, 3, 5, 8, 12, 20, 30]


def _logged_steps(folder):
    """Return the steps that TensorBoard reads, the same in both runs."""
    runs = ("bad_winit_small_normal", "good_reinitialize")
    assert {path.name for path in (folder / "logs").iterdir()} == set(runs)
    bad, good = (
        [step for step, _ in boards.read("python", folder / "logs" / run)["winit", "winit/loss"]]
        for run in runs
    )
    assert bad == good
    return bad


def _check_output(out):
    # The demo prints first what is wrong, then the repair, and then the training.
    bad, repair, good = re.match(
        r"Before training, keras_winit.signal_report says of 8 ReLU layers of 64 units:\n\n"
        r"winit>small_normal: (.*\.)\n\n(.*):\n\nreinitialize: (.*\.)\n\nTraining both on",
        out,
    ).groups()
    assert repair == "After keras_winit.reinitialize(model) on a copy of this network"
    assert bad.startswith("The signal vanishes: ")
    assert good.startswith("Nothing is wrong with this start")
    assert re.search(r"^epoch  winit>small_normal  reinitialize$", out, re.M)
    bad, good = re.search(r"^    4 +([\d.]+)% +([\d.]+)%$", out, re.M).groups()
    assert float(bad) < 20
    assert float(good) > 75
    for name in ("winit>small_normal", "reinitialize"):
        table = re.search(rf"^{name}: step 150, loss [\d.]+\n(.*?)\n\n", out, re.M | re.S)[1]
        assert [line.split()[0] for line in table.splitlines()] == [
            "layer",
            *(f"hidden_{number}" for number in range(1, 9)),
            "scores",
        ]
    assert out.endswith(
        "\nSaved keras-winit-demo/digits.keras; loading it in a fresh process ...\n"
        "The loaded model makes the same 450 predictions, to the last bit.\n"
        "\n"
        "The folder keras-winit-demo holds the model and the logs of both trainings.\n"
        "To compare all layers at all recorded steps, run\n"
        "  tensorboard --logdir keras-winit-demo/logs\n"
        "and open\n"
        "  http://localhost:6006/#keras_winit\n"
    )


def test_different_predictions_are_an_error(run, capsys, tmp_path, monkeypatch):
    wrong = demo.PREDICT.replace("model.predict(", "1 + model.predict(")
    monkeypatch.setattr(demo, "PREDICT", wrong)
    assert run(f"demo --epochs 1 --output {tmp_path / 'out'}") == 1
    model = re.escape(str(tmp_path / "out" / "digits.keras"))
    assert re.fullmatch(
        rf"keras-winit: error: the model in {model} predicts differently, by up to [\d.]+\n",
        capsys.readouterr().err,
    )


def test_a_model_that_cannot_be_loaded_is_an_error(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PREDICT", "raise ValueError('no model')")
    assert run(f"demo --epochs 1 --output {tmp_path}") == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"keras-winit: error: {tmp_path / 'digits.keras'} could not be loaded again: Traceback"
    )
    assert error.endswith("ValueError: no model\n")
