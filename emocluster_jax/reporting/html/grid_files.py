"""Reads the work directory of an experiment."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from emocluster_jax.config import is_label_name
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.run_results import TEST_SCORES
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.reporting.html.rendering import data_uri
from emocluster_jax.reporting.html.run_files import RunFiles, read_run_files, unless_wrong
from emocluster_jax.storage.checksums import read_bytes, read_text
from emocluster_jax.storage.json_files import shortened
from emocluster_jax.training.workdir import RUN_FILE

RESULTS_FILE = "results.csv"
_SETTINGS = ("model", "stages", "clusters", "unlabeled_size", "without", "attribute", "seed", "fold")
"""Columns of the results that tell one run from another."""
_NEEDED = ("model", "attribute", "workdir", "test_ccc")
_NUMBERS = (
    *("clusters", "unlabeled_size", "seed", "fold", "best_epoch", "epochs"),
    *("test_ccc", "test_pearson", "test_rmse", "test_sentences", "test_not_finite", "validation_ccc"),
)
"""Columns of cells that are empty or a number."""
_LARGEST = 1e100
_MOST_RESULT_BYTES, _MOST_TABLE_BYTES, _MOST_PICTURE_BYTES = 16 << 20, 1 << 20, 16 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_REMEDY = "run the experiment again, which rewrites it"


class Picture(NamedTuple):
    """A PNG file: a title from its name, and its content as a `data:` URI."""

    title: str
    uri: str


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Attributes:
      settings: those in which runs differ, by the columns of the results.
      files: None if the work directory is missing, damaged, or of another run than the results.
      problems: why there are none, or which cannot be shown, one line each.
    """

    workdir: Path
    settings: dict[str, str]
    files: RunFiles | None
    problems: Sequence[str]

    @property
    def title(self) -> str:
        """Its settings in a line, e.g. "DeepEmoCluster, stages both, clusters 10, seed 0"."""
        others = {name: value for name, value in self.settings.items() if name != "model" and value}
        parts = [f"{name.replace('_', ' ')} {value}" for name, value in others.items()]
        return ", ".join([system_title(self.settings.get("model", "")), *parts])


@dataclass(frozen=True)
class GridFiles:
    """An experiment.

    Attributes:
      results: cells by column, one row per run, attribute and table that shows it.
      tables: as Markdown.
      runs: each once, in the order of the results.
      problems: results, tables and figures that cannot be shown, one line each.
    """

    workdir: Path
    results: list[dict[str, str]]
    tables: list[str]
    pictures: list[Picture]
    runs: list[GridRun]
    problems: list[str]


def system_title(name: str) -> str:
    """The system's name as in the experiment's tables; an unknown one as it is."""
    return next((network.title for system, network in NETWORKS.items() if system == name), name)


def is_grid(workdir: Path) -> bool:
    """Whether it is the work directory of an experiment, not of a single run."""
    return os.path.lexists(workdir / RESULTS_FILE) and not os.path.lexists(workdir / RUN_FILE)


def read_grid(workdir: Path) -> GridFiles:
    """Reads the work directory of `launch.experiment`."""
    problems: list[str] = []
    results = unless_wrong(lambda: _results(workdir / RESULTS_FILE), [], problems)
    # In the order of the results, followed by those that the results do not name.
    names = list(dict.fromkeys(record.get("table") for record in results))
    order = {name: number for number, name in enumerate(names)}
    paths = sorted((workdir / "tables").glob("*.md"), key=lambda path: (order.get(path.stem, len(order)), path.stem))
    pictures = [
        unless_wrong(partial(_picture, path), None, problems) for path in sorted((workdir / "figures").glob("*.png"))
    ]
    tables = [unless_wrong(partial(read_text, path, _REMEDY, _MOST_TABLE_BYTES), None, problems) for path in paths]
    first: dict[str, dict[str, str]] = {}
    for record in results:
        first.setdefault(record["workdir"], record)
    return GridFiles(
        workdir,
        results,
        [text for text in tables if text is not None],
        [picture for picture in pictures if picture is not None],
        [_run(workdir / folder, record) for folder, record in first.items() if folder],
        problems,
    )


def _run(workdir: Path, record: dict[str, str]) -> GridRun:
    settings = {name: record[name] for name in _SETTINGS if name in record}
    problems: list[str] = []
    files = unless_wrong(partial(_read_run, workdir, settings, record["test_ccc"]), None, problems)
    return GridRun(workdir, settings, files, problems if files is None else files.problems)


def _read_run(workdir: Path, settings: dict[str, str], test_ccc: str) -> RunFiles:
    """Reads a run's work directory and checks that the results are of this run."""
    files = read_run_files(workdir)
    config = files.saved.config
    own = {
        "model": config.model.system,
        "stages": config.stages,
        "clusters": str(config.model.clusters),
        "unlabeled_size": str(config.unlabeled_size),
        "attribute": ",".join(config.model.attributes),
        "seed": str(config.seed),
        "fold": "" if config.fold is None else str(config.fold),
    }
    for name, value in settings.items():
        # What a run is without is in several of its settings; systems without clusters have no number of them.
        if name != "without" and value != own[name] and (name, value) != ("clusters", ""):
            raise InputError(
                f"{workdir / RUN_FILE} is of a run with {name} {own[name]}, but {RESULTS_FILE} has {value}; {_REMEDY}"
            )
    # A run that was resumed and has not finished has no scores.
    for score in files.scores.values():
        if not np.array_equal(score.ccc, float(test_ccc or "nan"), equal_nan=True):
            raise InputError(
                f"the test CCC in {workdir / TEST_SCORES} is {score.ccc:.4f}, but {RESULTS_FILE} has "
                f"{test_ccc or 'none'}; {_REMEDY}"
            )
    return files


def _results(path: Path) -> list[dict[str, str]]:
    """The rows' cells by column, with columns and numbers checked."""
    try:
        text = read_text(path, _REMEDY, _MOST_RESULT_BYTES)
        # If no run is complete, the file is empty.
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [_NEEDED]
    except (FileNotFoundError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table ({error}); {_REMEDY}") from None
    if missing := [name for name in _NEEDED if name not in header]:
        raise InputError(f"{path} has no column {missing[0]}; {_REMEDY}")
    if wrong := [len(row) for row in rows if len(row) != len(header)]:
        raise InputError(f"{path}: a row of {wrong[0]} cells below a header of {len(header)}; {_REMEDY}")
    records = [dict(zip(header, row, strict=True)) for row in rows]
    for number, record in enumerate(records, start=1):
        for name in _NUMBERS:
            if not _is_number(record.get(name, "")):
                raise InputError(f"{path}, row {number}: {name} is {shortened(repr(record[name]))}; {_REMEDY}")
        if not is_label_name(record["attribute"]):
            raise InputError(f"{path}, row {number}: no attribute {shortened(repr(record['attribute']))}; {_REMEDY}")
        workdir = PurePath(record["workdir"])
        if workdir.is_absolute() or ".." in workdir.parts:
            raise InputError(f"{path}, row {number}: the workdir {shortened(str(workdir))} lies elsewhere; {_REMEDY}")
    return records


def _is_number(cell: str) -> bool:
    """Whether a cell is a number that can be drawn, or empty."""
    try:
        return abs(float(cell or "0")) <= _LARGEST
    except ValueError:
        return False


def _picture(path: Path) -> Picture:
    content = read_bytes(path, _REMEDY, _MOST_PICTURE_BYTES)
    if not content.startswith(_PNG):
        raise InputError(f"{path} is not a PNG file; {_REMEDY}")
    # E.g. "Epochs, table 1" of "epochs_table1".
    title = re.sub(r"(?<=[a-z])(?=[0-9])", " ", path.stem.replace("_", ", ")).capitalize()
    return Picture(title, data_uri("image/png", content))
