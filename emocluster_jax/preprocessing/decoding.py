"""Decodes a file into blocks of samples, by libsndfile or else PyAV, and finds what share of it is missing."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.av_decoding import av_decoded
from emocluster_jax.preprocessing.chained_streams import FLAC_UNKNOWN, flac_contents, ogg_contents
from emocluster_jax.preprocessing.containers import contents_by_header, wav_codec
from emocluster_jax.preprocessing.decoder_messages import without_mpg123_messages
from emocluster_jax.preprocessing.file_contents import (
    BLOCK_SAMPLES,
    CUT_SHORT,
    TOLERATED_LOSS,
    Blocks,
    Contents,
    SplicedFile,
    Stream,
    read_at,
    size_of,
)
from emocluster_jax.preprocessing.mpeg_frames import id3_bytes, is_mpeg_audio, mpeg_contents

_MP3_IN_WAV = 0x0055
_NOT_OPENED = (soundfile.SoundFileError, TypeError, ValueError)
"""What `soundfile` raises if it cannot open a file."""
_FAILS = "truncated or damaged: decoding fails half-way"
_UNEQUAL = "streams of different sample rates or channels, one after the other: ffmpeg -i IN OUT.wav"


@contextmanager
def decoded(path: Path, file: BinaryIO, strict: bool) -> Iterator[tuple[int, Blocks]]:
    """The sample rate in Hz of a file, open for reading, and its samples to the end of its data.

    If `strict`, files are refused if anything at all is missing.

    Raises:
      RecordingError: the file is empty, not audio, truncated or damaged; also from the blocks.
    """
    if not file.read(1):
        raise RecordingError("empty file")
    contents = _contents(path, file)
    _check_missing(contents, contents.missing, strict)
    with ExitStack() as stack:
        try:
            sound = stack.enter_context(_Sound(path, file, contents.streams[0])) if contents.streams else None
        except _NOT_OPENED:
            sound = None
        if sound is not None:
            rate, blocks = sound.samplerate, _blocks(sound, path, file, contents.streams)
        else:
            rate, blocks = stack.enter_context(av_decoded(file))
        yield rate, _checked(blocks, contents, strict)


def _contents(path: Path, file: BinaryIO) -> Contents:
    start = read_at(file, 0, 12)
    tag = id3_bytes(start)
    name = read_at(file, tag, 4)
    if name == b"OggS":
        return ogg_contents(file)
    if name == b"fLaC":
        return flac_contents(file)
    if tag or is_mpeg_audio(start):
        return mpeg_contents(file)
    contents = contents_by_header(file)
    if path.suffix.lower() == ".mp3" and contents.streams == (Stream(),):
        # Because of the name, libmpg123 would search the file for MP3 and complain on stderr.
        return Contents([Stream([range(size_of(file))])])
    codec = wav_codec(file) if start[8:12] == b"WAVE" and not contents.missing else None
    if codec is not None and codec[0] == _MP3_IN_WAV:
        return mpeg_contents(file, codec[1].start, codec[1].stop)
    return contents


def _check_missing(contents: Contents, missing: float, strict: bool) -> None:
    if missing >= TOLERATED_LOSS or (strict and missing):
        raise RecordingError(CUT_SHORT)
    if strict and contents.is_unfinished:
        raise RecordingError("truncated: its header was never completed")


def _checked(blocks: Blocks, contents: Contents, strict: bool) -> Blocks:
    missing = yield from blocks
    _check_missing(contents, missing, strict)
    return missing or contents.missing or (math.nan if contents.is_unfinished else 0.0)


class _Sound(soundfile.SoundFile):
    """A stream that is read from start to end without seeking.

    `soundfile` seeks after every block where it can. That makes libmpg123 lose its bit reservoir, so that the blocks
    of an MP3 file differ audibly from the whole, and fails on FLAC streams without a length in their header.
    """

    def __init__(self, path: Path, file: BinaryIO, stream: Stream) -> None:
        self.spliced = None if stream.parts is None else SplicedFile(file, stream)
        self.samples = stream.samples
        # As bytes, since not every name is valid UTF-8; soundfile takes them, though its annotations do not say so.
        with without_mpg123_messages():
            super().__init__(os.fsencode(path) if self.spliced is None else self.spliced)  # type: ignore[arg-type]

    def seekable(self) -> bool:
        return False

    @property
    def promised(self) -> int:
        """The length according to the header or the frames; 0 if they leave it open."""
        samples = self.frames if self.samples is None else self.samples
        return samples if samples < FLAC_UNKNOWN else 0


def _blocks(sound: _Sound, path: Path, file: BinaryIO, streams: Sequence[Stream]) -> Blocks:
    """The samples of all streams, the first of which is open."""
    promised, missing = sound.promised, (yield from _sound_blocks(sound))
    for stream in streams[1:]:
        try:
            following = _Sound(path, file, stream)
        except _NOT_OPENED:
            raise RecordingError(_FAILS) from None
        with following:
            if (following.samplerate, following.channels) != (sound.samplerate, sound.channels):
                raise RecordingError(_UNEQUAL)
            promised += following.promised
            missing += yield from _sound_blocks(following)
    return missing / promised if promised else missing


def _sound_blocks(sound: _Sound) -> Blocks:
    """The samples of one stream; returns how many are missing, NaN if that is unknown."""
    longest = max(BLOCK_SAMPLES // sound.channels, 1)
    read = 0
    while True:
        count = min(longest, max(sound.frames - read, 1))
        # `soundfile` does not tell how much was decoded before an error; it is what is not NaN.
        block = np.full((count, sound.channels), np.nan, np.float32) if sound.format == "FLAC" else None
        try:
            with without_mpg123_messages() if sound.format == "MP3" else nullcontext():
                samples = sound.read(longest, dtype="float32", always_2d=True, out=block)
        except soundfile.SoundFileError:
            if block is None:
                raise RecordingError(_FAILS) from None
            there = int(np.argmax(np.isnan(block[:, 0])))
            yield block[:there]
            return _missing_after_error(sound, read + there)
        if sound.spliced is not None and sound.spliced.failure is not None:
            raise sound.spliced.failure
        if not len(samples):
            return max(sound.promised - read, 0)
        read += len(samples)
        yield samples


def _missing_after_error(sound: _Sound, read: int) -> float:
    """How many samples are missing of a stream after `read` samples of it were decoded; NaN if that is unknown."""
    missing = max(sound.promised - read, 0)
    if sound.promised and missing < TOLERATED_LOSS * sound.promised:
        return missing
    # If the length was left open, an error at the end of the data is where the recording was cut off.
    if not sound.promised and read and sound.spliced is not None and sound.spliced.tell() >= sound.spliced.size:
        return math.nan
    raise RecordingError(_FAILS)
