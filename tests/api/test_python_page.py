"""docs/python.md, run as it stands: what a notebook gets from a corpus."""

from __future__ import annotations

import ast
import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import emocluster_jax
from emocluster_jax.api.frames import recordings_frame
from emocluster_jax.api.prediction import ModelPredictions, Predictions
from emocluster_jax.config import ModelConfig, presets
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import save_model
from emocluster_jax.inference.predictor import load_model
from emocluster_jax.inference.recordings import Skipped
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.chunks import mel_chunks
from emocluster_jax.preprocessing.sources import as_source, source_frames
from emocluster_jax.records.reader import Descriptions, open_data
from small_models import noise, small_model, write_recording

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
MAPS = Path("/proc/self/maps")
QUIET = Console(quiet=True)
SPLITS = {"train": 6, "validation": 5, "test": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page asks for: a corpus of fourteen recordings, and a folder of two at other rates."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "speech").mkdir()
    (folder / "recordings").mkdir()
    with (folder / "speech" / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "speaker", "arousal", "valence"])
        for i, split in enumerate(split for split, count in SPLITS.items() for _ in range(count)):
            write_recording(folder / "speech" / f"{i}.wav", noise(1.1 + 0.2 * i, seed=i))
            rows.writerow([f"{i}.wav", split, f"s{i % 2}", i % 4, "" if i == 13 else 5 - i % 3])
    write_recording(folder / "recordings" / "a.wav", np.stack([noise(2.0, 44_100), noise(2.0, 44_100, seed=1)]), 44_100)
    write_recording(folder / "recordings" / "b.wav", noise(4.5, 8_000), 8_000)
    return folder


@pytest.fixture(scope="module")
def names(folder: Path) -> dict[str, Any]:
    """The variables that the page's examples leave, except those that need libraries which are not installed."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks:
            needed = {"audinterface": "audinterface", "to_frame": "pandas"}
            if all(installed(library) for word, library in needed.items() if word in block):
                exec(compile(block, str(PAGE), "exec"), found)
    return found


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's paths are relative."""
    monkeypatch.chdir(folder)


def installed(library: str) -> bool:
    try:
        __import__(library)
    except ImportError:
        return False
    return True


def test_prepared_and_fitted(names: dict[str, Any], folder: Path) -> None:
    assert names["preparation"].counts == SPLITS
    run = names["run"]
    assert run.progress.epoch == 2 and len(run.metrics()) == 2
    assert load_model(folder / run.model).attributes == ("arousal", "valence")
    assert run.clusters.speaker.classes == 2
    np.testing.assert_array_equal(run.test.predictions, names["evaluation"].predictions)


def test_settings_by_name(names: dict[str, Any]) -> None:
    assert names["run"].config == names["config"]
    assert names["slower"].optimizer.adam_learning_rate == 1e-4 and names["small"] == presets["small"]
    listed = re.findall(r"`(\w+)=([^`]+)`", PAGE.read_text("utf-8").split("| to change |")[1].split("\n\n")[0])
    assert len(listed) > 10
    assert presets["paper"].replace(**{name: ast.literal_eval(value) for name, value in listed}) == presets["paper"]


def test_results_show_what_they_are(names: dict[str, Any]) -> None:
    run, evaluation, windows = names["run"], names["evaluation"], names["windows"]
    assert re.match(
        r"Preparation of .*speech \(manifest\): 14 recordings, \d\.\d min\ntrain 6, .*\n", repr(run.preparation)
    )
    lines = repr(run).splitlines()
    assert re.fullmatch(r"Run in run, 2 epochs: the best is epoch [12] \(validation CCC -?0\.\d{3}\)", lines[0])
    assert lines[2:] == repr(evaluation).splitlines()
    assert lines[2] == "test split of data: 3 recordings"
    assert [line.split()[0] for line in lines[-2:]] == ["arousal", "valence"]
    ccc = f"{evaluation.scores['arousal'].ccc:z.3f}"
    assert lines[-2].split()[1] == ccc and f">{ccc}</td>" in run._repr_html_()
    title, *_, last = repr(windows).splitlines()
    assert title == "Predictions of 2 files, 4 rows" and last.split()[:3] == ["b.wav", "3.000", "4.500"]
    assert repr(windows.models[0]) == "ModelPredictions of 4 rows: arousal, valence, embeddings of 32 numbers, clusters"
    assert re.fullmatch(
        r"Prediction: arousal -?\d\.\d{3}, valence .*, cluster [0-4] \(11 chunks, embedding of 32 numbers\)",
        repr(names["prediction"]),
    )
    assert repr(names["predictor"]) == (
        "Predictor of run: arousal, valence; emocluster with 5 clusters, reads a mel spectrogram"
    )
    assert repr(names["found"]).startswith("5 clusters of 6 recordings\n")


def test_long_tables_are_cut_and_names_stay_text() -> None:
    names = tuple(f"<b>{i}\n.wav" for i in range(12))
    model = ModelPredictions(("arousal",), np.ones((12, 1)), None, None, np.zeros(12, bool))
    made = Predictions(names, np.zeros(12), np.ones(12), (model,), (Skipped("<i>", "silent"),), {}, {})
    shown = made._repr_html_()
    assert repr(made).endswith("\nand 2 more") and len(repr(made).splitlines()) == 1 + 2 + 10 + 1
    assert "1 left out" in shown and shown.endswith("<div>and 2 more</div>")
    assert "<b>" not in shown and "&lt;b&gt;0\\n.wav" in shown


def test_evaluated(names: dict[str, Any], folder: Path) -> None:
    evaluation = names["evaluation"]
    assert evaluation.truth.shape == evaluation.predictions.shape == (3, 2)
    assert [scores.n for scores in evaluation.scores.values()] == [3, 2]
    predictor = load_model(folder / "run")
    sentences = evaluation.describe()
    for i, id in enumerate(sentences.ids):
        source = as_source(read_audio(folder / "speech" / id, 16_000), 16_000, predictor.features)
        chunks = mel_chunks(source_frames(source, predictor.features), predictor.features, predictor.statistics)
        # As the records hold them.
        (expected,) = predictor.predict_chunks(chunks.astype(np.float16).astype(np.float32))
        # The same sums of float32, which programs for other numbers of chunks add up in another order.
        np.testing.assert_allclose(evaluation.predictions[i], np.asarray(expected), rtol=0, atol=1e-5)


def test_calibrated(names: dict[str, Any], folder: Path) -> None:
    calibrated = names["calibrated"]
    assert load_model(folder / calibrated.model).attributes == ("arousal", "valence")
    for before, after in zip(calibrated.before.values(), calibrated.after.values(), strict=True):
        # Predictions of a network that has hardly learned are nearly alike, so that float32 rounds their differences.
        assert before.n == after.n == 5 and after.ccc == pytest.approx(before.pearson, abs=1e-2)


def test_predicted(names: dict[str, Any], folder: Path) -> None:
    predictions, windows, prediction = names["predictions"], names["windows"], names["prediction"]
    assert predictions.files == ("a.wav", "b.wav") and predictions.skipped == ()
    np.testing.assert_allclose(predictions.ends_s, [2.0, 4.5], atol=1e-3)
    (model,) = predictions.models
    assert model.embeddings.shape == (2, 32) and model.clusters.dtype == np.int32
    np.testing.assert_allclose(model.attributes[0], np.asarray(prediction), atol=1e-4)
    assert windows.files == ("a.wav", "b.wav", "b.wav", "b.wav")
    np.testing.assert_allclose(windows.starts_s, [0, 0, 1.5, 3])


def test_clusters_of_the_corpus(names: dict[str, Any], folder: Path) -> None:
    found, predictor = names["found"], load_model(folder / "run")
    assert found.chunk_clusters.shape == found.chunk_distances.shape == (6, 11)
    assert found.centroids.shape == (5, 32)
    train = open_data(folder / "data").read("train")
    assert found.recordings.ids == train.ids
    predictions = predictor.predict_chunks(train.chunks.reshape(-1, *train.chunks.shape[2:]).astype(np.float32))
    embeddings = np.stack([prediction.chunk_embeddings for prediction in predictions])
    own = np.take_along_axis(
        np.linalg.norm(embeddings[:, :, None] - found.centroids, axis=3), found.chunk_clusters[..., None], axis=2
    )
    # Programs for batches of different sizes round differently.
    np.testing.assert_allclose(found.chunk_distances, own[..., 0], atol=1e-4)
    for row, cluster in zip(found.chunk_clusters, found.clusters, strict=True):
        assert (row == cluster).sum() == np.bincount(row).max()


def test_frames_are_audformats(names: dict[str, Any], folder: Path) -> None:
    audformat = pytest.importorskip("audformat")
    windows, found = names["windows"].to_frame(), names["found"].to_frame()
    evaluation = names["evaluation"].to_frame()
    for frame in (windows, found, evaluation):
        assert audformat.is_segmented_index(frame)
    assert list(windows.columns) == ["arousal", "valence", "cluster"]
    assert windows.index.get_level_values("end").total_seconds().tolist() == pytest.approx([1.5, 1.5, 3, 4.5])
    columns = ["arousal_truth", "arousal_prediction", "valence_truth", "valence_prediction"]
    assert list(evaluation.columns) == columns
    np.testing.assert_array_equal(evaluation["arousal_truth"], names["evaluation"].truth[:, 0])
    assert (found["chunks_in_cluster"] > 2).all()  # 11 chunks in 5 clusters
    table = names["feature"].process_files(["recordings/a.wav", "recordings/b.wav"])
    first_channel, _ = soundfile.read(folder / "recordings" / "a.wav", always_2d=True)
    expected = [names["predictor"](first_channel[:, 0], 44_100), names["predictions"].models[0].attributes[1]]
    np.testing.assert_allclose(table.to_numpy(float), np.array(list(map(np.asarray, expected))), atol=1e-3)


def test_the_best_models_chunks_are_in_tensorboards_projector(names: dict[str, Any], folder: Path) -> None:
    tensorboard = folder / "run" / "tensorboard"
    points = np.loadtxt(tensorboard / "embeddings.tsv", delimiter="\t")
    header, *rows = (tensorboard / "embeddings_metadata.tsv").read_text().splitlines()
    assert points.shape == (3 * 11, 32) and len(rows) == len(points)
    assert header.split("\t")[:5] == ["id", "chunk", "cluster", "arousal_truth", "arousal_prediction"]
    assert rows[12].split("\t")[:2] == ["12.wav", "1"]  # the second sentence's second chunk
    found = emocluster_jax.clusters(folder / "run", folder / "data", "test", console=QUIET)
    shown = [int(row.split("\t")[2]) for row in rows]
    # But for ties within rounding, the same.
    assert np.mean(found.chunk_clusters.ravel() == shown) > 0.9 and len(set(shown)) > 1
    for file in ("embeddings.tsv", "embeddings_metadata.tsv"):
        assert f'"{file}"' in (tensorboard / "projector_config.pbtxt").read_text()


def test_frames_have_the_times_of_segments() -> None:
    pytest.importorskip("pandas")
    ids = ["a.wav", "a.wav#1.5-4", "a.wav#3-", "b#1-2.wav"]
    nothing, durations_s = LabelColumns((), np.zeros((4, 0), np.float32)), np.array([9, 2.5, 6, 1], np.float32)
    frame = recordings_frame(Descriptions(nothing, ids, [""] * 4, [""] * 4, durations_s), {"x": range(4)})
    assert [(file, start.total_seconds(), end.total_seconds()) for file, start, end in frame.index] == [
        ("a.wav", 0, 9),
        ("a.wav", 1.5, 4),
        ("a.wav", 3, 9),
        ("b#1-2.wav", 0, 1),
    ]


def test_without_pandas_the_extra_is_named(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"emocluster_jax\[pandas\]"):
        names["windows"].to_frame()


def test_requests_that_cannot_be_carried_out(names: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "without", small_model(system="cnn_regressor"))
    with pytest.raises(InputError, match="cnn_regressor, which has no clusters"):
        emocluster_jax.clusters(tmp_path / "without", folder / "data", console=QUIET)
    with pytest.raises(InputError, match="no recording is given"):
        emocluster_jax.predict(folder / "run", [], console=QUIET)
    with pytest.raises(InputError, match=r"run and .*run both predict arousal"):
        emocluster_jax.predict([load_model(folder / "run"), folder / "run"], folder, console=QUIET)
    with pytest.raises(InputError, match="`batch_size` is -1; expected 1 to 65536"):
        emocluster_jax.predict(folder / "run", folder, batch_size=-1, console=QUIET)
    with pytest.raises(InputError, match="`unlabeled_limit` needs"):
        emocluster_jax.prepare("manifest", folder, tmp_path / "data", unlabeled_limit=1, console=QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["without"]


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not tell a process's memory maps")
def test_any_number_of_trainings_in_one_process(
    names: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training and its evaluation compile programs with some 1,500 memory maps, which the next ones use or free."""

    def maps_after(seed: int) -> int:
        config = names["config"].replace(epochs=1, seed=seed)
        emocluster_jax.fit(folder / "data", tmp_path / str(seed), config, console=QUIET)
        emocluster_jax.evaluate(tmp_path / str(seed), folder / "data", console=QUIET)
        return len(MAPS.read_text().splitlines())

    first, second = maps_after(1), maps_after(2)
    assert second - first < 100, (first, second)  # threads and the allocator's arenas have maps, too
    monkeypatch.setattr("emocluster_jax.runtime.programs._MOST_MAPS", 0)
    emocluster_jax.evaluate(tmp_path / "2", folder / "data", console=QUIET)
    assert len(MAPS.read_text().splitlines()) < first - 1_000


def test_choices_that_there_are_not() -> None:
    """In a process of its own: here the types are checked, and find them before."""
    code = """
import emocluster_jax
from emocluster_jax import Console, InputError, ModelConfig
from emocluster_jax.config import FeatureConfig
from emocluster_jax.feed.from_records import resolve_feed

for call in (
    lambda: ModelConfig(system="cnn"),
    lambda: ModelConfig(attributes="arousal"),
    lambda: ModelConfig(attributes=("arousal", "a label")),
    lambda: emocluster_jax.fit("data", "run", "papr"),
    lambda: emocluster_jax.fit("data", "run", {"epochs": 3}),
    lambda: emocluster_jax.fit("data", "run", ModelConfig()),
    lambda: resolve_feed("none", [], FeatureConfig(), Console()),
):
    try:
        print("accepted:", call())
    except InputError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines() == [
        "`system` is 'cnn'; expected one of emocluster, emocluster_gru, emocluster_cnn, emocluster_transformer, "
        "emocluster_triplet, cnn_regressor, cnn_ae, cnn_vae, ladder",
        "`attributes` is 'arousal'; expected a list or tuple",
        "`attributes`: 'a label' cannot be the name of a label; use letters, digits and underscores, at most 64, the "
        "first a letter, and none of chunk, cluster, duration_s, end, file, gender, id, mean, speaker, split, start",
        f"`config` is 'papr'; expected one of TrainConfig, {', '.join(presets)}",
        f"`config` is {{'epochs': 3}}; expected one of TrainConfig, {', '.join(presets)}",
        f"`config` is ModelConfig(s...ons='library'); expected one of TrainConfig, {', '.join(presets)}",
        "`feed` is none; expected auto, resident or streamed",
    ], result.stderr


def test_all_names_can_be_imported() -> None:
    assert all(hasattr(emocluster_jax, name) for name in emocluster_jax.__all__)
    assert set(emocluster_jax.__all__) <= set(dir(emocluster_jax)) and emocluster_jax.ModelConfig is ModelConfig
    with pytest.raises(AttributeError, match="no attribute 'clustres'"):
        _ = emocluster_jax.clustres  # type: ignore[attr-defined]
