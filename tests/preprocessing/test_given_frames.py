"""Frames from NumPy files: what is read, and what is refused by which words."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.config import GivenFeatures
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.given_frames import (
    checked_frames,
    most_frequent_numbers,
    read_array,
)
from emocluster_jax.preprocessing.sources import cut_segment
from small_models import noise, write_recording

FEATURES = GivenFeatures(dimensions=24, frames_per_second=50)
FORM = 24, 50.0
FRAMES = np.random.default_rng(0).normal(size=(90, 24))


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def header(description: str) -> bytes:
    """A file's beginning that says so of its data, and no data."""
    text = description.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_layout_of_floats_gives_the_same_frames(
    tmp_path: Path, dtype: str, by_columns: bool, version: tuple[int, int]
) -> None:
    frames = FRAMES.astype(np.float16).astype(dtype, order="F" if by_columns else "C")
    path = tmp_path / "x.npy"
    path.write_bytes(npy(frames, version))
    read = read_array(path, *FORM)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, FRAMES.astype(np.float16))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "text": (b"file,arousal\n", "no NumPy file"),
    "header cut": (npy(FRAMES)[:40], "its header is damaged or truncated"),
    "version": (b"\x93NUMPY\x09\x00" + npy(FRAMES)[8:], "its header is damaged or truncated"),
    "header no literal": (header("{'shape': __import__('os').abort()}"), "its header is damaged or truncated"),
    "cut": (npy(FRAMES)[:-1], "truncated: the file ends before its data do"),
    "longer": (npy(FRAMES) + b"more", "data behind its end"),
    "claims a petabyte": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (6_000_000_000_000, 24), }"),
        "truncated: the file ends before its data do",
    ),
    "negative": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -24), }"), "truncated"),
    "header of 4 GB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "its header is damaged or truncated"),
    "other dimensions": (npy(FRAMES[:, :23]), r"frames of 23 numbers; expected \(frames, 24\)"),
    "flat": (npy(FRAMES[0]), r"an array of shape \(24,\); expected \(frames, 24\)"),
    "a batch": (npy(FRAMES[None]), r"an array of shape \(1, 90, 24\); expected \(frames, 24\)"),
    "no frames": (npy(FRAMES[:0]), "no frames"),
    "integers": (npy(FRAMES.astype(np.int16)), "numbers of type int16; expected float16"),
    "complex": (npy(FRAMES.astype(np.complex64)), "numbers of type complex64"),
    "fields": (npy(np.zeros((90, 24), "f4,f4")), "numbers of type"),
    "objects": (npy(FRAMES.astype(object)), "pickled objects"),
    "a pickle": (pickle.dumps(FRAMES), "no NumPy file"),
    "NaN": (npy(np.where(FRAMES > 2, np.nan, FRAMES)), "NaN or infinite numbers"),
    "infinite": (npy(FRAMES.astype(np.float16) * np.float16(np.inf)), "NaN or infinite numbers"),
    "beyond float32": (npy(FRAMES * 1e300), r"numbers beyond 1e\+18"),
    "with squares beyond float32": (npy(FRAMES * np.float32(1e19)), r"numbers beyond 1e\+18"),
}


@pytest.mark.parametrize("content, reason", BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_refused_without_memory_for_its_claims(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError, match=reason):
            read_array(path, *FORM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.npy", "no such file"), (tmp_path, "not a file"), (Path("/dev/zero"), "not a")):
        with pytest.raises(RecordingError, match=reason):
            read_array(path, *FORM)


def test_a_sparse_file_as_long_as_it_claims_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    start = header("{'descr': '<f4', 'fortran_order': False, 'shape': (1_000_000_000, 24), }")
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + 96 * 10**9)
    with pytest.raises(RecordingError, match="longer than"):
        read_array(path, *FORM)


def test_audio_and_features_are_told_apart(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FRAMES)
    write_recording(tmp_path / "x.wav", noise(0.2))
    with pytest.raises(RecordingError, match=r"audio, and features \(.npy\) are expected"):
        read_array(tmp_path / "x.wav", *FORM)
    with pytest.raises(RecordingError, match=r"features \(.npy\), and audio is expected"):
        read_audio(tmp_path / "x.npy", 16_000)


def test_frames_in_memory_have_to_have_the_rate() -> None:
    np.testing.assert_array_equal(checked_frames(FRAMES, 49.99, FEATURES), FRAMES.astype(np.float32))
    with pytest.raises(RecordingError, match="100 frames per second; expected 50"):
        checked_frames(FRAMES, 100, FEATURES)
    with pytest.raises(RecordingError, match="numbers of type int64"):
        checked_frames(FRAMES.astype(int), 50, FEATURES)


def test_most_files_decide_on_the_dimensions(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.npy" for i in range(8)]
    for path, columns in zip(paths, (7, 24, 24, 9, 24, 7), strict=False):
        np.save(path, FRAMES[:, :columns])
    paths[6].write_bytes(b"no NumPy file")
    assert most_frequent_numbers(paths, of_frames=True) == 24
    assert most_frequent_numbers(paths[6:], of_frames=True) is None


def test_segments_go_by_the_frame_rate() -> None:
    frames = FRAMES.astype(np.float32)  # 1.8 s
    np.testing.assert_array_equal(cut_segment(frames, FEATURES, 0.5, 1.21), frames[25:60])  # 60.5: to the even number
    np.testing.assert_array_equal(cut_segment(frames, FEATURES, 1.0, None), frames[50:])
    np.testing.assert_array_equal(cut_segment(0 * frames, FEATURES, 0.0, 1.0), 0 * frames[:50])  # no sound, no silence
    np.testing.assert_array_equal(cut_segment(frames, FEATURES, None, None), frames)
    for start_s, end_s, reason in ((1.0, 1.86, "beyond the file's end"), (0.5, 0.505, "is empty")):
        with pytest.raises(RecordingError, match=reason):
            cut_segment(frames, FEATURES, start_s, end_s)
