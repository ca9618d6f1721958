"""docs/notebook.ipynb, executed as Jupyter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import emocluster_jax

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    """What the executed cells show at their end, by the cells' ids: its representations by their types."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    return {
        id: output.data
        for id, cell_outputs in outputs.items()
        for output in cell_outputs
        if output.output_type in ("execute_result", "display_data")
    }


def test_the_file_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_what_it_leaves(results: dict[str, Any], folder: Path) -> None:
    assert emocluster_jax.load_model(folder / "run").attributes == ("arousal", "valence")
    table = emocluster_jax.read_predictions(folder / "predictions.csv")
    assert table.index.get_level_values("file").tolist() == [f"{i:02}.wav" for i in range(16)]
    assert list(table.columns) == ["arousal", "valence"] and table.notna().all(axis=None)


def test_what_it_shows(results: dict[str, Any]) -> None:
    assert "train 8, validation 4, test 4" in results["prepare-recordings"]["text/plain"]
    assert "adam_learning_rate=0.001" in results["choose-settings"]["text/plain"]
    assert "Run in run, 2 epochs: the best is epoch" in results["fit-run"]["text/html"]
    for cell in ("fit-run", "evaluate-run"):
        assert "<td>arousal" in results[cell]["text/html"] and "Pearson r" in results[cell]["text/plain"]
    assert results["plot"]["image/png"]
    assert "Predictions of 16 files, 16 rows" in results["predict-recordings"]["text/plain"]
    assert "and 6 more" in results["predict-recordings"]["text/html"]
    assert "audio/wav" in results["play"]["text/html"]
