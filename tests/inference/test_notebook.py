"""The notebook about the Python door: every cell runs, in order, with another model, too."""

import ast
import json
import tempfile

import pytest

from tests.processes import ROOT

NOTEBOOK = json.loads((ROOT / "vlfau_jax" / "inference" / "python.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_every_cell_runs(model_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VLFAU_MODEL", str(model_folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shared, told = {"__name__": "__main__"}, []
    for number, cell in enumerate(CELLS, 1):
        told.append(run("".join(cell["source"]), f"cell {number}", shared))
    assert shared["model"].digest == shared["one"].digest
    assert "- no face" in capsys.readouterr().out
    assert told[-3].size == (64, 32), "the overlay: a face and the same with its map"


def run(source, name, shared):
    """Runs a cell as Jupyter does: the value of an expression at its end is what it shows."""
    tree = ast.parse(source, name)
    shown = None
    if isinstance(tree.body[-1], ast.Expr):
        shown = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), shared)
    return None if shown is None else eval(compile(shown, name, "eval"), shared)


def test_what_it_shows_is_labelled_and_no_error():
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"])
    assert "synthetic" in text
    kinds = {output["output_type"] for cell in CELLS for output in cell["outputs"]}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert not any("/tmp" in json.dumps(cell["outputs"]) for cell in CELLS)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell["id"])
def test_cells_are_plain_python(cell):
    ast.parse("".join(cell["source"]))
