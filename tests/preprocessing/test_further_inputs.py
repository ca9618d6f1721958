"""Vectors and frames beside the sound: what is read, what is refused by which words, and where frames are cut."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig, GivenFeatures
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing.chunks import chunk_step
from emocluster_jax.preprocessing.further_inputs import check_durations, checked_inputs, input_arrays, read_inputs

TEXT = FurtherInput("text", 24)
FACE = FurtherInput("face", 2, 25.0)
MEL = FeatureConfig()
VECTOR = np.random.default_rng(0).normal(size=24)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def clock(duration_s: float, rate: float = 25.0) -> np.ndarray:
    """Frames that hold the time at which they begin."""
    return np.repeat(np.arange(round(duration_s * rate))[:, None] / rate, 2, axis=1).astype(np.float32)


def times(duration_s: float, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
    """When the frames of each chunk begin, of a segment of a file."""
    length = round(((duration_s if end_s is None else end_s) - start_s) * MEL.sample_rate_hz)
    arrays = input_arrays({"face": clock(duration_s)}, (FACE,), MEL, start_s, length)
    np.testing.assert_array_equal(arrays["face"][..., 0], arrays["face"][..., 1])
    assert arrays["face"].shape == FACE.shape(MEL) == (11, 25, 2)
    return arrays["face"][..., 0]


def test_a_vector_of_every_type_and_a_missing_one(tmp_path: Path) -> None:
    vector = VECTOR.astype(np.float16)
    files = {}
    for number, dtype in enumerate(("<f2", ">f4", "<f8")):
        files[f"of_{number}"] = tmp_path / f"{number}.npy"
        np.save(files[f"of_{number}"], vector.astype(dtype))
    inputs = (*(FurtherInput(name, 24) for name in files), FurtherInput("missing", 3))
    found = read_inputs(files, inputs)
    assert all(read.dtype == np.float32 for read in found.values()) and found.keys() == files.keys()
    arrays = input_arrays(found, inputs, MEL, 0.0, 16_000)
    assert np.isnan(arrays.pop("missing")).tolist() == [True] * 3
    for read in arrays.values():
        np.testing.assert_array_equal(read, vector)
    in_memory = checked_inputs({"text": vector, "face": None}, (FACE, TEXT))
    assert list(in_memory) == ["text"]
    np.testing.assert_array_equal(in_memory["text"], vector)


@pytest.mark.parametrize(
    ("given", "content", "reason"),
    [
        (TEXT, b"", "empty file"),
        (TEXT, b"1 2 3", "no NumPy file"),
        (TEXT, npy(np.ones(3)), r"an array of shape \(3,\); expected \(24,\)"),
        (TEXT, npy(np.ones((1, 24))), r"an array of shape \(1, 24\); expected \(24,\)"),
        (TEXT, npy(np.ones(24, int)), "numbers of type int64; expected float16, float32 or float64"),
        (TEXT, npy(np.full(24, np.nan)), "NaN or infinite numbers"),
        (TEXT, npy(np.full(24, 1e19)), r"numbers beyond 1e\+18"),
        (TEXT, npy(np.ones(24))[:-1], "truncated"),
        (TEXT, npy(np.array([None] * 24)), "pickled objects"),
        (TEXT, None, "no such file"),
        (FACE, npy(np.ones(2)), r"an array of shape \(2,\); expected \(frames, 2\)"),
        (FACE, npy(np.ones((5, 3))), r"frames of 3 numbers; expected \(frames, 2\)"),
        (FACE, npy(np.ones((0, 2))), "no frames"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, given: FurtherInput, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=f"^input {given.name}: {reason}"):
        read_inputs({given.name: path}, (given,))


@pytest.mark.parametrize("duration_s", [1.6, 4.0, 11.3, 60.0])
def test_frames_are_those_of_the_chunks(duration_s: float) -> None:
    found = times(duration_s)
    step_s = chunk_step(round(duration_s * MEL.sample_rate_hz), MEL) / MEL.frames_per_second
    # To the nearest frame.
    assert np.abs(found[:, 0] - step_s * np.arange(11)).max() <= 0.5 / 25 + 1e-6
    np.testing.assert_allclose(np.diff(found, axis=1), 1 / 25, atol=1e-5)


def test_a_segment_has_its_own_frames_and_the_last_one_stands_on() -> None:
    found = times(10.0, 2.0, 5.0)
    assert found.min() == 2.0 and 4.8 < found.max() < 5.0
    short = times(10.0, 2.0, 2.4)  # shorter than a chunk: all chunks are the same
    np.testing.assert_allclose(short[0], np.minimum(2 + np.arange(25) / 25, 2.36), atol=1e-6)
    np.testing.assert_array_equal(short, np.repeat(short[:1], 11, axis=0))
    # A file with fewer frames than its sound lasts, which `check_durations` allows.
    fewer = input_arrays({"face": clock(3.8)}, (FACE,), MEL, 0.0, 4 * MEL.sample_rate_hz)["face"]
    assert fewer.max() == np.float32(94 / 25) and (fewer[-1, -3:] == fewer.max()).all()


def test_frames_of_another_duration_than_the_sound() -> None:
    for duration_s in (1.0, 4.0, 4.5):
        check_durations({"face": clock(duration_s)}, (FACE, TEXT), 4.0 if duration_s > 1 else 1.2)
    for duration_s in (2.0, 4.8):  # as with half or six fifths of the rate
        with pytest.raises(
            RecordingError, match=r"^input face: at 25 frames per second it does not last as long as the sound$"
        ):
            check_durations({"face": clock(duration_s)}, (FACE, TEXT), 4.0)


def test_chunks_of_frames_last_as_long_as_those_of_the_sound() -> None:
    assert FurtherInput("wavlm", 4, 50.0).shape(MEL) == (11, 50, 4)  # 49.6
    assert FurtherInput("slow", 4, 1.0).shape(MEL) == (11, 1, 4)
    assert FurtherInput("face", 4, 30.0).shape(GivenFeatures(8, 50.0)) == (11, 30, 4)
    assert FurtherInput("face", 4, 100.0).shape(FeatureConfig(chunk_frames=16, chunks_per_utterance=4)) == (4, 26, 4)
    with pytest.raises(
        InputError, match="the chunks of the input face have 732250112 values; expected 16777216 at most"
    ):
        FurtherInput("face", 16_384, 4_096.0).shape(MEL)
