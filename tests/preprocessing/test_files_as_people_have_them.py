"""Recordings in forms that people report to the trackers of the field: all of each is used, or the reason is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.config import AudioConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import Condition, read_audio

RATE = 16_000
SECONDS = 3.99
"""Of the recording that they all were made of; eight such, joined, last 21.76 s."""


# Encoders of MP3, AAC and AMR add some hundredths of a second at the ends of each stream.
@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("piped_vbr_44k.mp3", 21.76),
        ("catted.mp3", 2 * 21.76),
        ("chained.opus", 2 * SECONDS),
        ("chained_vorbis.ogg", 2 * SECONDS),
        ("mp3in.wav", SECONDS),
        ("28_macos.caf", SECONDS),
        ("quiet_dc01.wav", SECONDS),
        ("short001.wav", 0.01),
    ],
)
def test_all_of_a_recording_is_used(field: Path, name: str, seconds: float) -> None:
    assert len(read_audio(field / name, RATE)) / RATE == pytest.approx(seconds, abs=0.1 if seconds > 1 else 1e-4)


@pytest.mark.parametrize("name", ["08_phone.m4a", "12_phone.amr", "flac.ogg", "g722.wav"])
def test_av_decodes_what_libsndfile_does_not(field: Path, name: str) -> None:
    pytest.importorskip("av")
    assert len(read_audio(field / name, RATE)) / RATE == pytest.approx(SECONDS, abs=0.1)


def test_what_nothing_decodes_is_named_for_what_it_is(field: Path) -> None:
    with pytest.raises(RecordingError, match="AAC in WAV: "):
        read_audio(field / "aac_in.wav", RATE)


def test_channels_that_cancel_are_heard_one_at_a_time(field: Path) -> None:
    with pytest.raises(RecordingError, match="the channels cancel"):
        read_audio(field / "antiphase.wav", RATE)
    first, second = (read_audio(field / "antiphase.wav", RATE, AudioConfig(channel=channel)) for channel in (1, 2))
    np.testing.assert_allclose(first, -second, atol=1e-3)  # but for the rounding to 16 bits


def test_an_offset_is_noticed_and_subtracted_on_request(field: Path) -> None:
    condition = Condition()
    assert abs(read_audio(field / "quiet_dc01.wav", RATE, condition=condition).mean()) > 0.5
    assert condition.dc_offset > 0.5
    assert abs(read_audio(field / "quiet_dc01.wav", RATE, AudioConfig(remove_dc=True)).mean()) < 1e-3
