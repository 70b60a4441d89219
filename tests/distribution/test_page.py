"""The code of docs/distributed.md runs on its backend and prints what the page says."""

import re
from pathlib import Path

import keras
import pytest

BACKEND = keras.backend.backend()
PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"
BLOCK = re.compile(r"^```python (\w+)\n(.*?)^```\n\n^```text\n(.*?)^```$", re.M | re.S)
CODE = {backend: (code, printed) for backend, code, printed in BLOCK.findall(PAGE.read_text())}


def test_each_block_has_a_backend_and_an_output():
    assert {*CODE} == {"jax", "tensorflow"}
    assert PAGE.read_text().count("```python") == len(CODE)


@pytest.mark.skipif(BACKEND not in CODE, reason="Keras distributes on JAX and TensorFlow only")
def test_the_code_prints_what_the_page_says(fresh_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = CODE[BACKEND]
    assert fresh_process(code) == printed
