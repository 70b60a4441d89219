"""The notebook is what `examples/notebook.py` builds, and it runs."""

import json
import runpy
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
nbformat = pytest.importorskip("nbformat", reason='pip install ".[notebook]"')
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="one backend is enough, and PyTorch starts first"
)


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(EXAMPLES / "notebook.py"))


def test_the_notebook_holds_the_chapters_as_they_are(script):
    committed = json.loads((EXAMPLES / "notes.ipynb").read_text())
    built = script["build"]()
    assert ["".join(cell["source"]) for cell in committed["cells"]] == [
        cell.source for cell in built.cells
    ]


def test_the_committed_notebook_shows_numbers_and_pictures():
    notebook = nbformat.read(EXAMPLES / "notes.ipynb", as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert not any(output.output_type == "error" for output in outputs)


def test_the_notebook_runs(script):
    pytest.importorskip("nbclient", reason='pip install ".[notebook]"')
    pytest.importorskip("ipykernel", reason='pip install ".[notebook]"')
    notebook = script["build"]()
    script["run"](notebook)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
