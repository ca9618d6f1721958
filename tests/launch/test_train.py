"""From a folder of recordings to a model, its scores and its page, by the commands; and what they refuse.

What is learned is `liking`, a label that no published corpus has, by the commands of docs/extending.md.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile

from compile_flags import flags_of_devices
from emocluster_jax.api.training import TrainingRun
from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.metrics import ccc
from emocluster_jax.evaluation.run_results import read_test_predictions
from emocluster_jax.inference.model_directory import read_model, save_model
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from emocluster_jax.storage.json_files import sealed
from emocluster_jax.training.checkpoints import Progress
from emocluster_jax.training.workdir import read_run
from launch import evaluate, predict, prepare, report, train
from launch.command import run
from running import call

PROJECT = Path(__file__).resolve().parents[2]
RATE_HZ = 16_000
SMALL = ["--width-multiplier", "0.125", "--clusters", "3", "--batch-size", "4", "--quiet"]


def call_of_the_page(name: str, paths: dict[str, Path], *more: str) -> None:
    """Gives a command of the page's section on labels, with other paths in place of its own."""
    page = (PROJECT / "docs" / "extending.md").read_text("utf-8")
    section = page.split("## A label\n")[1].split("\n## ")[0]
    ((module, arguments),) = re.findall(rf"^python -m (launch\.{name}) (.*)$", section, re.MULTILINE)
    given = [str(paths.get(argument, argument)) for argument in shlex.split(arguments)]
    call(importlib.import_module(module), *given, *more)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of 18 tones, whose pitch tells how much they are liked, and 4 without labels."""
    source = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    with (source / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "speaker", "arousal", "valence", "liking"])
        for i, split in enumerate(["train"] * 10 + ["validation"] * 4 + ["test"] * 4 + ["unlabeled"] * 4):
            seconds = np.arange(RATE_HZ * 3 // 2) / RATE_HZ
            tone = np.sin(2 * np.pi * 200 * (i % 4 + 1) * seconds) + 0.1 * rng.normal(size=len(seconds))
            soundfile.write(source / f"{i}.wav", tone / 2, RATE_HZ)
            rows.writerow([f"{i}.wav", split, f"s{i}", *(["", "", ""] if split == "unlabeled" else labels_of(i))])
    data_dir = tmp_path_factory.mktemp("data") / "records"
    call_of_the_page("prepare", {"speech": source, "data": data_dir}, "--workers", "1", "--quiet")
    return data_dir


def labels_of(i: int) -> list[int]:
    """Arousal, valence and liking of a recording."""
    return [7 - i % 7, i % 3, 20 * (i % 4 + 1)]


@pytest.fixture(scope="module")
def workdir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of two epochs; beside it lies what the run printed."""
    workdir = tmp_path_factory.mktemp("run") / "my work"
    settings = ["--epochs", "2", *(option for option in SMALL if option != "--quiet")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call_of_the_page("train", {"data": data_dir, "run": workdir}, *settings)
    (workdir.parent / "printed.txt").write_text(printed.getvalue())
    return workdir


def test_records_and_model_have_the_labels_statistics(workdir: Path, data_dir: Path) -> None:
    preparation, model = read_preparation(data_dir), read_model(workdir / "model")
    assert preparation.labels == ("arousal", "liking") and model.config.attributes == ("liking",)
    trained_on = np.array([labels_of(i) for i in range(10)])[:, [0, 2]]
    np.testing.assert_allclose(preparation.label_statistics.mean, trained_on.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(preparation.label_statistics.std, trained_on.std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(model.label_mean, preparation.label_statistics.mean[1:])
    np.testing.assert_array_equal(model.label_std, preparation.label_statistics.std[1:])


def test_a_run_says_what_it_is_about_to_do(workdir: Path) -> None:
    printed = (workdir.parent / "printed.txt").read_text()
    assert printed.startswith(
        "Settings: preset paper, with --attributes liking --clusters 3 --width-multiplier 0.125 --epochs 2 "
        "--batch-size 4\nChunks: "
    )
    network, training, first, outlook, second = re.findall(r"^(?:Network|Training|epoch|The other).*$", printed, re.M)
    variables = read_model(workdir / "model").variables
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert network == (
        f"Network: DeepEmoCluster, 0.125 times the published width, 3 clusters, {parameters:,} parameters"
    )
    assert training == "Training: 2 epochs; each has 1 step of stage I and 3 steps of stage II, on 44 chunks per step"
    assert first.startswith("epoch 1/2, ") and second.startswith("epoch 2/2, ")
    assert re.fullmatch(r"The other epoch takes about \d+ s, until (\w+day )?\d\d:\d\d", outlook)


def test_a_run_ends_with_a_model_scores_and_plots(workdir: Path) -> None:
    assert read_model(workdir / "model").config.clusters == 3
    scores = json.loads((workdir / "test.json").read_text())["scores"]
    assert scores["liking"]["n"] == 4 and -1 <= scores["liking"]["ccc"] <= 1
    for plot in ("training.png", "test_liking.png"):
        assert (workdir / "plots" / plot).read_bytes().startswith(b"\x89PNG")


def test_a_run_ends_with_commands_that_can_be_given(workdir: Path, data_dir: Path) -> None:
    printed = (workdir.parent / "printed.txt").read_text().splitlines()
    predict, report = (shlex.split(line)[2:] for line in printed if line.startswith("  python -m launch."))
    assert predict == [
        *("launch.predict", "--checkpoint", str(workdir / "model")),
        *("--input", "recordings", "--output", "predictions.csv"),
    ]
    title = printed.index("Information shared by clusters and labels")
    assert printed[title + 2].split() == ["label", "adjusted", "mutual", "information", "permutation", "p"]
    assert "Predict with (--input is a recording, or a folder of them):" in printed
    assert report == ["launch.report", "--workdir", str(workdir), "--data-dir", str(data_dir)]


@pytest.mark.parametrize("installed", [True, False])
def test_a_run_advises_to_install_the_report_where_it_is_not(
    workdir: Path,
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
) -> None:
    monkeypatch.delitem(sys.modules, "emocluster_jax.reporting.html", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    config = read_run(workdir).config
    run = TrainingRun(workdir, config, read_preparation(data_dir), Progress(epoch=2), test=None, clusters=None)
    train._summarize(run, data_dir, config, Console())
    printed = capsys.readouterr().out
    assert "See more of this run on a page" in printed
    assert ('pip install "emocluster_jax[report]"' in printed) is not installed


def test_a_run_keeps_its_test_predictions(workdir: Path, data_dir: Path) -> None:
    kept = read_test_predictions(workdir / "test_predictions.csv")
    test = open_data(data_dir).describe("test")
    assert kept.ids == tuple(test.ids) and kept.attributes == ("liking",)
    np.testing.assert_array_equal(kept.truth[:, 0], test.labels.of(["liking"])[:, 0])
    scores = json.loads((workdir / "test.json").read_text())["scores"]
    # Every bit of the predictions is kept, so the scores are those of the run.
    assert ccc(kept.predictions[:, 0], kept.truth[:, 0]) == scores["liking"]["ccc"]


def test_a_run_says_what_its_clusters_know(workdir: Path) -> None:
    known = json.loads((workdir / "clusters.json").read_text())
    assert known["epoch"] in (1, 2) and set(known["attributes"]) == {"arousal", "liking"} and known["gender"] is None
    # Ten training recordings, each of a speaker of its own, whose liking takes four values.
    assert known["speaker"]["classes"] == 10 and known["attributes"]["liking"]["classes"] == 4
    assert 0 < known["attributes"]["liking"]["p_value"] <= 1


def test_evaluate_gives_the_scores_of_the_run(
    workdir: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(evaluate, "--checkpoint", str(workdir / "model"), "--data-dir", str(data_dir))
    table, line = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    assert "liking" in table and "Pearson r" in table
    # The same model, records and program: not a bit may differ.
    assert json.loads(line) == json.loads((workdir / "test.json").read_text())["scores"]
    call(evaluate, "--checkpoint", str(workdir / "model"), "--data-dir", str(data_dir), "--feed", "streamed")
    assert capsys.readouterr().out.rstrip().endswith(line)


def test_evaluate_tells_of_predictions_that_are_not_finite(
    workdir: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_model(workdir / "model")
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), model.variables)
    save_model(tmp_path / "model", dataclasses.replace(model, variables=broken))
    call(evaluate, "--checkpoint", str(tmp_path / "model"), "--data-dir", str(data_dir), "--quiet")
    printed = capsys.readouterr()
    ids = open_data(data_dir).describe("test").ids
    assert json.loads(printed.out) == {
        "liking": {"ccc": None, "pearson": None, "rmse": None, "n": 0, "not_finite": len(ids)}
    }
    assert printed.err.splitlines()[-1] == (
        f"warning: predictions of {len(ids)} of {len(ids)} recordings are NaN or infinite, and left out of the scores: "
        + ", ".join(ids)
    )


def test_evaluate_on_another_corpus(
    workdir: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Path(read_preparation(data_dir).source)
    rows = [f"{i}.wav,test,{20 * (i % 4 + 1)}" for i in range(14, 18)]
    (tmp_path / "other.csv").write_text("\n".join(["file,split,liking", *rows]))
    model, other = str(workdir / "model"), str(tmp_path / "records")
    given = [
        "--corpus",
        "manifest",
        "--source",
        str(corpus),
        "--manifest",
        str(tmp_path / "other.csv"),
        "--labels",
        "liking",
    ]
    call(prepare, *given, "--data-dir", other, "--workers", "1", "--quiet", "--statistics-from", model)
    call(evaluate, "--checkpoint", model, "--data-dir", other, "--quiet")
    # The test recordings of the run, prepared for its model: the same chunks, hence the same scores.
    assert json.loads(capsys.readouterr().out) == json.loads((workdir / "test.json").read_text())["scores"]


def test_predictions_have_the_labels_name_and_unit(workdir: Path, data_dir: Path, tmp_path: Path) -> None:
    source, table = read_preparation(data_dir).source, tmp_path / "predictions.csv"
    call(predict, "--checkpoint", str(workdir), "--input", source, "--output", str(table), "--quiet")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "start", "end", "liking"] and len(rows) == 22
    predicted = {row["file"]: float(row["liking"]) for row in rows}
    kept = read_test_predictions(workdir / "test_predictions.csv")
    np.testing.assert_allclose([predicted[id] for id in kept.ids], kept.predictions[:, 0], rtol=1e-3)


def test_the_page_of_the_run_shows_the_label(workdir: Path, data_dir: Path, tmp_path: Path) -> None:
    pages = ["--output", str(tmp_path / "report.html"), "--quiet"]
    call(report, "--workdir", str(workdir), "--data-dir", str(data_dir), *pages)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "test CCC, liking" in page and "clusters and liking, AMI" in page
    # On the map a training recording has both labels, and the model's prediction of one of them.
    assert re.search(r"arousal: rated 5\.00.{0,20}liking: rated 60\.00, predicted \d\d\.\d\d", page)


def test_resume_goes_on_and_a_plain_repeat_refuses(
    workdir: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["--data-dir", str(data_dir), "--workdir", str(workdir), "--attributes", "liking", "--epochs", "2", *SMALL]
    call(train, *again, "--resume", "--feed", "streamed")
    assert refused(capsys, train, *again) == (
        f"error: {workdir} holds a run already; add --resume to go on with it, or choose another --workdir"
    )
    before = read_run(workdir)
    call(train, *again[:4], "--resume", "--patience", "3", "--quiet")
    assert read_run(workdir).config == dataclasses.replace(before.config, patience=3)
    assert refused(capsys, train, *again[:4], "--resume", "--clusters", "4") == (
        f"error: the run in {workdir} was begun with --clusters 3, not 4; leave it and any preset out, as a resumed "
        "run keeps its settings, or choose another --workdir, with --config "
        f"{workdir / 'run.json'} for the run's other settings"
    )


def refused(capsys: pytest.CaptureFixture[str], command, *arguments: str) -> str:
    """The one line that a refused command prints; its exit status must be 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(lambda: call(command, *arguments))
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def test_train_refuses(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = ["--workdir", str(tmp_path / "work")]
    data = ["--data-dir", str(data_dir)]
    assert "--data-dir is given without --workdir" in refused(capsys, train, *data)
    assert "does not exist; prepare it" in refused(capsys, train, "--data-dir", str(tmp_path / "no"), *workdir)
    assert "preparation.json" in refused(capsys, train, "--data-dir", str(tmp_path), *workdir)
    same = ["--workdir", str(data_dir / ".." / data_dir.name)]
    assert "is the data directory; give the run a folder of its own" in refused(capsys, train, *data, *same)
    scores = ["--checkpoint", str(tmp_path), *data, "--output"]
    assert f"--output {tmp_path} is a folder" in refused(capsys, evaluate, *scores, str(tmp_path))
    assert "there is no folder" in refused(capsys, evaluate, *scores, str(tmp_path / "no" / "scores.json"))
    assert "--clusters is 0; expected 1 to 1000000" in refused(capsys, train, *data, *workdir, "--clusters", "0")
    message = refused(capsys, train, *data, *workdir, "--attributes", "valence", "--quiet")
    assert "the data have no label 'valence'; they have arousal, liking; choose other --attributes" in message
    assert not (tmp_path / "work" / "model").exists()


def test_an_unlabelled_pool_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As CREMA-D is prepared: speakers and genders, and no label."""
    source, records, work = tmp_path / "corpus", tmp_path / "records", tmp_path / "run"
    source.mkdir()
    rng = np.random.default_rng(0)
    with (source / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "speaker", "gender"])
        for i in range(8):
            soundfile.write(source / f"{i}.wav", rng.normal(0, 0.1, RATE_HZ * 3 // 2), RATE_HZ)
            rows.writerow([f"{i}.wav", "unlabeled", f"s{i % 4}", ("female", "male")[i % 2]])
    corpus = ["--corpus", "manifest", "--source", str(source), "--workers", "1"]
    call(prepare, *corpus, "--data-dir", str(records), "--quiet")
    data = ["--data-dir", str(records), "--workdir", str(work), *SMALL, "--epochs", "1"]
    assert "no labelled recordings to train on" in refused(capsys, train, *data)
    assert not (work / "run.json").exists()

    call(train, *data, "--stages", "unsupervised", "--unlabeled-size", "7")

    assert [file.name for file in (work / "assignments").iterdir()] == ["epoch-000001.npz"]
    metrics = json.loads((work / "metrics.jsonl").read_text())
    assert sum(metrics["cluster_sizes_unlabeled"]) == 7 * 11 and "cluster_sizes" not in metrics
    known = json.loads((work / "clusters.json").read_text())
    assert known["attributes"] == {} and known["speaker"]["sentences"] == known["gender"]["sentences"] == 7
    model = read_model(work / "model")
    assert not model.knows_labels and model.centroids is not None and model.origin["epoch"] == 1
    assert not (work / "test.json").exists()
    call(train, *data, "--stages", "unsupervised", "--unlabeled-size", "7", "--resume")  # nothing is left to do

    outputs = ["--output", str(tmp_path / "table.csv"), "--embeddings", str(tmp_path / "found.npz")]
    capsys.readouterr()
    call(predict, "--checkpoint", str(work), "--input", str(source), *outputs, "--quiet")
    assert "was trained without labels: it gives embeddings and clusters, but no arousal\n" in capsys.readouterr().err
    with (tmp_path / "table.csv").open(newline="") as file:
        assert all(row["arousal"] == "" for row in csv.DictReader(file))
    with np.load(tmp_path / "found.npz") as found:
        assert np.isfinite(found["embeddings"]).all() and len(found["clusters"]) == 8
    scores = ["--checkpoint", str(work), "--data-dir", str(records), "--quiet"]
    assert "was trained without labels and predicts none" in refused(capsys, evaluate, *scores)


def test_a_batch_that_the_devices_cannot_share(data_dir: Path, tmp_path: Path) -> None:
    options = ["--data-dir", data_dir, "--workdir", tmp_path / "work", "--batch-size", "3", "--quiet"]
    environment = os.environ | {"XLA_FLAGS": flags_of_devices(8)}
    command = [sys.executable, "-m", "launch.train", *map(str, options)]
    result = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        "error: a batch of 3 recordings is 33 chunks, which 8 devices cannot share equally; choose a --batch-size that "
        "is a multiple of 8\n"
    )


def test_evaluate_refuses(workdir: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data-dir", str(data_dir), "--quiet"]
    assert "is not a model directory" in refused(capsys, evaluate, "--checkpoint", str(tmp_path), *data)
    description = json.loads((workdir / "model" / "model.json").read_text())
    description["feature_mean"][0] += 1.0
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(workdir / "model" / description["weights"], other / description["weights"])
    (other / "model.json").write_text(json.dumps(sealed(description)))
    assert "normalised with other statistics" in refused(capsys, evaluate, "--checkpoint", str(other), *data)


def test_the_demo_with_text_lies_beside_the_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def stopped(data_dir: Path, workdir: Path, config: TrainConfig, **running: Any) -> None:
        raise InputError(f"{data_dir} {workdir} {config.model.inputs} {running['resume']}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("emocluster_jax.api.preparation.prepare", lambda *where, **own: made.append((*where, own)))
    monkeypatch.setattr("emocluster_jax.api.training.fit", stopped)
    for arguments, folder, inputs in (
        ((), "emocluster-demo", ()),
        (("--demo-text",), "emocluster-demo/text", ("text",)),
    ):
        with pytest.raises(InputError, match=re.escape(f"{folder}/records {folder}/run {inputs} True")):
            call(train, *arguments)
        corpus, source, records, own = made.pop()
        assert (corpus, source, records) == ("demo", Path(folder) / "corpus", Path(folder) / "records")
        assert own["corpus_options"] == {"demo_text": bool(inputs)}
    told = " ".join(capsys.readouterr().out.split())
    assert "Settings: preset demo Demo: " in told
    assert (
        "Settings: preset small, with --attributes arousal dominance valence --inputs text --input-dropout 0.3 --epochs"
        in told
    )
