"""From recordings to predictions by other libraries' features, without files in between."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import emocluster_jax
from emocluster_jax.config import DEFAULT_AUDIO, FrontEndFeatures
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.inference.model_directory import read_model, save_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.interop.model_card import RunNumbers, model_card
from emocluster_jax.preprocessing.chunks import mel_chunks
from emocluster_jax.preprocessing.front_ends import all_frames
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from emocluster_jax.reporting.html.recordings import draw_cut
from launch import predict, prepare
from running import call
from small_encoders import save_encoder
from small_models import noise, small_model, write_recording

DURATIONS_S = (0.4, 1.2, 1.7, 2.1, 1.5, 0.02)


@pytest.fixture(scope="module", params=["opensmile", "transformers"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings in `speech`, prepared in `data` by the features that the file `features` names."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "opensmile":
        pytest.importorskip("opensmile", reason='opensmile is not installed; pip install "emocluster_jax[opensmile]"')
        features = "opensmile:eGeMAPSv02"
    else:
        features = f"transformers:{save_encoder(folder / 'encoder')}@1"
    (folder / "features").write_text(features)
    (folder / "speech").mkdir()
    lines = ["file,split,arousal,start,end"]
    for i, duration_s in enumerate(DURATIONS_S):
        write_recording(folder / "speech" / f"{i}.wav", 0.5 * noise(duration_s, seed=i))
        lines.append(f"{i}.wav,{('train', 'validation', 'test')[i % 3]},{i},,")
    lines.append("3.wav,train,2,0.5,1.75")
    (folder / "speech" / "manifest.csv").write_text("\n".join(lines) + "\n")
    call(prepare, *command(folder, "data"))
    return folder


def command(folder: Path, data: str, workers: int = 1) -> list[str]:
    features = (folder / "features").read_text()
    given = f"--corpus manifest --source {folder / 'speech'} --data-dir {folder / data} --workers {workers}"
    return [*given.split(), "--features", features]


@pytest.fixture(scope="module")
def model(prepared: Path) -> Path:
    """A directory of an untrained model of these features."""
    preparation = read_preparation(prepared / "data")
    statistics = preparation.feature_statistics
    changes = {"features": preparation.features, "feature_mean": statistics.mean, "feature_std": statistics.std}
    save_model(prepared / "model", small_model(**changes))
    return prepared / "model"


def features_of(prepared: Path) -> FrontEndFeatures:
    features = read_preparation(prepared / "data").features
    assert isinstance(features, FrontEndFeatures)
    return features


def test_records_are_of_the_front_ends_frames(prepared: Path) -> None:
    preparation, features = read_preparation(prepared / "data"), features_of(prepared)
    assert json.loads((prepared / "data" / "preparation.json").read_text())["features"] == dataclasses.asdict(features)
    ((skipped, reason),) = [(one.id, one.reason) for one in preparation.skipped]
    assert skipped == "5.wav" and reason.startswith("shorter than 0.0")
    assert preparation.padded == 1 and preparation.counts == {"train": 3, "validation": 2, "test": 1}
    train = open_data(prepared / "data").read("train")
    assert list(train.ids) == ["0.wav", "3.wav", "3.wav#0.5-1.75"]
    whole = [noise(duration_s, seed=i) for i, duration_s in ((0, 0.4), (3, 2.1))]
    signals = [signal / np.abs(signal).max() for signal in whole]
    frames = [all_frames(signal, features) for signal in (*signals, signals[1][8_000:28_000])]
    together = np.concatenate(frames).astype(np.float64)
    for found, recording in zip(train.chunks, frames, strict=True):
        normalized = np.clip((recording - together.mean(axis=0)) / together.std(axis=0), -3, 3)
        if len(recording) < features.chunk_frames:
            normalized = np.pad(normalized, ((0, features.chunk_frames - len(recording)), (0, 0)))
        step = (len(normalized) - features.chunk_frames) // 10
        expected = [normalized[i * step : i * step + features.chunk_frames] for i in range(11)]
        np.testing.assert_allclose(found, expected, atol=2e-3)  # float16 within 3


def test_other_workers_write_the_same_and_what_is_there_is_used(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(prepare, *command(prepared, "by-others", workers=2))
    out = capsys.readouterr().out
    assert features_of(prepared).summary in " ".join(out.split())
    assert ("non-commercial" in out) == (features_of(prepared).library == "opensmile")
    one, other = (read_preparation(prepared / data) for data in ("data", "by-others"))
    assert one.files == other.files and one.fingerprint == other.fingerprint
    call(prepare, *command(prepared, "data"))
    assert "holds these recordings already" in capsys.readouterr().out


def test_models_predict_recordings_as_their_records(prepared: Path, model: Path) -> None:
    output = prepared / "predictions.csv"
    call(predict, "--checkpoint", str(model), "--input", str(prepared / "speech"), "--output", str(output), "--quiet")
    header, *rows = output.read_text().splitlines()
    assert header == "file,start,end,arousal" and [row.split(",")[0] for row in rows] == [f"{i}.wav" for i in range(5)]
    predictor = emocluster_jax.load_model(model)
    signal = 0.5 * noise(2.1, seed=3)
    from_memory = predictor(signal, 16_000)
    assert float(rows[3].split(",")[3]) == pytest.approx(from_memory.attributes["arousal"], abs=1e-4)
    train = open_data(prepared / "data").read("train")
    records = predictor.predict_chunks(train.chunks.reshape(-1, *train.chunks.shape[2:]).astype(np.float32))
    assert records[1].attributes["arousal"] == pytest.approx(from_memory.attributes["arousal"], abs=0.02)
    windows = emocluster_jax.predict(predictor, prepared / "speech" / "3.wav", window_s=1)
    assert windows.ends_s.tolist() == [1, 2]
    peak = np.abs(signal).max()
    alone = predictor.predict_chunks(_chunks(signal[:16_000] / peak, predictor))[0]
    assert windows.attributes["arousal"][0] == pytest.approx(alone.attributes["arousal"], abs=1e-4)
    assert windows.quality["silent_chunks"].tolist() == [0, 0]
    with pytest.raises(RecordingError, match="shorter than"):
        predictor(signal[:300], 16_000)


def _chunks(signal: np.ndarray, predictor: Predictor) -> np.ndarray:
    features = predictor.features
    assert isinstance(features, FrontEndFeatures)
    return mel_chunks(all_frames(signal, features), features, predictor.statistics)


def test_a_model_without_its_front_end_says_so_once(
    prepared: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = dataclasses.replace(features_of(prepared), checksum="eGeMAPSv02 of opensmile 1.0.0")
    save_model(tmp_path / "model", dataclasses.replace(read_model(model), features=changed))
    predictor = emocluster_jax.load_model(tmp_path / "model")  # as for predicting records, which needs none
    found = r"pip install opensmile==1\.0\.0" if changed.library == "opensmile" else "holds another encoder"
    with pytest.raises(InputError, match=found):
        emocluster_jax.predict(predictor, prepared / "speech")
    with pytest.raises(InputError, match=found):
        predictor(noise(1.0), 16_000)


def test_what_does_not_go_with_a_front_end(prepared: Path) -> None:
    given = command(prepared, "none")
    with pytest.raises(InputError, match="are no spectrogram; leave out --window-ms, --hop-ms and --mel-bands"):
        call(prepare, *given, "--mel-bands", "64")
    with pytest.raises(InputError, match="--frame-rate says that the recordings are features; leave out --features"):
        call(prepare, *given, "--frame-rate", "50")
    with pytest.raises(InputError, match="--features is 'mfcc'; expected mel, opensmile:eGeMAPSv02"):
        call(prepare, *given[:-1], "mfcc")


def test_the_report_draws_frames_and_the_card_has_the_code(prepared: Path, model: Path) -> None:
    pytest.importorskip("yaml")
    features = features_of(prepared)
    train = open_data(prepared / "data").read("train")
    cut = draw_cut("3.wav", prepared / "speech", 2.1, train.chunks[1], features, DEFAULT_AUDIO)
    assert cut.frames is not None and len(cut.chunks) == 11 and cut.chunk_s == 1
    assert cut.ticks[0][1] == "dim. 1"

    card = model_card(read_model(model), RunNumbers(), None, ["stablehlo"], name="a model")
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert features.summary in card and ("non-commercial" in card) == (features.library == "opensmile")
    # What stands between the recording and its chunks, on a signal.
    start = "smile =" if features.library == "opensmile" else "extractor ="
    middle = start + code.split(start)[1].split("normalised =")[0]
    signal = noise(1.5) / np.abs(noise(1.5)).max()
    scope = {"f": dataclasses.asdict(features), "signal": signal, "np": np}
    imports = [line for line in code.splitlines() if "import " in line and "librosa" not in line]
    exec("\n".join(imports) + "\n" + middle, scope)
    np.testing.assert_array_equal(scope["frames"], all_frames(signal, features))
