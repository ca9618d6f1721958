"""What the work directory of an experiment says of its grid of runs."""

from __future__ import annotations

import base64
import csv
import re
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.errors import InputError
from emocluster_jax.reporting.html.run_files import RunFiles, read_run_files
from emocluster_jax.training.workdir import RUN_FILE

RESULTS_FILE = "results.csv"
_SETTINGS = ("model", "stages", "clusters", "unlabeled_size", "attribute", "seed", "fold")
"""Columns of the results that tell one run from another."""


@dataclass(frozen=True)
class Table:
    """A CSV file: its header and its rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def records(self) -> list[dict[str, str]]:
        """The rows' cells by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Picture:
    """A PNG file: a title made of its name, and what it holds as a `data:` URI."""

    title: str
    uri: str


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Attributes:
      workdir: where it lies.
      settings: what tells it from the other runs, by the columns of the results.
      files: what its work directory says; None where there is none, or a damaged one.
      problem: why there are none.
    """

    workdir: Path
    settings: dict[str, str]
    files: RunFiles | None
    problem: str = ""

    @property
    def title(self) -> str:
        """Its settings in a line."""
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.settings.items() if value)


@dataclass(frozen=True)
class Grid:
    """An experiment.

    Attributes:
      workdir: where it lies.
      results: a row for each run, attribute and table that it counts for.
      tables: what it wrote for people to read, as Markdown.
      pictures: its figures.
      runs: each once, in the order of the results.
    """

    workdir: Path
    results: Table
    tables: tuple[str, ...]
    pictures: tuple[Picture, ...]
    runs: tuple[GridRun, ...]


def is_grid(workdir: Path) -> bool:
    """Whether a directory is that of an experiment, and not that of one run."""
    return (workdir / RESULTS_FILE).is_file() and not (workdir / RUN_FILE).exists()


def read_grid(workdir: Path) -> Grid:
    """Reads the work directory of `launch.experiment`.

    Raises:
      InputError: a table cannot be read.
    """
    results = _table(workdir / RESULTS_FILE)
    return Grid(
        workdir=workdir,
        results=results,
        tables=_tables(workdir / "tables", results),
        pictures=tuple(_picture(path) for path in sorted((workdir / "figures").glob("*.png"))),
        runs=_runs(workdir, results),
    )


def _tables(folder: Path, results: Table) -> tuple[str, ...]:
    """In the order of the results, and what the results do not name after them."""
    names = dict.fromkeys(record.get("table") for record in results.records)
    order = {name: number for number, name in enumerate(names)}
    paths = sorted(folder.glob("*.md"), key=lambda path: (order.get(path.stem, len(order)), path.stem))
    return tuple(path.read_text("utf-8") for path in paths)


def _runs(grid: Path, results: Table) -> tuple[GridRun, ...]:
    by_workdir: dict[str, dict[str, str]] = {}
    for record in results.records:
        workdir = record.get("workdir", "")
        if workdir:
            by_workdir.setdefault(workdir, {name: record[name] for name in _SETTINGS if name in record})
    return tuple(_run(grid / workdir, settings) for workdir, settings in by_workdir.items())


def _run(workdir: Path, settings: dict[str, str]) -> GridRun:
    try:
        return GridRun(workdir, settings, read_run_files(workdir))
    except InputError as error:
        return GridRun(workdir, settings, None, str(error))


def _table(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # Without a run that is complete the file is empty.
            header, *rows = [tuple(row) for row in csv.reader(file) if row] or [()]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table ({error}); run the experiment again") from None
    uneven = next((row for row in rows if len(row) != len(header)), None)
    if uneven is not None:
        cells = f"{len(uneven)} cells below a header of {len(header)}"
        raise InputError(f"{path}: a row of {cells}; run the experiment again")
    return Table(header, tuple(rows))


def _picture(path: Path) -> Picture:
    # E.g. "Epochs, table 1" of "epochs_table1".
    title = re.sub(r"(?<=[a-z])(?=[0-9])", " ", path.stem.replace("_", ", ")).capitalize()
    return Picture(title, "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))
