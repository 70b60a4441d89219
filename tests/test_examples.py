"""The examples run, and their numbers are as their texts say."""

import ast
import re
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
BACKEND = keras.backend.backend()
# Accuracies: guessing among ten digits stays below the first, a trained network exceeds the second.
GUESS, LEARNED = 0.25, 0.7


def zeros_and_constants(names):
    zeros, constant, he = names["results"]
    assert {*zeros.after, *constant.after} == {1}
    assert {*he.before, *he.after} == {16}
    *equal, different = names["accuracies"]
    assert max(equal) < GUESS < LEARNED < different


def small_and_large_normals(names):
    small, large = names["results"]
    ratios = np.divide(
        [layer.stddev for layer in small.layers[1:]], [layer.stddev for layer in small.layers[:-1]]
    )
    # The weights have stddev 0.01, and each unit has 500 inputs.
    assert ratios == pytest.approx(0.01 * 500**0.5, rel=0.1)
    assert min(layer.saturated_share for layer in large.layers) > 0.9
    vanished, exploded, kept = names["gradients"].values()
    assert vanished < 1e-8
    assert exploded > 100
    assert 1 / 3 < kept < 3


def xavier_and_he(names):
    small, he = names["relu"]
    assert small.layers[0].stddev / small.layers[-1].stddev == pytest.approx(2**4.5, rel=0.1)
    assert he.layers[-1].stddev == pytest.approx(he.layers[0].stddev, rel=0.1)
    for result in names["tanh"]:
        assert result.layers[-1].stddev > 0.2


def sparse(names):
    for width, (ten, dense) in names["sizes"].items():
        assert ten == pytest.approx(0.1 * 10**0.5, rel=0.05)
        assert dense == pytest.approx(0.1 * width**0.5, rel=0.05)
    small, right = names["results"]
    assert small.layers[-1].stddev < 1e-6
    assert right.layers[-1].stddev > 0.2


def biases(names):
    zero, constant = names["accuracies"]
    assert min(zero, constant) > LEARNED
    assert abs(zero - constant) < 0.05
    half, prior = names["losses"]
    assert half == pytest.approx(np.log(2), rel=1e-4)
    assert 0.03 < prior < 0.07
    assert names["kept"] == pytest.approx(0.731, abs=1e-3)


def batch_norm(names):
    plain, normalized = names["results"]
    assert plain.layers[-1].stddev < 1e-6
    # tanh of N(0, 1) has the standard deviation 0.628.
    assert [layer.stddev for layer in normalized.layers] == pytest.approx([0.628] * 10, rel=0.02)
    without, with_it = names["accuracies"]
    assert without < GUESS < LEARNED < with_it


def report_and_repair(names):
    before = {(finding.rule, finding.layer) for finding in names["before"].findings}
    before |= {
        (other.rule, other.layer)
        for finding in names["before"].findings
        for other in finding.consequences
    }
    assert {layer for _, layer in before} >= {"big", "zero"}
    assert names["after"].verdict.startswith("Nothing is wrong with this start")


def gelu_50_layers(names):
    *usual, repaired = names["accuracies"]
    assert max(usual) < GUESS < LEARNED < repaired


def monitor_and_tensorboard(names):
    assert min(names["shares"]) > 0.8
    record = names["monitor"].history.records[-1]
    ratios = {
        name: record.lookup(f"{name}/kernel", "update_ratio")
        for name in record.layers
        if f"{name}/kernel" in record.variables
    }
    bad = ratios.pop("bad")
    assert min(ratios.values()) > 5 * bad
    (finding,) = names["monitor"].findings
    assert (finding.rule, finding.layer) == ("wrong_init_for_activation", "bad")


def broken_networks(names):
    first = [findings[0] if findings else None for findings in names["found"].values()]
    assert first == [
        ("dead_units", "hidden_2"),
        ("loss_mismatch", "scores"),
        ("update_too_large", "hidden_1"),
        ("input_scale", "input"),
        None,
    ]


def lsuv_deep_cnn(names):
    default, started = np.transpose([*names["stddevs"].values()])[:, :-1]
    assert default[-1] < 1e-2 * default[0]
    # The standard deviation of a leaky ReLU with slope 0.2, if z is from N(0, 1):
    # E[f] = 0.8 / sqrt(2 pi), E[f²] = 1.04 / 2.
    assert started == pytest.approx([0.647] * 20, rel=0.4)
    guessed, learned = names["accuracies"]
    assert guessed < GUESS < LEARNED < learned


def transformer(names):
    inside, bare = names["squares"]
    assert inside == pytest.approx(1, rel=0.15)
    assert bare == pytest.approx(0.25, rel=0.15)
    default, scaled = names["growth"].values()
    assert default > 1.5 * scaled


def saved_models(names):
    assert [*names["results"].values()] == [True] * 3
    assert names["checksum"] == CHECKSUM


# The checksum of the kernel of `Sparse(connections=15, gain=2**0.5, seed=7)`, of shape (64, 32).
CHECKSUM = "42ee44a7200c30e8"

CLAIMS = {
    "01": zeros_and_constants,
    "02": small_and_large_normals,
    "03": xavier_and_he,
    "04": sparse,
    "05": biases,
    "06": batch_norm,
    "07": report_and_repair,
    "08": gelu_50_layers,
    "09": monitor_and_tensorboard,
    "10": broken_networks,
    "11": lsuv_deep_cnn,
    "12": transformer,
    "13": saved_models,
}
NUMBERED = {path.name[:2]: path for path in sorted(EXAMPLES.glob("[0-9]*.py"))}


@pytest.mark.backend_independent
def test_each_example_is_tested():
    assert {*NUMBERED} == {*CLAIMS, "14"}


@pytest.mark.backend_independent
def test_the_index_lists_the_examples_with_their_titles():
    titles = {
        path.name: ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].rstrip(".")
        for path in NUMBERED.values()
    }
    rows = [f"| [{name}]({name}) | {title} |" for name, title in titles.items()]
    assert "\n".join(rows) + "\n" in (EXAMPLES / "README.md").read_text()


@pytest.mark.backend_independent
@pytest.mark.parametrize("number", CLAIMS)
def test_the_numbers_of_an_example_support_its_text(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(NUMBERED[number]), run_name="__main__")
    assert capsys.readouterr().out.count("\n") > 2
    CLAIMS[number](names)
    for picture in re.findall(r'"(\w+\.png)"', NUMBERED[number].read_text()):
        assert (tmp_path / picture).stat().st_size > 10_000


@pytest.mark.skipif(BACKEND == "torch", reason="Keras distributes on JAX and TensorFlow only")
def test_several_devices_have_the_records_of_one(fresh_process):
    run = f"import runpy; runpy.run_path({str(NUMBERED['14'])!r}, run_name='__main__')"
    printed = fresh_process(run)
    assert float(printed.split()[-1]) < 1e-5


@pytest.mark.backend_independent
@pytest.mark.parametrize("number", NUMBERED)
def test_an_example_is_short_and_uses_public_names_only(number):
    source = NUMBERED[number].read_text()
    assert source.count("\n") < 80
    assert not re.search(r"\._\w|keras\.src|import _", source)
    for module in re.findall(r"^(?:from|import) (keras_winit[.\w]*)", source, re.M):
        assert module == "keras_winit", module
