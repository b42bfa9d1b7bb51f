"""Every notebook runs from top to bottom, and is committed without output."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from draws import quick_of

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BY_NAME = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_first_schedule_is_there():
    assert "01_first_schedule" in [path.stem for path in NOTEBOOKS]


@BY_NAME
def test_notebook_is_stripped_of_output(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


@BY_NAME
def test_notebook_is_thin_over_the_api(path):
    """It imports spm_opt alone (and the standard library), and only its public names."""
    import spm_opt

    source = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    for node in ast.walk(ast.parse(source)):
        assert not (isinstance(node, ast.ImportFrom) and str(node.module).startswith("spm_opt."))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "spm_opt":
            assert node.attr in spm_opt.__all__
        assert not isinstance(node, (ast.FunctionDef, ast.ClassDef))


def hurried(source: str) -> str:
    """A cell whose searches end soon, with whatever they have found."""
    return re.sub(r"\btime_limit=[\d.]+", "time_limit=0.1", source)


@BY_NAME
def test_cells_of_a_notebook_run(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    printed = 0
    for cell in code_cells(nbformat.read(path, as_version=4)):
        exec(compile(hurried(cell.source), path.name, "exec"), namespace)
        said = capsys.readouterr()
        assert said.err == ""
        printed += bool(said.out)
    assert printed >= 5


@pytest.mark.parametrize("path", quick_of(NOTEBOOKS[:1], NOTEBOOKS), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of the notebook server's libraries, not of ours
def test_notebook_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    # the kernel starts elsewhere: the notebook must not lean on the checkout as its directory
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    printed = [cell for cell in code_cells(notebook) if cell.outputs]
    assert len(printed) >= 5
    for cell in code_cells(notebook):
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.outputs
