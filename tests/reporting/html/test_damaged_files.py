"""What a work directory holds may be damaged, another run's, or a stranger's: the page names it and is made without."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_information import ClusterInformation, Information
from emocluster_jax.evaluation.metrics import score_sentences
from emocluster_jax.evaluation.run_results import (
    CLUSTERS_FILE,
    TEST_PREDICTIONS,
    TEST_SCORES,
    RunScores,
    SentencePredictions,
    write_clusters,
    write_run_scores,
    write_test_predictions,
)
from emocluster_jax.experiment.collect import collect
from emocluster_jax.experiment.completed import is_complete, read_completed
from emocluster_jax.experiment.grid import Grid, Run, Setting
from emocluster_jax.inference.model_directory import save_model
from emocluster_jax.interop.model_card import model_card, read_run_numbers
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.reporting.html.grid_files import is_grid, read_grid
from emocluster_jax.reporting.html.grid_page import grid_page
from emocluster_jax.reporting.html.run_files import read_run_files
from emocluster_jax.reporting.html.run_page import Extent, run_page, view_data
from emocluster_jax.storage.checksums import file_sha256
from emocluster_jax.storage.json_files import sealed
from emocluster_jax.training import workdir
from emocluster_jax.training.metrics_log import METRICS_FILE, MetricsLog
from emocluster_jax.training.workdir import claim, read_run, write_assignments
from launch import report
from made_runs import make_plan, make_run
from running import call
from small_models import small_model
from small_records import write_records
from test_hostile_texts import ABSURD, no_json, places

FEATURES = FeatureConfig(mel_bands=4, chunk_frames=2, chunks_per_utterance=2)
RECORDINGS = 8
EXTENT = Extent(10, 1, 1.0)
QUIET = Console(quiet=True)
ASSIGNMENTS = "assignments/epoch-000002.npz"
JSON_FILES = (METRICS_FILE, TEST_SCORES, CLUSTERS_FILE)
LABELS = np.linspace(1, 7, RECORDINGS * 3, dtype=np.float32).reshape(RECORDINGS, 3)


def make_work(folder: Path, seed: int = 0, labels: np.ndarray = LABELS) -> Path:
    """A folder with records in `data` and in `run` a run of two epochs on them, without a model."""
    write_records(folder / "data", FEATURES, {"train": (np.zeros((RECORDINGS, 2, 2, 4), np.float16), labels)})
    run = folder / "run"
    run.mkdir()
    data = read_preparation(folder / "data").fingerprint
    claim(run, TrainConfig(model=ModelConfig(clusters=3), seed=seed), data, resume=False)
    run_id = read_run(run).id
    with MetricsLog(run, run_id=run_id) as log:
        for epoch in (1, 2):
            ccc = {"validation_ccc": {"arousal": 0.1 * epoch}, "validation_ccc_mean": 0.1 * epoch}
            clusters = {"cluster_sizes": [6, 6, 4], "nmi_previous": None if epoch == 1 else 0.5}
            log.write({"epoch": epoch, "stage2_cross_entropy": 1.5, **clusters, **ccc, "best_epoch": 2})
    write_assignments(run, 2, run_id, {"stage2": np.arange(2 * RECORDINGS, dtype=np.int32) % 3})
    known = Information(3, 8, 0.2, 0.3, 0.2, 0.1, 0.04, 0.5, "sentences", 8, 8)
    of_text = ClusterInformation({"arousal": known}, None, known, 5, 999)
    found = ClusterInformation({"arousal": known}, known, None, 5, 999, {"text": of_text})
    write_clusters(run / CLUSTERS_FILE, run_id, 2, found)
    truth, predicted = np.array([[1], [2], [4]], np.float32), np.array([[2], [2], [3]], np.float32)
    write_test_predictions(run / TEST_PREDICTIONS, SentencePredictions(("a", "b", "c"), ("arousal",), truth, predicted))
    scores = score_sentences(truth, predicted, ("arousal",))
    write_run_scores(run / TEST_SCORES, run_id, RunScores(scores, file_sha256(run / TEST_PREDICTIONS)))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_work(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "work"))


def problems_of(work: Path, with_data: bool = False) -> tuple[str, ...]:
    """The lines on what is left out of a run's page."""
    run = read_run_files(work / "run")
    found = run.problems
    if with_data:
        found += view_data(run, work / "data", None, EXTENT, QUIET).problems
    assert all(problem.isprintable() and len(problem) < 1_000 for problem in found)
    return found


def page_and_problems(work: Path, with_data: bool = False) -> tuple[str, tuple[str, ...]]:
    """The run's page, which takes a third of a second, and the lines on what it left out, which must be on it."""
    run = read_run_files(work / "run")
    data = view_data(run, work / "data", None, EXTENT, QUIET) if with_data else None
    page = run_page(run, data, EXTENT)
    problems = problems_of(work, with_data)
    assert page.count('<p class="left-out">Left out: ') == len(problems)
    return page, problems


def sections(page: str) -> set[str]:
    return {part.partition('"')[0] for part in page.split('<section id="')[1:]}


def unreadable(path: Path) -> Iterator[str]:
    """Puts one thing after another in the place of a file that is no file that could be read, and says what."""
    path.unlink()
    for name, put in {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "link to nowhere": lambda: path.symlink_to(path.parent / "nowhere"),
        "link to itself": lambda: path.symlink_to(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "giant": lambda: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 3 << 30),
    }.items():
        put()
        yield name
        path.rmdir() if path.is_dir() else path.unlink()


FILES = (*JSON_FILES, TEST_PREDICTIONS, ASSIGNMENTS)
SECTIONS = {
    METRICS_FILE: {"training"},
    TEST_SCORES: {"scores"},
    CLUSTERS_FILE: {"information"},
    TEST_PREDICTIONS: set(),  # the scores' table is left
    ASSIGNMENTS: {"distributions"},
}


def test_everything_is_shown_of_a_whole_run(work: Path) -> None:
    page, problems = page_and_problems(work, with_data=True)
    assert not problems
    assert sections(page) == {"run", "scores", "training", "information", "distributions", "cutting"}


def json_contents(whole: bytes) -> dict[str, bytes]:
    """Damaged content, and content of other types, for a file of one JSON object."""
    return {
        **no_json(whole),
        "beyond float64": whole.replace(b"0.", b"1e999, 0."),
        "infinite": whole.replace(b"0.", b"Infinity, 0."),
        "an object of lists": b'{"epoch": [], "attributes": [], "scores": [], "arousal": []}',
    }


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_that_is_not_as_written_is_named_and_left_out(work: Path, name: str) -> None:
    path = work / "run" / name
    for title, content in json_contents(path.read_bytes().splitlines()[-1]).items():
        path.write_bytes(content + b"\n" * (name == METRICS_FILE))
        (problem,) = problems_of(work)
        assert name in problem, title
    page, _ = page_and_problems(work)
    left = {"run", "scores", "training", "information"} - SECTIONS[name]
    # Without metrics, and without a model, the epoch that was kept is not known.
    assert sections(page) == left - ({"information"} if name == METRICS_FILE else set())


@pytest.mark.parametrize("name", JSON_FILES)
def test_absurd_values_are_named_or_harmless(work: Path, name: str) -> None:
    path = work / "run" / name
    lines = path.read_text().splitlines() if name == METRICS_FILE else [path.read_text()]
    whole = json.loads(lines[-1])
    named = taken = 0
    for place in places(whole):
        for absurd in (*ABSURD, float("1e39"), "text", [None], [True], {"arousal": "x"}):
            values = copy.deepcopy(whole)
            inner = values
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = absurd
            path.write_text(
                "\n".join([*lines[:-1], json.dumps(values if name == METRICS_FILE else sealed(values)), ""])
            )
            run = read_run_files(work / "run")
            # Of another hash the predictions are not those that were scored.
            assert all(name in problem or TEST_PREDICTIONS in problem for problem in run.problems)
            named += bool(run.problems)
            taken += not run.problems
            if not run.problems and taken % 9 == 1:
                run_page(run, None, EXTENT)
    assert named > 20


CSVS = {
    "nothing": b"",
    "a blank line": b"\n",
    "other columns": b"a,b\n1,2\n",
    "no attribute": b"id\na\n",
    "another attribute": b"id,anger_truth,anger_prediction\na,1,2\n",
    "an attribute twice": b"id,arousal_truth,arousal_prediction,arousal_truth,arousal_prediction\na,1,2,1,2\n",
    "an empty row": b"id,arousal_truth,arousal_prediction\n\na,1,2\n",
    "a row too short": b"id,arousal_truth,arousal_prediction\na,1\n",
    "a row too long": b"id,arousal_truth,arousal_prediction\na,1,2,3\n",
    "text": b"id,arousal_truth,arousal_prediction\na,high,2\n",
    "NaN": b"id,arousal_truth,arousal_prediction\na,nan,2\n",
    "infinity": b"id,arousal_truth,arousal_prediction\na,1,inf\n",
    "beyond float32": b"id,arousal_truth,arousal_prediction\na,1,1e39\n",
    "beyond float64": b"id,arousal_truth,arousal_prediction\na,1,1e999\n",
    "a long number": b"id,arousal_truth,arousal_prediction\na,1," + b"9" * 5_000 + b"\n",
    "a giant field": b"id,arousal_truth,arousal_prediction\n" + b"a" * 200_000 + b",1,2\n",
    "null characters": b"id,arousal_truth,arousal_prediction\na,\0,2\n",
    "an open quote": b'id,arousal_truth,arousal_prediction\n"a,1,2\n',
    "latin-1": "id,arousal_truth,arousal_prediction\né,1,2\n".encode("latin-1"),
    "utf-16": "id,arousal_truth,arousal_prediction\na,1,2\n".encode("utf-16"),
    "a zip": b"PK\x03\x04" + bytes(range(256)),
    "a pickle": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


def trust(run: Path) -> None:
    """Makes the scores be of the predictions that are there, whatever they are."""
    scores = json.loads((run / TEST_SCORES).read_text())
    scores["predictions_sha256"] = file_sha256(run / TEST_PREDICTIONS)
    (run / TEST_SCORES).write_text(json.dumps(sealed(scores)))


@pytest.mark.parametrize("trusted", [False, True])
def test_predictions_that_are_not_as_written(work: Path, trusted: bool) -> None:
    for title, content in CSVS.items():
        (work / "run" / TEST_PREDICTIONS).write_bytes(content)
        if trusted:
            trust(work / "run")
        (problem,) = problems_of(work)
        assert TEST_PREDICTIONS in problem, title
    page, _ = page_and_problems(work)
    assert "predictions-arousal" not in page and "scores" in sections(page)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(header: str, data: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + (len(text) if length is None else length).to_bytes(2, "little") + text + data


CLAIMS = "{'descr': '<i4', 'fortran_order': False, 'shape': (%s,), }"


def assignment_contents(run_id: str) -> dict[str, bytes]:
    name, right, kept = np.array(run_id), np.zeros(2 * RECORDINGS, np.int32), np.array(2)
    whole = npz(stage2=right, run=name, epoch=kept)
    return {
        "nothing": b"",
        "text": b"stage2",
        "half": whole[: len(whole) // 2],
        "a pickle": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "pickled objects": npz(stage2=np.array([{}] * 2 * RECORDINGS, object), run=name, epoch=kept),
        "a pickled run": npz(stage2=right, run=np.array({}, object)),
        "floats": npz(stage2=right.astype(float), run=name, epoch=kept),
        "booleans": npz(stage2=right.astype(bool), run=name, epoch=kept),
        "text numbers": npz(stage2=right.astype(str), run=name, epoch=kept),
        "two dimensions": npz(stage2=right.reshape(-1, 2), run=name, epoch=kept),
        "too few": npz(stage2=right[1:], run=name, epoch=kept),
        "none": npz(stage2=right[:0], run=name, epoch=kept),
        "twice as many": npz(stage2=np.tile(right, 2), run=name, epoch=kept),
        "below 0": npz(stage2=right - 1, run=name, epoch=kept),
        "beyond K": npz(stage2=right + 3, run=name, epoch=kept),
        "giant clusters": npz(stage2=right.astype(np.uint64) + (1 << 63), run=name, epoch=kept),
        "no run": npz(stage2=right),
        "no epoch": npz(stage2=right, run=name),
        "another epoch": npz(stage2=right, run=name, epoch=np.array(1)),
        "an epoch that is a list": npz(stage2=right, run=name, epoch=np.array([2, 2])),
        "another run": npz(stage2=right, run=np.array("0123456789abcdef")),
        "a run that is a number": npz(stage2=right, run=np.array(1)),
        "a claim": zipped(stage2=npy(CLAIMS % 10**12)),
        "a claim below 0": zipped(stage2=npy(CLAIMS % -5, bytes(64))),
        "a header that goes on": zipped(stage2=npy(CLAIMS % 4, bytes(16), length=65_535)),
        "a deep header": zipped(stage2=npy("(" * 9_000)),
    }


def test_assignments_that_are_not_as_written(work: Path) -> None:
    for title, content in assignment_contents(read_run(work / "run").id).items():
        (work / "run" / ASSIGNMENTS).write_bytes(content)
        (problem,) = problems_of(work, with_data=True)
        assert ASSIGNMENTS in problem, title
    page, _ = page_and_problems(work, with_data=True)
    assert sections(page) == {"run", "scores", "training", "information", "cutting"}


def test_assignments_are_not_unpacked_without_end(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workdir, "_MOST_ASSIGNMENT_BYTES", 1 << 20)
    content = zipped(stage2=npy(CLAIMS % (1 << 19), bytes(1 << 21)))
    assert len(content) < 1 << 14
    (work / "run" / ASSIGNMENTS).write_bytes(content)
    (problem,) = problems_of(work, with_data=True)
    assert ASSIGNMENTS in problem and "bytes when unpacked, expected 1048576 at most" in problem


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_named(work: Path, name: str) -> None:
    for title in unreadable(work / "run" / name):
        (problem,) = problems_of(work, with_data=True)
        assert name in problem, title
        if title == "folder":
            assert not sections(page_and_problems(work, with_data=True)[0]) & SECTIONS[name]


@pytest.mark.parametrize("name", FILES)
def test_what_another_run_left_is_named_and_left_out(
    work: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same data and shapes, and another seed."""
    other = make_work(tmp_path / "other", seed=1)
    table = (other / "run" / TEST_PREDICTIONS).read_text()
    (other / "run" / TEST_PREDICTIONS).write_text(table.replace("3", "2"))
    shutil.copy(other / "run" / name, work / "run" / name)
    call(report, "--workdir", str(work / "run"), "--data-dir", str(work / "data"), "--quiet")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: left out of the page: {work / 'run' / name}")
    ours, theirs = read_run(work / "run").id, read_run(other / "run").id
    assert name == TEST_PREDICTIONS or (ours in line and theirs in line)
    page = (work / "run" / "report.html").read_text("utf-8")
    assert not sections(page) & SECTIONS[name] and "Left out: " in page


def test_the_files_of_an_earlier_versions_run_are_read_as_before(work: Path) -> None:
    """It has no id, its files name no run, and scores are by attribute and no more."""
    run = work / "run"
    values = json.loads((run / "run.json").read_text())
    del values["id"]
    (run / "run.json").write_text(json.dumps(sealed(values | {"format_version": 1})))
    for name in (METRICS_FILE, CLUSTERS_FILE):
        text = (run / name).read_text()
        objects = [json.loads(line) for line in (text.splitlines() if name == METRICS_FILE else [text])]
        for each in objects:
            del each["run"]
            each.pop("sha256", None)
        (run / name).write_text("".join(json.dumps(each) + "\n" for each in objects))
    scores = json.loads((run / TEST_SCORES).read_text())["scores"]
    (run / TEST_SCORES).write_text(json.dumps(scores))
    np.savez_compressed(run / ASSIGNMENTS, stage2=np.arange(2 * RECORDINGS, dtype=np.int32) % 3)
    page, problems = page_and_problems(work, with_data=True)
    assert not problems
    assert sections(page) == {"run", "scores", "training", "information", "distributions", "cutting"}


def test_a_model_that_is_damaged_or_another_runs_is_named(work: Path) -> None:
    model = replace(
        small_model(features=FEATURES), origin={"training": asdict(TrainConfig()), "run": "fedcba9876543210"}
    )
    folder = work / "run" / "model"
    save_model(folder, model)
    _, (problem,) = page_and_problems(work, with_data=True)
    assert str(folder) in problem and "names fedcba9876543210" in problem
    for content in no_json((folder / "model.json").read_bytes()).values():
        (folder / "model.json").write_bytes(content)
        (problem,) = problems_of(work, with_data=True)
        assert "model.json" in problem
    assert "map" not in sections(page_and_problems(work, with_data=True)[0])
    for _ in unreadable(folder / "model.json"):
        (problem,) = problems_of(work, with_data=True)
        assert str(folder) in problem


@pytest.mark.parametrize("labels", [(999999.9375, 1e6), (1e6, 1e6), (-1e6, 1e6), (1e-45, 0.0), (4.0, 4.0)])
def test_huge_and_nearly_equal_labels_have_histograms(tmp_path: Path, labels: tuple[float, float]) -> None:
    values = np.resize(np.array(labels, np.float32), (RECORDINGS, 3))
    values[:, 1] = np.resize(np.array(labels[::-1], np.float32), RECORDINGS)
    work = make_work(tmp_path / "work", labels=values)
    page, problems = page_and_problems(work, with_data=True)
    assert not problems and "distributions" in sections(page) and "clusters-dominance-data" in page


GRID = Grid(("table1",), ("arousal",), (10,), (0,), 1)
OURS = Run(Setting("emocluster", 10, 0), "arousal", 0)


@pytest.fixture(scope="module")
def whole_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of two runs of five, with records in `data`."""
    folder = tmp_path_factory.mktemp("grid")
    write_records(folder / "data", FEATURES, {"train": (np.zeros((RECORDINGS, 2, 2, 4), np.float16), LABELS)})
    plan = make_plan(GRID, folder / "work", folder / "data")
    for run in (OURS, Run(Setting("cnn_regressor", None, 0), "arousal", 0)):
        make_run(plan, run)
    collect(plan, "drawn", QUIET)
    return folder


@pytest.fixture
def grid(whole_grid: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_grid, tmp_path / "grid"))


def problems_of_grid(folder: Path) -> list[str]:
    """The lines on what is left out of a grid's page."""
    assert is_grid(folder / "work")
    read = read_grid(folder / "work")
    problems = [*read.problems, *(problem for run in read.runs for problem in run.problems)]
    assert all(problem.isprintable() for problem in problems)
    return problems


def grid_page_and_problems(folder: Path) -> tuple[str, list[str]]:
    page = grid_page(read_grid(folder / "work"), folder / "work" / "report.html")
    problems = problems_of_grid(folder)
    assert page.count('<p class="left-out">Left out: ') == len(problems)
    return page, problems


def results_contents(whole: str) -> dict[str, bytes]:
    header, first, *_ = whole.splitlines()

    def with_cell(column: str, cell: str) -> bytes:
        cells = first.split(",")
        cells[header.split(",").index(column)] = cell
        return "\n".join([header, ",".join(cells), ""]).encode()

    return {
        "other columns": b"a,b\n1,2\n",
        "a row too short": f"{header}\ntable1\n".encode(),
        "a giant field": b"a" * 200_000 + b"\n",
        "latin-1": "é\n".encode("latin-1"),
        "a zip": b"PK\x03\x04" + bytes(range(256)),
        **{
            f"{name} {cell[:9]}": with_cell(name, cell) for name in ("seed", "test_ccc") for cell in ("x", "inf", "nan")
        },
        "beyond float64": with_cell("test_rmse", "1e999"),
        "a giant": with_cell("test_ccc", "1e300"),
        "no attribute": with_cell("attribute", ""),
        "another attribute": with_cell("attribute", "<script>"),
        "another folder": with_cell("workdir", "../../x"),
        "an absolute folder": with_cell("workdir", "/etc"),
    }


def test_results_that_are_not_as_written(grid: Path) -> None:
    path = grid / "work" / "results.csv"
    for title, content in results_contents(path.read_text()).items():
        path.write_bytes(content)
        (problem,) = problems_of_grid(grid)
        assert "results.csv" in problem, title
    page, _ = grid_page_and_problems(grid)
    assert {"tables", "figures"} <= sections(page) and "scores" not in sections(page)
    for _ in unreadable(path):
        assert "results.csv" in problems_of_grid(grid)[0]


def test_rows_that_are_not_of_the_runs_that_they_name(grid: Path) -> None:
    path = grid / "work" / "results.csv"
    whole = path.read_text()
    header, *rows = [line.split(",") for line in whole.splitlines()]
    (row,) = (row for row in rows if "emocluster" in row)
    for name, cell, told in (
        ("seed", "3", "run with seed 0, but results.csv has 3"),
        ("clusters", "20", "run with clusters 10, but results.csv has 20"),
        ("model", "cnn_ae", "run with model emocluster"),
        ("unlabeled_size", "7", "run with unlabeled_size 0"),
        ("test_ccc", "0.125", "results.csv has 0.125"),
        ("workdir", "runs/gone", "holds no run"),
        ("workdir", "a" * 5_000, "cannot be read"),
        ("workdir", "a\\0b", "holds no run"),
    ):
        changed = [cell if column == name else old for column, old in zip(header, row, strict=True)]
        path.write_text("".join(",".join(each) + "\n" for each in (header, changed)))
        page, (problem,) = grid_page_and_problems(grid)
        assert told in problem and "curves" not in sections(page)


def test_tables_and_figures_that_are_not_as_written(grid: Path) -> None:
    for name, contents in (
        ("tables/table1.md", [b"\xff\xfe\0", bytes(2 << 20)]),
        ("figures/epochs_table1.png", [b"", b"GIF89a", b"<svg>", bytes(17 << 20)]),
    ):
        path = grid / "work" / name
        whole = path.read_bytes()
        for content in contents:
            path.write_bytes(content)
            (problem,) = problems_of_grid(grid)
            assert name in problem
        assert "scores" in sections(grid_page_and_problems(grid)[0])
        for _ in unreadable(path):
            assert name in problems_of_grid(grid)[0]
        path.write_bytes(whole)
    # What is UTF-8 is shown, whatever it is.
    for text in ("> " * 20_000, "*" * 20_000, "[" * 20_000, "|" * 20_000, "`" * 20_001, "<a" * 20_000, "- " * 9_000):
        (grid / "work" / "tables" / "table1.md").write_text(text)
        assert not grid_page_and_problems(grid)[1]
    os.link(grid / "work" / "figures" / "epochs_table1.png", os.fsencode(grid / "work" / "figures") + b"/\xff.png")
    grid_page_and_problems(grid)[0].encode("utf-8")


def one_line_or_nothing(make: Callable[[], Any], name: str) -> bool:
    """Whether something was made of the files; what is said otherwise names this one."""
    try:
        make()
        return True
    except InputError as error:
        assert str(error).isprintable() and name in str(error)
        return False


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_in_the_runs_of_a_grid(grid: Path, name: str) -> None:
    """On the page they are named; `collect` names them, or leaves their run for the next time."""
    plan = make_plan(GRID, grid / "work", grid / "data")
    folder = plan.folder(OURS)
    path = folder / name
    if name == CLUSTERS_FILE:  # which `collect` does not read
        shutil.copy(folder / TEST_SCORES, path)
    whole, scores = path.read_bytes(), (folder / TEST_SCORES).read_bytes()
    contents = json_contents(whole.splitlines()[-1]) if name in JSON_FILES else CSVS
    if name == ASSIGNMENTS:
        contents = assignment_contents(read_run(folder).id)
    for title, content in contents.items():
        path.write_bytes(content + b"\n" * (name == METRICS_FILE))
        if name == TEST_PREDICTIONS:
            trust(folder)
        problems = problems_of_grid(grid)
        if name != ASSIGNMENTS:  # which that page does not show
            assert any(name in problem for problem in problems), title
        # What `collect` does with the runs' files, without the tables and figures that it makes of them.
        one_line_or_nothing(lambda: is_complete(plan, OURS) and read_completed(plan, OURS), name)
    grid_page_and_problems(grid)
    one_line_or_nothing(lambda: collect(plan, "drawn", QUIET), name)
    path.write_bytes(whole)
    (folder / TEST_SCORES).write_bytes(scores)
    for _ in unreadable(path):
        problems_of_grid(grid)
        one_line_or_nothing(lambda: is_complete(plan, OURS) and read_completed(plan, OURS), name)


def test_predictions_of_other_sentences_are_no_comparison(grid: Path) -> None:
    plan = make_plan(GRID, grid / "work", grid / "data")
    path = plan.folder(OURS) / TEST_PREDICTIONS
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    trust(plan.folder(OURS))
    with pytest.raises(InputError, match=r"test_predictions.csv has other sentences or labels than the one in"):
        collect(plan, "drawn", QUIET)


@pytest.mark.parametrize("name", [TEST_SCORES, CLUSTERS_FILE])
def test_damaged_files_beside_a_model_that_is_exported(work: Path, tmp_path: Path, name: str) -> None:
    run_id = read_run(work / "run").id
    model = replace(small_model(), origin={"training": asdict(TrainConfig()), "run": run_id, "epoch": 2})

    def card() -> None:
        model_card(model, read_run_numbers(work / "run" / "model", model), None, [], name="mine")

    path = work / "run" / name
    assert one_line_or_nothing(card, name)
    for title, content in json_contents(path.read_bytes()).items():
        path.write_bytes(content)
        assert not one_line_or_nothing(card, name), title
    other = make_work(tmp_path / "other", seed=1)
    shutil.copy(other / "run" / name, path)
    assert not one_line_or_nothing(card, name)
    for title in unreadable(path):
        assert not one_line_or_nothing(card, name), title
