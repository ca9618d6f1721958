"""Players and pictures of recordings, which may be segments of files."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from librosa import mel_frequencies

from emocluster_jax.config import DEFAULT_AUDIO, FeatureConfig, GivenFeatures
from emocluster_jax.console import Console
from emocluster_jax.reporting.html.figures import cluster_colour
from emocluster_jax.reporting.html.recordings import draw_cut, typical_recordings
from emocluster_jax.reporting.html.sample import Sample, SampledRecording
from small_models import write_recording

TONES_HZ = (400, 800, 1_600, 3_200)
"""A second of each, one after another."""
SECONDS = {"a.wav": 4.0, "a.wav#1-2": 1.0, "a.wav#2.5-": 1.5, "take#1-2": 4.0, "a.wav#3-9": 6.0, "gone.wav#0-1": 1.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    time = np.arange(16_000) / 16_000
    tones = np.concatenate([0.5 * np.sin(2 * np.pi * tone * time) for tone in TONES_HZ]).astype(np.float32)
    write_recording(folder / "a.wav", tones)
    write_recording(folder / "take#1-2", tones)  # a whole file whose name looks like a segment's
    write_recording(folder / "second.wav", tones[16_000:32_000])
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(200, 24)).astype(np.float32))
    np.save(folder / "second.npy", np.load(folder / "a.npy")[50:100])
    return folder


def heard_hz(audio: str) -> list[int]:
    """The strongest frequency of each whole half-second."""
    signal, rate = soundfile.read(io.BytesIO(base64.b64decode(audio.partition(",")[2])))
    halves = signal[: len(signal) // (rate // 2) * (rate // 2)].reshape(-1, rate // 2)
    return (2 * np.abs(np.fft.rfft(halves * np.hanning(rate // 2))).argmax(axis=1)).tolist()


def test_players_play_segments(source: Path) -> None:
    recordings = tuple(
        SampledRecording(id, "train", "", "", seconds, {}, {}, 0, 11, float(i))
        for i, (id, seconds) in enumerate(SECONDS.items())
    )
    sample = Sample(
        recordings, len(recordings), np.zeros((len(recordings), 2), np.float32), np.zeros((1, 2), np.float32)
    )
    (typical,) = typical_recordings(sample, source, DEFAULT_AUDIO, 9, 3.0, Console(quiet=True))
    heard = {clip.recording.id: clip.reason or heard_hz(clip.audio or "") for clip in typical.clips}
    # MP3 begins with some silence; players skip it, and so does libsndfile. At its end the coder may leave a rest.
    expected = {
        "a.wav": [400, 400, 800, 800, 1_600, 1_600],
        "a.wav#1-2": [800, 800],
        "a.wav#2.5-": [1_600, 3_200, 3_200],
        "take#1-2": [400, 400, 800, 800, 1_600, 1_600],
    }
    for id, tones in expected.items():
        np.testing.assert_allclose(heard[id][: len(tones)], tones, atol=4)
    assert heard["a.wav#3-9"] == "the segment reaches beyond the file's end"
    assert heard["gone.wav#0-1"] == "no such file"


def test_clusters_come_in_the_order_of_their_mean_label(source: Path) -> None:
    ratings = [(0, {"valence": 1.0, "arousal": 5.0}), (1, {}), (2, {"arousal": 3.0}), (2, {"arousal": 4.0})]
    recordings = tuple(
        SampledRecording("gone.wav", "train", "", "", 1.0, labels, {"valence": 2.0}, cluster, 11, 0.0)
        for cluster, labels in ratings
    )
    sample = Sample(recordings, 4, np.zeros((4, 2), np.float32), np.zeros((3, 2), np.float32))
    found = typical_recordings(sample, source, DEFAULT_AUDIO, 1, 1.0, Console(quiet=True))
    assert [(one.cluster, one.label, one.mean) for one in found] == [
        (2, "arousal", 3.5),
        (0, "arousal", 5.0),
        (1, "arousal", None),
    ]
    assert [one.colour for one in found] == [cluster_colour(one.cluster) for one in found]


def test_the_frequency_axis_is_where_a_tone_is(source: Path) -> None:
    features = FeatureConfig(mel_bands=64)
    chunks = np.zeros((11, features.chunk_frames, 64), np.float16)
    cut = draw_cut("second.wav", source, 1.0, chunks, features, DEFAULT_AUDIO)
    ticks = {label: share for share, label in cut.ticks}
    assert list(ticks) == ["500 Hz", "1 kHz", "2 kHz", "4 kHz"]
    # librosa's own bands, interpolated between their centres.
    centres = mel_frequencies(64 + 2, fmin=0.0, fmax=8_000.0)[1:-1]
    for label, hz in (("500 Hz", 500), ("1 kHz", 1_000), ("4 kHz", 4_000)):
        assert 64 * ticks[label] - 0.5 == pytest.approx(np.interp(hz, centres, np.arange(64)), abs=0.02)
    given = GivenFeatures(dimensions=24, frames_per_second=50)
    chunks = np.zeros((11, given.chunk_frames, 24), np.float16)
    labels = [label for _, label in draw_cut("second.npy", source, 1.0, chunks, given, DEFAULT_AUDIO).ticks]
    assert labels == ["dim. 1", "dim. 24"]


@pytest.mark.parametrize(
    ("suffix", "features"), [("wav", FeatureConfig()), ("npy", GivenFeatures(dimensions=24, frames_per_second=50))]
)
def test_pictures_are_of_the_segment(source: Path, suffix: str, features: FeatureConfig | GivenFeatures) -> None:
    chunks = np.random.default_rng(0).normal(size=(11, features.chunk_frames, features.dimensions)).astype(np.float16)
    of_segment = draw_cut(f"a.{suffix}#1-2", source, 1.0, chunks, features, DEFAULT_AUDIO)
    of_file = draw_cut(f"second.{suffix}", source, 1.0, chunks, features, DEFAULT_AUDIO)  # the same second, alone
    assert of_segment.frames is not None and of_segment.frames == of_file.frames
    assert of_segment.frames != draw_cut(f"a.{suffix}", source, 4.0, chunks, features, DEFAULT_AUDIO).frames
    assert of_segment.starts_s == of_file.starts_s
    assert draw_cut(f"../{source.name}/a.{suffix}#1-2", source, 1.0, chunks, features, DEFAULT_AUDIO).frames is None
