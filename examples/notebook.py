"""Builds `notes.ipynb` from the chapters 01 to 06, and runs it.

    pip install ".[notebook]"
    python examples/notebook.py

The docstring of a chapter becomes text, and each part that begins with `# %%` a cell of code.
"""

import ast
import re
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

EXAMPLES = Path(__file__).parent
NOTEBOOK = EXAMPLES / "notes.ipynb"
TITLE = "# The chapters of the CS231n notes on weight initialization, with `keras_winit`"
SETUP = "%matplotlib inline"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def chapters():
    """Return the files of the chapters, in order."""
    return sorted(EXAMPLES.glob("0[1-6]_*.py"))


def build():
    """Return the notebook without outputs."""
    cells = [new_markdown_cell(TITLE), new_code_cell(SETUP)]
    for path in chapters():
        source = path.read_text()
        title, _, text = ast.get_docstring(ast.parse(source)).partition("\n")
        cells.append(new_markdown_cell(f"## {title}\n\n{text.strip()}"))
        _, *parts = re.split(r"^# %% ?", source, flags=re.M)
        for part in parts:
            comment, _, code = part.partition("\n")
            if comment:
                cells.append(new_markdown_cell(comment))
            cells.append(new_code_cell(code.strip()))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def run(notebook):
    """Run a notebook in a fresh kernel, in an empty folder."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        options = {"timeout": 600, "resources": {"metadata": {"path": folder}}}
        NotebookClient(notebook, record_timing=False, **options).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # Log lines of the backend go to the standard error.
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]


if __name__ == "__main__":
    notebook = build()
    run(notebook)
    nbformat.write(notebook, NOTEBOOK)
