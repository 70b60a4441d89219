"""The README and the pages of docs/ are right: table, commands, links, code and its output."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_winit_commands import main

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@by_page
def test_code_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    scope = {"keras": keras, "np": np}
    text = page.read_text()
    blocks = list(BLOCK.finditer(text))
    outputs = {}
    for block, follower in zip(blocks, [*blocks, None][1:], strict=True):
        if block[1] != "python":
            continue
        out = io.StringIO()
        with redirect_stdout(out):
            exec(block[2], scope)
        if follower and follower[1] == "text":
            outputs[follower.span(2)] = out.getvalue()
        else:
            assert not out.getvalue(), "The page does not show what this code prints."
    if request.config.getoption("--overwrite"):
        for (start, end), printed in reversed(outputs.items()):
            text = text[:start] + printed + text[end:]
        page.write_text(text)
    for (start, end), printed in outputs.items():
        assert printed == text[start:end]


@by_page
def test_links_lead_somewhere(page):
    targets = re.findall(
        r"\]\(([^):#]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\":]+)\"", page.read_text()
    )
    for target in filter(None, (linked or shown for linked, shown in targets)):
        assert (page.parent / target).exists(), target


@by_page
def test_links_within_a_page_lead_to_a_heading(page):
    text = page.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in headings, anchor


def test_the_readme_names_every_page():
    text = README.read_text()
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in text, page.name


def test_the_table_is_the_registry():
    out = io.StringIO()
    with redirect_stdout(out):
        main(["list", "--markdown"])
    assert out.getvalue() in (ROOT / "docs" / "schemes.md").read_text()


def test_ci_runs_the_command_of_the_readme():
    commands = [code.strip() for language, code in BLOCK.findall(README.read_text())]
    test = next(command for command in commands if "pytest" in command)
    assert test in (ROOT / ".ci" / "run").read_text()


LOAD = """
import sys, keras
keras.models.load_model(sys.argv[1])
"""


def test_the_error_of_a_forgotten_import_is_quoted(tmp_path, fresh_process):
    page = (ROOT / "docs" / "saving.md").read_text()
    quoted = re.search(r"gets a `(\w+)` that ends in\s+`(.*?), \.\.\.}`", page, re.S)
    error, beginning = quoted[1], " ".join(quoted[2].split())
    layer = keras.layers.Dense(4, kernel_initializer="winit>sparse")
    keras.Sequential([keras.Input((8,)), layer]).save(tmp_path / "model.keras")
    output = fresh_process(LOAD, tmp_path / "model.keras", check=False)
    assert f"\n{error}: " in output
    assert beginning in output.strip().splitlines()[-1]
