"""The command, as a person types it."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_winit
from keras_winit import cli, experiments
from keras_winit.initializers import REGISTRY


def run(line):
    return cli.main(shlex.split(line))


def test_list_shows_every_scheme(capsys):
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(REGISTRY)
    for line, cls in zip(lines[1:], REGISTRY.values(), strict=True):
        cells = re.split(r"  +", line)
        assert cells == [cls.identifier, cls.formula, cls.use, cls.source]


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_show(name, capsys):
    for line in (f"show {name}", f"show 'winit>{name}'"):
        assert run(line) == 0
        out = capsys.readouterr().out
        cls = REGISTRY[name]
        assert f'kernel_initializer="winit>{name}"' in out
        for text in (cls.formula, cls.use, cls.source, cls.__doc__.splitlines()[0]):
            assert text in out


def test_show_draws(capsys, tmp_path):
    picture = tmp_path / "out.png"
    # Kernels of a shape that fits: a convolution's, a square one, a bias.
    for name in ("sparse", "constant", "bilinear", "icnr", "irnn", "chrono", "fan_in_bias"):
        assert run(f"show {name} --plot {picture}") == 0
        assert capsys.readouterr().out.endswith(f"\ndrawn: {picture}\n")
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_rules(capsys):
    assert run("rules") == 0
    out = capsys.readouterr().out
    for rule in keras_winit.monitor.RULES:
        for text in (rule.id, rule.fires, rule.cause, rule.remedy, rule.origin):
            assert text in out
    assert run("rules --markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(keras_winit.monitor.RULES)
    assert {line.replace("\\|", "").count("|") for line in lines} == {7}


def test_gain(capsys):
    assert run("gain tanh") == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["second_moment", "1.59253742"],
        ["centered", "1.59253742"],
        ["backward", "1.467413592"],
        ["torch", "1.666666667"],
        ["chi_1", "1.177807232"],
    ]
    assert run("gain gelu") == 0
    assert ["torch", "none"] in [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert run("gain leaky_relu --mode torch") == 0
    assert capsys.readouterr().out == "1.414142857\n"


def test_critical(capsys):
    assert run("critical tanh --bias-stddev 0.22") == 0
    out, err = capsys.readouterr()
    assert out == f"{keras_winit.critical_point('tanh', 0.22)}\n"
    assert err == ""
    assert run("critical exponential --q 2") == 0
    assert capsys.readouterr().err == (
        "keras-winit: warning: The critical point of exponential at q=2 is not stable: "
        "with chi_q=2 the variance does not return to q.\n"
    )


@pytest.mark.parametrize("line", ["gain gleu", "gain gleu --mode torch", "critical sigmoid --q 1"])
def test_what_theory_refuses_is_one_line_and_exit_code_2(line, capsys):
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"keras-winit: error: `[a-z_]+\(.*\n", err)


def test_propagate(capsys, tmp_path):
    picture = tmp_path / "out.png"
    line = (
        "propagate --init 'winit>small_normal' --init 'winit>lecun_normal' --activation tanh "
        f"--depth 3 --width 20 --samples 30 --seed 4 --batch-normalization --plot {picture}"
    )
    assert run(line) == 0
    out = capsys.readouterr().out
    for name in ("winit>small_normal", "winit>lecun_normal"):
        expected = experiments.propagate(
            name, depth=3, width=20, samples=30, seed=4, batch_normalization=True
        )
        assert str(expected) in out
    assert out.endswith(f"drawn: {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "sentence"),
    {
        "": "keras-winit: error: the following arguments are required: command",
        "shown": "keras-winit: error: argument command: invalid choice: 'shown' "
        "(choose from list, show, gain, critical, rules, propagate, demo)",
        "show spars": "keras-winit show: error: argument NAME: no scheme 'spars'. "
        "Did you mean 'winit>sparse'? `keras-winit list` shows all.",
        "show qqq": "keras-winit show: error: argument NAME: no scheme 'qqq'. "
        "`keras-winit list` shows all.",
        "propagate": "keras-winit propagate: error: the following arguments are required: --init",
        "propagate --init 'winit>He_Normal'": "keras-winit propagate: error: argument --init: "
        "no initializer 'winit>He_Normal'. Did you mean 'winit>he_normal'? "
        "`keras-winit list` shows all.",
        "propagate --init 'winit>zeros' --depth 0": "keras-winit propagate: error: "
        "argument --depth: must be an integer from 1 to 4294967295, not '0'",
        "propagate --init 'winit>zeros' --width 1e3": "keras-winit propagate: error: "
        "argument --width: must be an integer from 1 to 4294967295, not '1e3'",
        "propagate --init 'winit>zeros' --seed -1": "keras-winit propagate: error: "
        "argument --seed: must be an integer from 0 to 4294967295, not '-1'",
        "propagate --init 'winit>zeros' --activation nope": "keras-winit propagate: error: "
        "argument --activation: Keras has no activation 'nope'",
        "propagate --init 'winit>zeros' --plot /no/where/out.png": "keras-winit propagate: error: "
        "argument --plot: no folder '/no/where' for '/no/where/out.png'",
        "propagate --init 'winit>zeros' --nope": "keras-winit: error: "
        "unrecognized arguments: --nope",
        "demo --epochs 0": "keras-winit demo: error: argument --epochs: "
        "must be an integer from 1 to 4294967295, not '0'",
        "demo --seed 4294967296": "keras-winit demo: error: argument --seed: "
        "must be an integer from 0 to 4294967295, not '4294967296'",
        f"demo --seed {'9' * 5000}": "keras-winit demo: error: argument --seed: "
        f"must be an integer from 0 to 4294967295, not '{'9' * 40}'",
        "propagate --init stft": "keras-winit propagate: error: argument --init: "
        "'stft' makes no dense kernel",
        f"demo --output {'x' * 300}.keras": "keras-winit demo: error: argument --output: "
        f"'{'x' * 300}.keras' cannot be written",
        "critical tanh": "keras-winit critical: error: "
        "one of the arguments --bias-stddev --q is required",
        "critical tanh --q x": "keras-winit critical: error: argument --q: "
        "must be a number, not 'x'",
        "demo --output model.h5": "keras-winit demo: error: argument --output: "
        "'model.h5' must end in .keras",
    }.items(),
    ids=lambda v: str(v)[:40],
)
def test_bad_arguments_get_one_line_and_exit_code_2(line, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(line)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    # Python 3.11 puts the choices in quotes.
    assert re.sub(r"choose from .*\)", lambda m: m[0].replace("'", ""), err) == f"{sentence}\n"


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sparsemax", "glu", "threshold"])
def test_activations_of_whole_rows_are_refused(activation, capsys):
    assert run(f"propagate --init zeros --activation {activation}") == 2
    assert capsys.readouterr().err == (
        "keras-winit: error: `propagate(activation=...)` must act on each entry by itself. "
        f"Received: activation='{activation}'.\n"
    )


def test_a_picture_of_no_known_format(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("propagate --init 'winit>zeros' --plot out.foo")
    assert stopped.value.code == 2
    assert re.fullmatch(
        r"keras-winit propagate: error: argument --plot: 'out\.foo' must end in one of .*\.png.*\n",
        capsys.readouterr().err,
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    tmp_path.chmod(0o500)
    with pytest.raises(SystemExit):
        run(f"demo --output {tmp_path}/x.keras")
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "line", "cure"),
    [
        ("sklearn.datasets", "demo", "pip install scikit-learn"),
        ("matplotlib.figure", "propagate --init zeros --plot x.png", "pip install matplotlib"),
    ],
)
def test_a_missing_extra_is_named(missing, line, cure, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with contextlib.suppress(SystemExit):
        assert run(line) == 1
    err = capsys.readouterr().err
    assert cure in err
    assert err.count("\n") == 1


def test_what_goes_wrong_at_work_is_one_line(capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiments, "propagate", full)
    assert run("propagate --init zeros") == 1
    assert capsys.readouterr().err == "keras-winit: error: [Errno 28] No space left on device\n"


def test_ctrl_c(monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "propagate", interrupt)
    assert run("propagate --init zeros") == 130


def test_demo(capsys, tmp_path):
    model = tmp_path / "digits.keras"
    assert run(f"demo --epochs 4 --output {model}") == 0
    out = capsys.readouterr().out
    assert re.search(r"epoch  winit>small_normal  winit>he_normal", out)
    bad, good = re.search(r"^    4 +([\d.]+)% +([\d.]+)%$", out, re.M).groups()
    assert float(bad) < 20
    assert float(good) > 75
    for name in ("winit>small_normal", "winit>he_normal"):
        table = re.search(rf"^{name}: step 150, loss [\d.]+\n(.*?)\n\n", out, re.M | re.S)[1]
        assert [line.split()[0] for line in table.splitlines()] == [
            "layer",
            *(f"hidden_{number}" for number in range(1, 9)),
            "scores",
        ]
    logs = tmp_path / "digits-logs"
    assert f"tensorboard --logdir {logs}\n" in out
    assert "http://localhost:6006/?pinnedCards=" in out
    for role in ("bad_winit_small_normal", "good_winit_he_normal"):
        assert len(list((logs / role / "winit").glob("events.out.tfevents.*"))) == 1
    assert out.endswith("its 450 predictions are equal, to the last bit\n")
    assert keras.models.load_model(model).layers[0].kernel_initializer.identifier == (
        "winit>he_normal"
    )


def test_demo_notices_other_predictions(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "RELOAD", cli.RELOAD.replace("model.predict(", "1 + model.predict("))
    assert run(f"demo --epochs 1 --output {tmp_path / 'digits.keras'}") == 1
    assert "predicts otherwise" in capsys.readouterr().err


@pytest.mark.parametrize(("rest", "code"), [("list | true", 0), ("list > /dev/full", 1)])
def test_as_a_process_whose_reader_leaves(rest, code):
    if "/dev/full" in rest and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m keras_winit {rest}"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("No space left" in done.stderr) == (code == 1)


def test_in_a_terminal_without_root_signs(fresh_process, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    out = fresh_process("from keras_winit.cli import main; main(['list'])")
    assert re.search(r"winit>fan_in_uniform +U\(\?gain / \?fan_in\)", out)


def test_as_it_is_installed():
    installed = Path(sys.executable).with_name("keras-winit")
    version = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"keras-winit {keras_winit.__version__}\n"
