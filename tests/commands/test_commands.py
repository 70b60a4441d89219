"""The subcommands: what each prints and draws."""

import re

import pytest

import keras_winit
from keras_winit import experiments
from keras_winit.initializers import REGISTRY


def test_list_shows_every_scheme(run, capsys):
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(REGISTRY)
    for line, cls in zip(lines[1:], REGISTRY.values(), strict=True):
        cells = re.split(r"  +", line)
        assert cells == [cls.identifier, cls.formula, cls.use, cls.source]


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_show(run, name, capsys):
    for line in (f"show {name}", f"show 'winit>{name}'"):
        assert run(line) == 0
        out = capsys.readouterr().out
        cls = REGISTRY[name]
        assert f'kernel_initializer="winit>{name}"' in out
        for text in (cls.formula, cls.use, cls.source, cls.__doc__.splitlines()[0]):
            assert text in out


def test_show_draws(run, capsys, tmp_path):
    picture = tmp_path / "out.png"
    # These schemes take different shapes: any kernel, that of a convolution, a square one, a bias.
    for name in ("sparse", "constant", "bilinear", "icnr", "irnn", "chrono", "fan_in_bias"):
        assert run(f"show {name} --plot {picture}") == 0
        assert capsys.readouterr().out.endswith(f"\ndrawn: {picture}\n")
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_rules(run, capsys):
    assert run("rules") == 0
    out = capsys.readouterr().out
    for rule in keras_winit.monitor.RULES:
        for text in (rule.id, rule.fires, rule.cause, rule.remedy, rule.origin):
            assert text in out
    assert run("rules --markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(keras_winit.monitor.RULES)
    assert {line.replace("\\|", "").count("|") for line in lines} == {7}


def test_gain(run, capsys):
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


def test_critical(run, capsys):
    assert run("critical tanh --bias-stddev 0.22") == 0
    out, err = capsys.readouterr()
    assert out == f"{keras_winit.critical_point('tanh', 0.22)}\n"
    assert err == ""
    assert run("critical exponential --q 2") == 0
    assert capsys.readouterr().err == (
        "keras-winit: warning: The critical point of exponential at q=2 is not stable: "
        "with chi_q=2 the variance does not return to q.\n"
    )


def test_propagate(run, capsys, tmp_path):
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
