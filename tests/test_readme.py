"""The README is true: its table, its commands, its code and what it says that code prints."""

import io
import re
import runpy
from contextlib import redirect_stdout
from pathlib import Path

import keras
import pytest

from keras_winit_commands import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)


def test_the_table_is_the_registry():
    out = io.StringIO()
    with redirect_stdout(out):
        main(["list", "--markdown"])
    assert out.getvalue() in README


def test_code_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"keras": keras}
    followers = [*BLOCKS[1:], ("", "")]
    ran = 0
    for (language, code), (next_language, expected) in zip(BLOCKS, followers, strict=True):
        if language != "python":
            continue
        out = io.StringIO()
        with redirect_stdout(out):
            exec(code, scope)
        ran += 1
        if next_language == "text":
            assert out.getvalue() == expected
    assert ran == 8


def test_ci_runs_the_command_of_the_readme():
    commands = [code.strip() for language, code in BLOCKS if language == "sh"]
    test = next(command for command in commands if "pytest" in command)
    assert test in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


LOAD = """
import sys, keras
keras.models.load_model(sys.argv[1])
"""


def test_the_error_of_a_forgotten_import_is_quoted(tmp_path, fresh_process):
    quoted = re.search(r"gets a `(\w+)` that ends in\s+`(.*?), \.\.\.}`", README, re.S)
    error, beginning = quoted[1], " ".join(quoted[2].split())
    layer = keras.layers.Dense(4, kernel_initializer="winit>sparse")
    keras.Sequential([keras.Input((8,)), layer]).save(tmp_path / "model.keras")
    output = fresh_process(LOAD, tmp_path / "model.keras", check=False)
    assert f"\n{error}: " in output
    assert beginning in output.strip().splitlines()[-1]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("\n# ") >= 12
