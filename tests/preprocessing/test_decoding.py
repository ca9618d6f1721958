"""Files are decoded to the end of their data, whatever their headers say; what is missing, and what is odd, is told."""

from __future__ import annotations

import ctypes
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from scipy.signal import correlate

from emocluster_jax.config import AudioConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing import av_decoding, decoding
from emocluster_jax.preprocessing.audio import Condition, read_audio, to_mono_resampled
from small_models import noise

RATE = 16_000
FIXED_SIZE = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
}
"""libsndfile's names of containers and encodings whose samples have one size."""


def encoded(container: str, subtype: str, signal: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    file = BytesIO()
    soundfile.write(file, signal, rate, subtype, format=container, **options)
    return file.getvalue()


def read(folder: Path, content: bytes, name: str = "x.wav", *, strict: bool = False) -> tuple[np.ndarray, bool]:
    """The signal of a file with this content, and whether it counts as cut."""
    (folder / name).write_bytes(content)
    condition = Condition()
    return read_audio(folder / name, RATE, AudioConfig(strict=strict), condition), condition.cut


def mp3(signal: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    return encoded("MP3", "MPEG_LAYER_III", signal, rate, **options)


def without_count(content: bytes) -> bytes:
    """An MP3 file without the first frame, which holds the number of frames."""
    return content[content.index(content[:2], 100) :]


def loud_then_quiet(seconds: float) -> np.ndarray:
    """Variable bit rates begin high with it, so that a duration which is guessed of the first frame is too short."""
    signal = noise(seconds) * np.float32(0.5)
    signal[len(signal) // 10 :] *= np.float32(1e-3)
    return signal


def wav_of(codec: int, data: bytes, channels: int = 1, block: int = 1, bits: int = 0) -> bytes:
    """A WAV file of this codec, which libsndfile does not write."""
    form = struct.pack("<HHIIHHH", codec, channels, RATE, RATE * block, block, bits, 0)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def av_encoded(container: str, codec: str, signal: np.ndarray, rate: int, **options: Any) -> bytes:
    """A file that PyAV writes."""
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono", **options)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(signal[None], format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


def test_mp3_of_variable_bit_rate_whose_length_nothing_says(tmp_path: Path) -> None:
    content = mp3(loud_then_quiet(6), bitrate_mode="VARIABLE", compression_level=0.5)
    (tmp_path / "x.mp3").write_bytes(without_count(content))
    with soundfile.SoundFile(tmp_path / "x.mp3") as guessed:
        assert guessed.frames < 5 * RATE
    signal, cut = read(tmp_path, without_count(content), "x.mp3")
    # What the encoder added at both ends, less than three frames, is told by the count alone.
    assert 6 * RATE <= len(signal) < 6 * RATE + 3 * 576 + 1
    assert not cut
    whole, _ = read(tmp_path, content, "y.mp3")
    delay = np.argmax(np.correlate(signal[:8_000], whole[:4_000]))
    np.testing.assert_allclose(signal[delay : delay + len(whole)], whole[: len(signal) - delay], atol=1e-5)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")],
)
def test_files_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, subtype: str
) -> None:
    first, second = (encoded(container, subtype, noise(seconds)) for seconds in (2.0, 1.3))
    signals = [read(tmp_path, content)[0] for content in (first, second)]
    signal, cut = read(tmp_path, first + second)
    assert not cut
    peaks = [np.abs(signal[: len(signals[0])]).max(), np.abs(signal[len(signals[0]) :]).max()]
    np.testing.assert_allclose(signal, np.concatenate([s * p for s, p in zip(signals, peaks, strict=True)]), rtol=1e-6)
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 1_000)
    assert np.array_equal(read(tmp_path, first + second)[0], signal)


def test_tags_between_mp3_files(tmp_path: Path) -> None:
    content = mp3(noise(2))
    id3v2 = b"ID3\x03\x00\x00\x00\x00\x02\x00" + b"\xff\xfb\x90\x64" * 64
    id3v1 = b"TAG" + bytes(125)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 2000, 1, 1 << 31 | 1 << 29) + bytes(8 + 1968)
    ape += b"APETAGEX" + struct.pack("<IIII", 2000, 2000, 1, 1 << 31) + bytes(8)
    plain, _ = read(tmp_path, content + content)
    for between in (id3v2, id3v1, id3v1 + id3v2, ape):
        signal, cut = read(tmp_path, id3v2 + content + between + content + id3v1)
        assert not cut
        assert np.array_equal(signal, plain)


@pytest.mark.parametrize("container", ["MP3", "OGG", "FLAC"])
def test_files_of_different_rates_are_not_one_recording(tmp_path: Path, container: str) -> None:
    subtype = {"MP3": "MPEG_LAYER_III", "OGG": "VORBIS", "FLAC": "PCM_16"}[container]
    content = encoded(container, subtype, noise(1)) + encoded(container, subtype, noise(1), 44_100)
    with pytest.raises(RecordingError, match="different sample rates"):
        read(tmp_path, content)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "W64"])
def test_one_file_behind_another_is_not_passed_over(tmp_path: Path, container: str) -> None:
    """Each has its own chunks, which libsndfile does not look for."""
    content = encoded(container, "PCM_16", noise(1))
    with pytest.raises(RecordingError, match="several recordings in one file"):
        read(tmp_path, content + content)


def test_mp3_inside_wav(tmp_path: Path) -> None:
    content = mp3(noise(2))
    signal, cut = read(tmp_path, wav_of(0x55, content))
    assert not cut
    assert np.array_equal(signal, read(tmp_path, content)[0])


def test_a_tag_behind_flac(tmp_path: Path) -> None:
    content = encoded("FLAC", "PCM_16", noise(1))
    signal, cut = read(tmp_path, content + b"TAG" + bytes(125))
    assert not cut
    assert np.array_equal(signal, read(tmp_path, content)[0])


@pytest.fixture(params=FIXED_SIZE)
def whole(request: pytest.FixtureRequest) -> bytes:
    return encoded(*FIXED_SIZE[request.param], noise(1))


@pytest.mark.parametrize("missing", [1, 2, 300])
def test_less_than_a_hundredth_is_missing(tmp_path: Path, whole: bytes, missing: int) -> None:
    complete, cut = read(tmp_path, whole)
    assert not cut
    signal, cut = read(tmp_path, whole[:-missing])
    assert cut
    assert len(signal) == RATE - (missing + 1) // 2
    np.testing.assert_allclose(signal * np.abs(complete[: len(signal)]).max(), complete[: len(signal)], rtol=1e-6)
    with pytest.raises(RecordingError, match="truncated"):
        read(tmp_path, whole[:-missing], strict=True)


def test_more_than_a_hundredth_is_missing(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(RecordingError, match="truncated"):
        read(tmp_path, whole[:-400])


@pytest.mark.parametrize("kind", ["wav", "rf64", "w64", "aiff", "au", "caf"])
def test_a_recorder_that_crashed(tmp_path: Path, kind: str) -> None:
    """The sizes in the header are those of no samples, or nothing at all, and the samples are there."""
    whole = encoded(*FIXED_SIZE[kind], noise(1))
    complete, _ = read(tmp_path, whole)
    for content in unfinished(kind, whole):
        signal, cut = read(tmp_path, content)
        assert cut
        assert np.array_equal(signal, complete)
        with pytest.raises(RecordingError, match="never completed"):
            read(tmp_path, content, strict=True)


@pytest.mark.parametrize("share", [0, 1e-5, 0.5, 0.9])
@pytest.mark.parametrize("riff", ["right", "stale", "never written"])
def test_a_recorder_that_had_written_its_sizes_before(tmp_path: Path, share: float, riff: str) -> None:
    content = bytearray(encoded("WAV", "PCM_16", 0.5 * noise(3.0)))
    whole, _ = read(tmp_path, content)
    data_bytes = round(share * 96_000) & ~1
    content[40:44] = struct.pack("<I", data_bytes)
    content[4:8] = struct.pack("<I", {"right": len(content) - 8, "stale": 36 + data_bytes, "never written": 0}[riff])
    signal, cut = read(tmp_path, content)
    assert cut and np.array_equal(signal, whole)
    with pytest.raises(RecordingError, match="its header was never completed"):
        read(tmp_path, content, strict=True)


LIST = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf60.16.100\0"


@pytest.mark.parametrize(
    ("behind", "counted"),
    [
        *((LIST, True), (LIST, False), (LIST[:-9], True), (bytes(3_000), True), (bytes(3_000), False)),
        *((b"TAG" + b"artist" + bytes(119), False), (b"\x81\x02\x03", False)),
    ],
)
def test_what_lies_behind_samples_is_none(tmp_path: Path, behind: bytes, counted: bool) -> None:
    """Chunks, also one that is cut, zeros and tags, whether or not the size of the whole file counts them."""
    content = encoded("WAV", "PCM_16", 0.5 * noise(3.0))
    whole, _ = read(tmp_path, content)
    riff_bytes = len(content) - 8 + counted * len(behind)
    signal, cut = read(tmp_path, content[:4] + struct.pack("<I", riff_bytes) + content[8:] + behind)
    assert not cut and np.array_equal(signal, whole)


def test_no_samples_are_not_a_crash(tmp_path: Path) -> None:
    empty = encoded("WAV", "PCM_16", noise(0)) + b"LIST\x04\0\0\0INFO"
    empty = empty[:4] + struct.pack("<I", len(empty) - 8) + empty[8:]
    with pytest.raises(RecordingError, match="no samples"):
        read(tmp_path, empty)


def test_a_size_that_counts_the_header(tmp_path: Path) -> None:
    whole = encoded("WAV", "PCM_16", noise(1))
    place = whole.index(b"data") + 4
    signal, cut = read(tmp_path, whole[:place] + struct.pack("<I", 2 * RATE + 36) + whole[place + 4 :])
    assert cut
    assert np.array_equal(signal, read(tmp_path, whole)[0])


def test_less_than_a_hundredth_of_a_compressed_file_is_missing(tmp_path: Path) -> None:
    """A frame or a page of 60 seconds is missing, where an end of 2 bytes is."""
    signal = np.tile(noise(1), 60)
    for container, subtype, longest_unit in (
        ("FLAC", "PCM_16", 4_096),
        ("MP3", "MPEG_LAYER_III", 3 * 576),
        ("OGG", "VORBIS", 9_600),
    ):
        content = encoded(container, subtype, signal)
        complete, cut = read(tmp_path, content)
        assert not cut
        shorter, cut = read(tmp_path, content[:-2])
        assert cut, container
        assert len(complete) - longest_unit <= len(shorter) < len(complete)
        with pytest.raises(RecordingError, match="truncated"):
            read(tmp_path, content[:-2], strict=True)
        with pytest.raises(RecordingError, match="truncated"):
            read(tmp_path, content[: len(content) * 98 // 100])


def test_flac_whose_length_was_never_written(tmp_path: Path) -> None:
    content = bytearray(encoded("FLAC", "PCM_16", noise(3)))
    content[18:26] = (int.from_bytes(content[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    complete, cut = read(tmp_path, bytes(content))
    assert (len(complete), cut) == (3 * RATE, False)
    signal, cut = read(tmp_path, bytes(content[:-2]))
    assert cut
    assert 3 * RATE - 4_096 <= len(signal) < 3 * RATE
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    with pytest.raises(RecordingError, match="half-way"):
        read(tmp_path, bytes(content))


def test_ogg_that_was_never_ended(tmp_path: Path) -> None:
    """Whole pages, the last of which is not marked as the last."""
    content = encoded("OGG", "VORBIS", noise(20))
    signal, cut = read(tmp_path, content[: content.rindex(b"OggS")])
    assert cut
    assert 15 * RATE < len(signal) < 20 * RATE
    with pytest.raises(RecordingError, match="never completed"):
        read(tmp_path, content[: content.rindex(b"OggS")], strict=True)


def test_mp3_without_a_count_that_ends_within_a_frame(tmp_path: Path) -> None:
    content = without_count(mp3(noise(3)))
    complete, cut = read(tmp_path, content)
    assert not cut
    signal, cut = read(tmp_path, content[:-10])
    assert cut
    assert len(signal) == len(complete) - 576


def test_mp3_whose_count_was_never_written(tmp_path: Path) -> None:
    content = bytearray(mp3(noise(3)))
    place = max(content.find(b"Xing"), content.find(b"Info")) + 8
    content[place : place + 8] = bytes(8)
    signal, cut = read(tmp_path, bytes(content))
    assert cut
    assert len(signal) >= 3 * RATE


def unfinished(kind: str, whole: bytes) -> list[bytes]:
    """A file as a recorder leaves it that crashes before it writes the sizes."""
    content = bytearray(whole)

    def put(place: int, form: str, value: int) -> bytes:
        struct.pack_into(form, content, place, value)
        return bytes(content)

    if kind == "wav":
        put(whole.index(b"data") + 4, "<I", 0)
        return [put(4, "<I", 0), put(4, "<I", 36)]
    if kind == "rf64":
        put(20, "<Q", 0)
        return [put(28, "<Q", 0)]
    if kind == "w64":
        data = whole.index(b"data\xf3\xac") + 16
        put(16, "<Q", 0)
        return [put(data, "<Q", 0), put(data, "<Q", 24)]
    if kind == "aiff":
        put(4, ">I", 0)
        put(whole.index(b"COMM") + 10, ">I", 0)
        return [put(whole.index(b"SSND") + 4, ">I", 0), put(whole.index(b"SSND") + 4, ">I", 8)]
    return [put(8, ">I", 0)] if kind == "au" else [put(whole.index(b"data") + 4, ">Q", size) for size in (0, 4)]


def test_an_mp3_frame_that_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The rest is used, where libmpg123 would end or complain without the file's name."""
    content = bytearray(mp3(noise(20)))
    frames = mpeg_frames(bytes(content))
    content[frames[300]] = 0
    content[frames[500] + 1] ^= 0x10  # of another version of MPEG
    signal, cut = read(tmp_path, bytes(content))
    assert cut
    assert 20 * RATE - 2 * 576 <= len(signal) < 20 * RATE
    assert capfd.readouterr().err == ""


def test_much_of_an_mp3_file_is_no_frames(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = without_count(mp3(noise(20)))
    middle = len(content) // 2
    with pytest.raises(RecordingError, match="truncated"):
        read(tmp_path, content[:middle] + bytes(len(content) // 50) + content[middle:])
    with pytest.raises(RecordingError, match="truncated"):
        read(tmp_path, content[:middle] + bytes(middle))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"text " * 1_000, bytes(4_096), b"RIFF", b"\x89PNG\r\n\x1a\n" + bytes(500)])
def test_what_only_its_name_calls_mp3(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes) -> None:
    with pytest.raises(RecordingError):
        read(tmp_path, content, "x.mp3")
    assert capfd.readouterr().err == ""


def test_what_libmpg123_prints_is_dropped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of damage inside frames, which only decoding shows; nothing else is dropped, from whatever thread and library."""
    random, whole = np.random.default_rng(0), mp3(noise(5))
    damaged = []
    for i in range(40):
        content = bytearray(whole)
        for place in random.integers(600, len(content), 40):
            content[place] ^= 1 << random.integers(8)
        damaged.append(tmp_path / f"{i}.mp3")
        damaged[-1].write_bytes(content)
    with soundfile.SoundFile(damaged[0]) as sound:
        sound.read(5 * RATE)
    assert "libmpg123" in capfd.readouterr().err

    def decode(path: Path) -> None:
        with suppress(RecordingError):
            read_audio(path, RATE)

    libc = ctypes.CDLL(None)
    with ThreadPoolExecutor(4) as threads:
        decodings = [threads.submit(decode, path) for path in damaged]
        for i in range(100):
            libc.fputs(b"line %d of another library\n" % i, ctypes.c_void_p.in_dll(libc, "stderr"))
            sys.stderr.write(f"line {i} of Python\n")
        for decoding_of_one in decodings:
            decoding_of_one.result()
    decode(damaged[0])  # passes on what was printed while the decoding before ended
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == sorted(
        [f"line {i} of another library" for i in range(100)] + [f"line {i} of Python" for i in range(100)]
    )


def mpeg_frames(content: bytes) -> list[int]:
    """Where the frames of an MP3 file begin, which are all of two sizes."""
    places, place = [], 0
    while place < len(content):
        places.append(place)
        place = next(
            (p for p in range(place + 20, min(place + 1_500, len(content))) if content[p : p + 2] == content[:2]),
            len(content),
        )
    return places


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (wav_of(0x65, bytes(4_000)), "G.722 in WAV"),
        (wav_of(0x28F, bytes(4_000)), "G.722 in WAV"),
        (wav_of(0x45, bytes(4_000), bits=4), "G.726 in WAV"),
        (wav_of(0xFF, bytes(4_000)), "AAC in WAV"),
        (wav_of(0x161, bytes(4_000)), "WMA 2 in WAV"),
        (b"#!AMR\n" + bytes(100), "AMR"),
        (b"#!AMR-WB\n" + bytes(100), "AMR-WB"),
        (b"\xff\xf1\x50\x80" + bytes(100), "AAC (ADTS)"),
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xf1\x50\x80" + bytes(100), "AAC (ADTS)"),
        (b"\x1a\x45\xdf\xa3\x93\x42\x82\x84webm" + bytes(20) + b"\x86\x86A_OPUSv" + bytes(50), "Opus in WebM"),
        (b"\0\0\0\x14ftypM4A \0\0\0\0\0\0\0\0" + bytes(80), "audio in MP4"),
    ],
)
def test_what_needs_pyav_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, name: str) -> None:
    monkeypatch.setattr(av_decoding, "is_installed", lambda: False)
    with pytest.raises(RecordingError) as error:
        read(tmp_path, content)
    assert str(error.value) == f'{name} needs pip install "emocluster_jax[av]", or ffmpeg -i IN OUT.wav'


def test_pointers_in_place_of_recordings(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 32044\n"
    with pytest.raises(RecordingError, match="git lfs pull"):
        read(tmp_path, pointer)
    with pytest.raises(RecordingError, match="git annex get"):
        read(tmp_path, b"/annex/objects/SHA256E-s32044--00.wav\n")


WRITTEN = {
    "AAC in MP4": ("ipod", "aac", 44_100, {}),
    "ALAC in MP4": ("ipod", "alac", 44_100, {}),
    "Opus in WebM": ("webm", "libopus", 48_000, {}),
    "Opus in Matroska": ("matroska", "libopus", 48_000, {}),
    "AMR": ("amr", "libopencore_amrnb", 8_000, {}),
    "AMR in MP4": ("3gp", "libopencore_amrnb", 8_000, {}),
    "WMA 2 in ASF": ("asf", "wmav2", 44_100, {"bit_rate": 128_000}),
    "AAC (ADTS)": ("adts", "aac", 44_100, {}),
    "G.722 in WAV": ("wav", "g722", 16_000, {}),
    "G.726 in WAV": ("wav", "g726", 8_000, {"bit_rate": 32_000}),
}
"""What PyAV writes, and libsndfile does not read: container, encoder, sample rate, and what the encoder wants."""


@pytest.fixture(scope="module", params=WRITTEN)
def written(request: pytest.FixtureRequest) -> tuple[str, bytes, np.ndarray]:
    """What a file is, its content, and the signal that it was made of, at 16 kHz and with a peak of one."""
    container, codec, rate, options = WRITTEN[request.param]
    signal = noise(3, rate)
    return request.param, av_encoded(container, codec, signal, rate, **options), to_mono_resampled(signal, rate, RATE)


def test_what_pyav_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: tuple[str, bytes, np.ndarray]
) -> None:
    name, content, expected = written
    signal, cut = read(tmp_path, content)
    decoded = signal
    assert not cut
    assert signal.dtype == np.float32
    assert np.abs(signal).max() == pytest.approx(1, abs=1e-6)
    # Encoders put up to a tenth of a second before and behind it, which not every container tells.
    assert len(signal) == pytest.approx(len(expected), abs=0.1 * RATE)
    # Encoders may shift it by some of that.
    lag = int(np.argmax(correlate(signal, expected))) - (len(expected) - 1)
    assert abs(lag) < 0.1 * RATE
    signal, expected = signal[max(lag, 0) :], expected[max(-lag, 0) :]
    n = min(len(signal), len(expected))
    # Codecs of speech do not keep the noise in it.
    least = 0.999 if "ALAC" in name else 0.7 if "AMR" in name else 0.9
    assert np.corrcoef(signal[:n], expected[:n])[0, 1] > least
    monkeypatch.setattr(av_decoding, "BLOCK_SAMPLES", 1_000)
    assert np.array_equal(read(tmp_path, content)[0], decoded)

    monkeypatch.setattr(av_decoding, "is_installed", lambda: False)
    with pytest.raises(RecordingError) as error:
        read(tmp_path, content)
    assert str(error.value) == f'{name} needs pip install "emocluster_jax[av]", or ffmpeg -i IN OUT.wav'


# Nothing in the others says how long they are.
@pytest.mark.parametrize("written", [name for name in WRITTEN if " in " in name], indirect=True)
def test_what_pyav_decodes_is_cut(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], written: tuple[str, bytes, np.ndarray]
) -> None:
    _, content, _ = written
    with pytest.raises(RecordingError, match="truncated"):
        read(tmp_path, content[: len(content) * 2 // 3])
    with pytest.raises(RecordingError):
        read(tmp_path, content[:60])
    assert capfd.readouterr().err == ""


def test_channels_that_pyav_decodes(tmp_path: Path) -> None:
    """Planes of channels become the columns of blocks."""
    left, right = noise(1, seed=1), noise(1, seed=2)
    with av.open(tmp_path / "x.m4a", "w") as output:
        stream = output.add_stream("alac", rate=RATE, layout="stereo")
        stream.codec_context.format = "s16p"
        frame = av.AudioFrame.from_ndarray(
            np.round(32_767 * np.stack([left, right])).astype(np.int16), format="s16p", layout="stereo"
        )
        frame.sample_rate = RATE
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    expected = to_mono_resampled(np.stack([left, right]), RATE, RATE)
    # Rounding to 16 bits.
    np.testing.assert_allclose(read_audio(tmp_path / "x.m4a", RATE), expected, atol=2e-4)
