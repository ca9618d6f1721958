from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import emocluster_jax
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import AudioConfig, ClusteringConfig, FeatureConfig
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.inference import engine
from emocluster_jax.inference import recordings as batch_inference
from emocluster_jax.inference.forward import Outputs
from emocluster_jax.inference.model_directory import SavedModel, save_model
from emocluster_jax.inference.predictor import Prediction, Predictor
from emocluster_jax.inference.recordings import Recording, SegmentPrediction, Skipped, predict_recordings
from emocluster_jax.models.emocluster import EmoCluster
from emocluster_jax.models.network import Output
from emocluster_jax.preprocessing import decoding, sources
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.chunks import mel_chunks
from emocluster_jax.preprocessing.normalization import Statistics
from emocluster_jax.preprocessing.sources import open_source
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram
from small_models import noise, small_model, write_recording

# Between programs compiled for different shapes; attributes and embeddings here are of the order of 1.
ROUNDING = 1e-4


def assert_same(one: Prediction, other: Prediction, atol: float = ROUNDING) -> None:
    assert one.attributes.keys() == other.attributes.keys()
    np.testing.assert_allclose(one.chunk_attributes, other.chunk_attributes, atol=atol)
    np.testing.assert_allclose(one.chunk_embeddings, other.chunk_embeddings, atol=atol)
    np.testing.assert_array_equal(one.chunk_clusters, other.chunk_clusters)
    np.testing.assert_allclose(list(one.attributes.values()), list(other.attributes.values()), atol=atol)
    np.testing.assert_allclose(one.embedding, other.embedding, atol=atol)
    assert one.cluster == other.cluster


def network_output(model: SavedModel, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attributes in label units, embeddings and logits of the chunks of a signal at 16 kHz with a peak of one."""
    statistics = Statistics(model.feature_mean, model.feature_std)
    chunks = mel_chunks(mel_spectrogram(signal, model.features), model.features, statistics)
    output = _apply(EmoCluster(model.config), model.variables, chunks)
    return (
        np.asarray(output.attributes) * model.label_std + model.label_mean,
        np.asarray(output.embeddings),
        np.asarray(output.cluster_logits),
    )


@partial(jax.jit, static_argnums=0)
def _apply(network: EmoCluster, variables: Any, chunks: Array) -> Output:
    return network.apply(variables, {"audio": chunks[None]})  # type: ignore[return-value]


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    signal = noise(5.3)
    return signal / np.abs(signal).max()


def test_a_prediction_is_the_mean_of_the_network_over_the_chunks(signal: np.ndarray) -> None:
    model = small_model(("arousal", "valence"))

    prediction = Predictor(model)(signal, 16_000)

    attributes, embeddings, _ = network_output(model, signal)
    np.testing.assert_allclose(prediction.chunk_attributes, attributes, atol=ROUNDING)
    np.testing.assert_allclose(prediction.chunk_embeddings, embeddings, atol=ROUNDING)
    assert list(prediction.attributes) == ["arousal", "valence"]
    np.testing.assert_allclose(list(prediction.attributes.values()), attributes.mean(axis=0), atol=ROUNDING)
    np.testing.assert_allclose(prediction.embedding, np.mean(embeddings, axis=0), atol=ROUNDING)
    assert np.ptp(attributes, axis=0).min() > 100 * ROUNDING  # chunks that are all alike would prove little


def test_the_cluster_is_the_nearest_centroid(signal: np.ndarray) -> None:
    _, embeddings, _ = network_output(small_model(), signal)
    centroids = embeddings[[7, 0, 3, 9, 5]]  # so that these chunks' clusters are known

    prediction = Predictor(small_model(centroids=centroids))(signal, 16_000)

    assert prediction.chunk_clusters[[7, 0, 3, 9, 5]].tolist() == [0, 1, 2, 3, 4]
    distances = ((embeddings[:, None] - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(prediction.chunk_clusters, distances.argmin(axis=1))


def test_embeddings_are_transformed_as_they_were_for_clustering(signal: np.ndarray) -> None:
    _, embeddings, _ = network_output(small_model(), signal)
    random = np.random.default_rng(0)
    mean, projection = np.mean(embeddings, axis=0), random.normal(size=(32, 4)).astype(np.float32)
    projected = (embeddings - mean) @ projection
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    centroids = projected[[2, 4, 6, 8, 10]]

    prediction = Predictor(
        small_model(
            clustering=ClusteringConfig(pca_components=4, l2_normalize=True),
            transform=EmbeddingTransform(mean, projection),
            centroids=centroids,
        )
    )(signal, 16_000)

    distances = ((projected[:, None] - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(prediction.chunk_clusters, distances.argmin(axis=1))
    np.testing.assert_allclose(prediction.chunk_embeddings, embeddings, atol=ROUNDING)


def test_without_centroids_the_cluster_is_the_largest_logit(signal: np.ndarray) -> None:
    model = small_model(centroids=None)
    _, _, logits = network_output(model, signal)

    prediction = Predictor(model)(signal, 16_000)

    np.testing.assert_array_equal(prediction.chunk_clusters, np.argmax(logits, axis=1))


def test_the_majority_decides_and_of_equal_clusters_the_lowest() -> None:
    predictor = Predictor(small_model(features=FeatureConfig(chunks_per_utterance=4)))
    clusters = jnp.asarray([4, 4, 1, 1, 3, 3, 3, 0], jnp.int32)

    predictions = predictor.predictions(Outputs(jnp.zeros((8, 32)), jnp.zeros((8, 1)), clusters))

    assert [prediction.cluster for prediction in predictions] == [1, 3]


def test_scale_and_sample_type_do_not_matter(signal: np.ndarray) -> None:
    predictor = Predictor(small_model())
    expected = predictor(signal, 16_000)

    assert_same(predictor(0.01 * signal, 16_000), expected)
    assert_same(predictor(np.stack([signal, signal]), 16_000), expected)
    integers = np.round(signal * 32_767).astype(np.int16)
    assert_same(predictor(integers, 16_000), expected, atol=1e-2)  # quantised to 16 bits


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_an_array_gives_what_its_file_gives(tmp_path: Path, rate: int) -> None:
    stereo = np.stack([noise(2.2, rate), 0.5 * noise(2.2, rate, seed=1)])
    path = write_recording(tmp_path / "stereo.wav", stereo, rate)
    predictor = Predictor(small_model())

    (row,) = predict_recordings([predictor], [Recording("stereo.wav", path)])

    assert isinstance(row, SegmentPrediction)
    assert (row.file, row.start_s, row.is_last) == ("stereo.wav", 0.0, True)
    assert row.end_s == pytest.approx(2.2, abs=1e-3)
    assert_same(row.predictions[0], predictor(stereo, rate))


@pytest.mark.parametrize("bad", [np.zeros(16_000), np.zeros(0), np.full(100, np.nan), np.zeros((2, 0))])
def test_a_signal_that_cannot_be_used_raises(bad: np.ndarray) -> None:
    with pytest.raises(RecordingError):
        Predictor(small_model())(bad, 16_000)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Five recordings from half a second to 13 s, with one that is broken and one that is silent among them."""
    folder = tmp_path_factory.mktemp("recordings")
    paths = [
        write_recording(folder / f"{i}.wav", noise(seconds, seed=i)) for i, seconds in enumerate([2, 0.5, 13, 3.7, 1])
    ]
    (folder / "broken.wav").write_bytes(b"no audio")
    write_recording(folder / "silent.wav", np.zeros(16_000, np.float32))
    paths[1:1] = [folder / "broken.wav"]
    paths.append(folder / "silent.wav")
    return [Recording(path.name, path) for path in paths]


def test_recordings_come_in_order_and_bad_ones_say_why(recordings: list[Recording]) -> None:
    results = list(predict_recordings([Predictor(small_model())], recordings, workers=3))

    assert [result.file for result in results] == [recording.name for recording in recordings]
    skipped = {result.file: result.reason for result in results if isinstance(result, Skipped)}
    assert skipped.keys() == {"broken.wav", "silent.wav"}
    assert skipped["silent.wav"] == "silent"


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 4)])
def test_batches_change_nothing_and_are_compiled_once(
    recordings: list[Recording], batch_size: int, workers: int
) -> None:
    predictor = Predictor(small_model(seed=batch_size), engine="jax")
    before = engine._forward._cache_size()

    results = list(predict_recordings([predictor], recordings, batch_size=batch_size, workers=workers))

    assert engine._forward._cache_size() <= before + 1
    rows = [result for result in results if isinstance(result, SegmentPrediction)]
    assert len(rows) == 5
    paths = {recording.name: recording.path for recording in recordings}
    for row in rows:
        assert_same(row.predictions[0], predictor(read_audio(paths[row.file], 16_000), 16_000))


def test_durations_and_rates_compile_nothing(recordings: list[Recording]) -> None:
    predictor = Predictor(small_model(), engine="jax")
    predictor(noise(2.0), 16_000)
    list(predict_recordings([predictor], recordings[:1]))
    compiled: list[str] = []

    def listen(event: str, duration_s: float, **others: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(others.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for seconds, rate in ((0.4, 8_000), (1.0, 44_100), (3.3, 16_000), (17.0, 22_050)):
            predictor(noise(seconds, rate), rate)
        list(predict_recordings([predictor], recordings))
        assert compiled == []
        predictor.predict_chunks(np.zeros((77, 62, 128), np.float32))
        assert len(compiled) > 0  # so that it would be seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_several_models_predict_what_each_does_alone(recordings: list[Recording]) -> None:
    first = small_model(seed=1)
    twin = small_model(seed=2, feature_mean=first.feature_mean, feature_std=first.feature_std)
    other_statistics = small_model(seed=3)
    other_features = small_model(seed=4, features=FeatureConfig(sample_rate_hz=8_000, hop_size=128))
    predictors = [Predictor(model) for model in (first, twin, other_statistics, other_features)]

    together = list(predict_recordings(predictors, recordings))

    for position, predictor in enumerate(predictors):
        alone = predict_recordings([predictor], recordings)
        for row, expected in zip(together, alone, strict=True):
            if isinstance(row, SegmentPrediction):
                assert isinstance(expected, SegmentPrediction)
                assert_same(row.predictions[position], expected.predictions[0], atol=0)


def test_windows_are_predicted_as_recordings_with_the_peak_of_the_whole(tmp_path: Path) -> None:
    signal = noise(7.0) * np.linspace(0.2, 1, 7 * 16_000, dtype=np.float32)  # loudest at its end
    path = write_recording(tmp_path / "long.wav", signal)
    model = small_model()
    predictor = Predictor(model)

    rows = list(predict_recordings([predictor], [Recording("long.wav", path)], window_s=2.5))

    assert [(row.start_s, row.end_s, row.is_last) for row in rows if isinstance(row, SegmentPrediction)] == [
        (0.0, 2.5, False),
        (2.5, 5.0, False),
        (5.0, 7.0, True),
    ]
    whole = signal / np.abs(signal).max()
    for row in rows:
        assert isinstance(row, SegmentPrediction)
        window = whole[round(row.start_s * 16_000) : round(row.end_s * 16_000)]
        attributes, embeddings, _ = network_output(model, window)
        np.testing.assert_allclose(row.predictions[0].chunk_attributes, attributes, atol=ROUNDING)
        np.testing.assert_allclose(row.predictions[0].chunk_embeddings, embeddings, atol=ROUNDING)


@pytest.mark.parametrize(("rate", "window_s"), [(16_000, None), (22_050, None), (22_050, 2.5), (22_050, 15.0)])
def test_recordings_that_are_not_held_in_memory_are_predicted_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, window_s: float | None
) -> None:
    """With two front ends of different sample rates, each of which reads the file anew; several blocks a window."""
    recording = Recording("long.wav", write_recording(tmp_path / "long.wav", noise(32.2, rate), rate))
    predictors = [Predictor(small_model()), Predictor(small_model(features=FeatureConfig(sample_rate_hz=8_000)))]
    held = list(predict_recordings(predictors, [recording], window_s=window_s))

    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 10_000)
    monkeypatch.setattr(sources, "HELD_S", 30.0)
    rows = list(predict_recordings(predictors, [recording], window_s=window_s))

    assert isinstance(sources.open_source(recording.path, FeatureConfig()), sources.LongRecording)
    assert len(rows) == len(held) == (1 if window_s is None else 32.2 // window_s + 1)
    for row, expected in zip(rows, held, strict=True):
        assert isinstance(row, SegmentPrediction) and isinstance(expected, SegmentPrediction)
        assert (row.start_s, row.end_s, row.is_last) == (expected.start_s, expected.end_s, expected.is_last)
        for one, other in zip(row.predictions, expected.predictions, strict=True):
            assert_same(one, other, atol=0)


def assert_same_rows(
    rows: Sequence[SegmentPrediction | Skipped], others: Sequence[SegmentPrediction | Skipped], atol: float
) -> None:
    for row, other in zip(rows, others, strict=True):
        assert isinstance(row, SegmentPrediction) and isinstance(other, SegmentPrediction)
        assert (row.file, row.start_s, row.end_s) == (other.file, pytest.approx(other.start_s), other.end_s)
        for prediction, expected in zip(row.predictions, other.predictions, strict=True):
            assert_same(prediction, expected, atol)


@pytest.mark.parametrize("held_s", [1800.0, 5.0])
def test_segments_are_predicted_as_the_windows_that_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_s: float
) -> None:
    """Of signals in memory and of those that are not. To the bit where they have the same places in their batches."""
    monkeypatch.setattr(sources, "HELD_S", held_s)
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 10_000)
    signal = noise(14.3, 22_050) * np.linspace(0.2, 1, round(14.3 * 22_050), dtype=np.float32)
    path = write_recording(tmp_path / "a.wav", signal, 22_050)
    predictors = [Predictor(small_model()), Predictor(small_model(features=FeatureConfig(sample_rate_hz=8_000)))]
    windows = list(predict_recordings(predictors, [Recording("a.wav", path)], window_s=2.1))
    whole = list(predict_recordings(predictors, [Recording("a.wav", path)]))

    segments = [Recording("a.wav", path, w.start_s, w.end_s) for w in windows if isinstance(w, SegmentPrediction)]
    assert len(segments) == 7
    rows = list(predict_recordings(predictors, segments))
    assert_same_rows(rows, windows, atol=0)
    assert all(row.is_last for row in rows if isinstance(row, SegmentPrediction))

    within = list(predict_recordings(predictors, [Recording("a.wav", path, 2.1, 8.4)], window_s=2.1))
    assert_same_rows(within, windows[1:4], atol=ROUNDING)
    assert [row.is_last for row in within if isinstance(row, SegmentPrediction)] == [False, False, True]

    # Backwards, one after another again, and without an end; NaN is what pandas makes of it.
    others = [*segments[::-1], Recording("a.wav", path, 0, float("nan")), *segments[2:4], Recording("a.wav", path)]
    expected = [*windows[::-1], *whole, *windows[2:4], *whole]
    assert_same_rows(list(predict_recordings(predictors, others)), expected, atol=ROUNDING)


def test_segments_that_cannot_be(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.wav", noise(2.0))
    times = [
        (0.5, 2.04),
        (0.5, 2.06),
        (2.5, 3.0),
        (1.0, 1.0),
        (-1.0, 1.0),
        (2.0, None),
        (1.99, None),
        (0.0, float("inf")),
    ]
    recordings = [Recording("a.wav", path, *pair) for pair in times]
    recordings += [Recording("gone.wav", tmp_path / "gone.wav", start, start + 1) for start in range(2)]
    rows = list(predict_recordings([Predictor(small_model())], recordings))
    beyond, empty = "the segment reaches beyond the file's end", "the segment is empty"
    assert [row.reason if isinstance(row, Skipped) else (row.start_s, row.end_s) for row in rows] == [
        (0.5, 2.04),
        beyond,
        beyond,
        empty,
        "the segment begins before its file does",
        empty,
        (1.99, 2.0),
        beyond,
        "no such file",
        "no such file",
    ]
    assert [row.file for row in rows if isinstance(row, Skipped)][-2:] == ["gone.wav#0-1", "gone.wav#1-2"]


def test_a_file_is_decoded_once_for_segments_that_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_recording(tmp_path / name, noise(4.0, seed=i)) for i, name in enumerate(("a.wav", "b.wav"))]
    decoded: list[Path] = []

    def counting(path: Path, *settings: Any) -> Any:
        decoded.append(path)
        return open_source(path, *settings)

    monkeypatch.setattr(batch_inference, "open_source", counting)
    recordings = [Recording(path.name, path, start, start + 1) for path in paths for start in range(4)]
    assert len(list(predict_recordings([Predictor(small_model())], recordings))) == 8
    assert sorted(decoded) == paths


def test_a_long_recording_that_changes_after_its_peak_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HELD_S", 5.0)
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 16_000)
    path = write_recording(tmp_path / "long.wav", noise(8.0))
    long = sources.open_source(path, FeatureConfig())
    write_recording(path, noise(7.0))
    with pytest.raises(RecordingError, match="changed while it was read"):
        sources.reader(long)(100_000, 120_000)


@pytest.mark.parametrize(
    ("duration_s", "ends"),
    [(0.4, [0.4]), (2.0, [2.0]), (2.9, [2.0]), (3.0, [2.0, 3.0]), (4.0, [2.0, 4.0]), (4.99, [2.0, 4.0])],
)
def test_a_rest_counts_from_one_second_on(tmp_path: Path, duration_s: float, ends: list[float]) -> None:
    path = write_recording(tmp_path / "a.wav", noise(duration_s))

    rows = list(predict_recordings([Predictor(small_model())], [Recording("a.wav", path)], window_s=2.0))

    assert [row.end_s for row in rows if isinstance(row, SegmentPrediction)] == pytest.approx(ends)
    assert [row.is_last for row in rows if isinstance(row, SegmentPrediction)] == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("window_s", [0.0, -1.0, 0.5, float("nan"), float("inf")])
def test_windows_shorter_than_a_chunk_are_refused(window_s: float) -> None:
    with pytest.raises(InputError, match=r"`window_s` is .*; expected 1 "):
        list(predict_recordings([Predictor(small_model())], [], window_s=window_s))


def test_no_recordings_give_no_rows() -> None:
    assert list(predict_recordings([Predictor(small_model())], [])) == []


def test_iteration_may_stop_half_way(recordings: list[Recording]) -> None:
    results = predict_recordings([Predictor(small_model())], iter(recordings), batch_size=1)
    first = next(results)
    results.close()  # type: ignore[attr-defined]
    assert first.file == recordings[0].name


def test_a_model_loads_from_its_directory_and_from_a_work_directory(tmp_path: Path, signal: np.ndarray) -> None:
    model = small_model()
    save_model(tmp_path / "run" / "model", model)
    expected = Predictor(model)(signal, 16_000)

    assert_same(emocluster_jax.load_model(tmp_path / "run" / "model")(signal, 16_000), expected, atol=0)
    assert_same(emocluster_jax.load_model(str(tmp_path / "run"))(signal, 16_000), expected, atol=0)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model directory"):
        emocluster_jax.load_model(tmp_path)


def between_silences(before_s: float, speech_s: float, after_s: float) -> np.ndarray:
    before, after = (np.zeros(round(seconds * 16_000), np.float32) for seconds in (before_s, after_s))
    return np.concatenate([before, noise(speech_s), after])


def test_silent_windows_reach_no_network_and_the_others_do_as_before(tmp_path: Path) -> None:
    """Digital silence, speech, digital silence: every silent window would get one and the same number."""
    path = write_recording(tmp_path / "a.wav", between_silences(20, 10, 20))
    predictors = [Predictor(small_model()), Predictor(small_model(("valence",), system="cnn_regressor", seed=1))]
    recording = Recording("a.wav", path)

    rows = list(predict_recordings(predictors, [recording], window_s=5.0, batch_size=3))

    assert len(rows) == 10
    signal = read_audio(path, 16_000)
    for row in rows:
        assert isinstance(row, SegmentPrediction)
        silent = not 20 <= row.start_s < 30
        assert row.quality.silent_chunks == silent
        assert [prediction.silent for prediction in row.predictions] == [silent, silent]
        for predictor, prediction in zip(predictors, row.predictions, strict=True):
            if silent:
                assert np.isnan(prediction).all() and np.isnan(prediction.embedding).all()
                expected = predictor(noise(1.0), 16_000)
                assert prediction.chunk_embeddings.shape == expected.chunk_embeddings.shape
                assert prediction.chunk_attributes.shape == expected.chunk_attributes.shape
                assert prediction.cluster == (None if expected.cluster is None else -1)
            else:
                window = signal[round(row.start_s * 16_000) : round(row.end_s * 16_000)]
                chunks = mel_chunks(mel_spectrogram(window, FeatureConfig()), FeatureConfig(), predictor.statistics)
                assert_same(prediction, predictor.predict_chunks(chunks)[0])


def test_a_recording_whose_chunks_miss_the_speech_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = between_silences(47, 4, 64)  # chunks begin at 45.6 s and 57.0 s
    recording = Recording("a.wav", write_recording(tmp_path / "a.wav", signal))
    predictor = Predictor(small_model())
    expected = Skipped("a.wav", "all of its 11 chunks are silent; `window_s` predicts it part by part")

    assert list(predict_recordings([predictor], [recording])) == [expected]
    with pytest.raises(RecordingError, match="all of its 11 chunks are silent"):
        predictor(signal, 16_000)
    monkeypatch.setattr(sources, "HELD_S", 30.0)
    assert list(predict_recordings([predictor], [recording])) == [expected]


def test_models_with_other_audio_settings_hear_other_signals(tmp_path: Path) -> None:
    """Of one rate; each as it does alone, and as the settings that are given say."""
    left, right = noise(3), noise(3, seed=1) + 0.2
    recording = Recording("a.wav", write_recording(tmp_path / "a.wav", np.stack([left, right])))
    settings = [AudioConfig(), AudioConfig(channel=1), AudioConfig(channel=2), AudioConfig(channel=2, remove_dc=True)]
    predictors = [Predictor(small_model(audio=audio)) for audio in settings]
    signals = [(left + right) / 2, left, right, right - right.mean()]

    (row,) = predict_recordings(predictors, [recording])
    (changed,) = predict_recordings(predictors[:1] * 4, [recording], audio=settings)

    assert isinstance(row, SegmentPrediction) and isinstance(changed, SegmentPrediction)
    assert row.quality.dc_offset == pytest.approx(np.mean(signals[0]) / np.abs(signals[0]).max(), rel=1e-4)
    for predictor, signal, one, other in zip(predictors, signals, row.predictions, changed.predictions, strict=True):
        assert_same(one, predictors[0](signal, 16_000))
        assert_same(one, predictor(np.stack([left, right]), 16_000))
        assert_same(one, other, atol=0)
    assert np.unique([np.asarray(prediction) for prediction in row.predictions]).size == 4


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    recording = Recording("a.wav", write_recording(tmp_path / "a.wav", np.stack([noise(1), noise(1, seed=1)])))
    predictor = Predictor(small_model(audio=AudioConfig(channel=3)))
    assert list(predict_recordings([predictor], [recording])) == [Skipped("a.wav", "no channel 3: it has 2")]
    with pytest.raises(RecordingError, match="no channel 3: it has 1"):
        predictor(noise(1), 16_000)


def test_a_forked_process_refuses_what_would_hang() -> None:
    predictor = Predictor(small_model())
    predictor(noise(1.0), 16_000)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        with pytest.warns(RuntimeWarning, match="fork"):
            calls = [pool.submit(predictor, noise(1.0), 16_000), pool.submit(emocluster_jax.load_model, "model")]
        try:
            for call in calls:
                with pytest.raises(InputError, match=r"forked from one in which JAX had started.*; use threads"):
                    call.result(60)
        finally:
            for process in pool._processes.values():  # one that hangs would be waited for
                process.kill()


def test_a_predictor_can_be_sent_to_another_process(signal: np.ndarray) -> None:
    predictor = Predictor(small_model())
    expected = predictor(signal, 16_000)
    assert_same(pickle.loads(pickle.dumps(predictor))(signal, 16_000), expected, atol=0)
