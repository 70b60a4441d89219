"""Errors: one line on the standard error, and the exit code."""

import contextlib
import os
import re
import sys

import pytest

from keras_winit import experiments


@pytest.mark.parametrize(
    ("line", "sentence"),
    {
        "": "keras-winit: error: the following arguments are required: command",
        "shown": "keras-winit: error: argument command: invalid choice: 'shown' "
        "(choose from list, show, gain, critical, rules, propagate, check, demo)",
        "show spars": "keras-winit show: error: argument NAME: no scheme 'spars'. "
        "Did you mean 'winit>sparse'? `keras-winit list` shows all.",
        "show qqq": "keras-winit show: error: argument NAME: no scheme 'qqq'. "
        "`keras-winit list` shows all.",
        "propagate": "keras-winit propagate: error: the following arguments are required: --init",
        "propagate --init 'winit>He_Normal'": "keras-winit propagate: error: argument --init: "
        "no initializer 'winit>He_Normal'. Did you mean 'winit>he_normal'? "
        "`keras-winit list` shows all.",
        "propagate --init function": "keras-winit propagate: error: argument --init: "
        "no initializer 'function'. `keras-winit list` shows all.",
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
        f"demo --output {'x' * 300}": "keras-winit demo: error: argument --output: "
        f"'{'x' * 300}' cannot be written",
        f"demo --output {__file__}": "keras-winit demo: error: argument --output: "
        f"'{__file__}' is a file, not a folder",
        "critical tanh": "keras-winit critical: error: "
        "one of the arguments --bias-stddev --q is required",
        "critical tanh --q x": "keras-winit critical: error: argument --q: "
        "must be a number, not 'x'",
        "demo --output /no/where": "keras-winit demo: error: argument --output: "
        "no folder '/no' for '/no/where'",
    }.items(),
    ids=lambda v: str(v)[:40],
)
def test_bad_arguments_get_one_line_and_exit_code_2(run, line, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(line)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    # Python 3.11 puts the choices in quotes.
    assert re.sub(r"choose from .*\)", lambda m: m[0].replace("'", ""), err) == f"{sentence}\n"


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sparsemax", "glu", "threshold"])
def test_activations_that_mix_entries_are_refused(run, activation, capsys):
    assert run(f"propagate --init zeros --activation {activation}") == 2
    assert capsys.readouterr().err == (
        "keras-winit: error: `propagate(activation=...)` must act on each entry by itself. "
        f"Received: activation='{activation}'.\n"
    )


def test_a_picture_of_an_unknown_format(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("propagate --init 'winit>zeros' --plot out.foo")
    assert stopped.value.code == 2
    assert re.fullmatch(
        r"keras-winit propagate: error: argument --plot: 'out\.foo' must end in one of .*\.png.*\n",
        capsys.readouterr().err,
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run, tmp_path, capsys):
    tmp_path.chmod(0o500)
    with pytest.raises(SystemExit):
        run(f"demo --output {tmp_path}/out")
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "line", "cure"),
    [
        ("sklearn.datasets", "demo", "pip install scikit-learn"),
        ("matplotlib.figure", "propagate --init zeros --plot x.png", "pip install matplotlib"),
    ],
)
def test_a_missing_extra_is_named(run, missing, line, cure, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with contextlib.suppress(SystemExit):
        assert run(line) == 1
    err = capsys.readouterr().err
    assert cure in err
    assert err.count("\n") == 1


def test_a_failure_of_the_work_is_one_line_and_exit_code_1(run, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiments, "propagate", full)
    assert run("propagate --init zeros") == 1
    assert capsys.readouterr().err == "keras-winit: error: [Errno 28] No space left on device\n"


def test_ctrl_c_gives_exit_code_130(run, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "propagate", interrupt)
    assert run("propagate --init zeros") == 130


@pytest.mark.parametrize(
    "line",
    [
        "gain gleu",
        "gain gleu --mode torch",
        "critical sigmoid --q 1",
        "critical tanh --bias-stddev 1e308",
        "critical tanh --q 1e308",
        "critical tanh --q nan",
    ],
)
def test_an_error_of_the_theory_is_one_line_and_exit_code_2(run, line, capsys):
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"keras-winit: error: `[a-z_]+\(.*\n", err)
