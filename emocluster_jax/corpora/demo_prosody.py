"""How hidden arousal, dominance and valence sound in the demo corpus.

The cues are those that studies of vocal emotion agree on (Scherer, "Vocal communication of emotion: a review of
research paradigms", Speech Communication 2003), kept few and simple: arousal raises rate, pitch, pitch range and vocal
effort (a flatter spectrum) and shortens pauses; dominance lowers the pitch and strengthens the low frequencies; valence
widens the pitch range, and smiling shortens the vocal tract, which shifts the formants up (Tartter, "Happy talk",
Perception & Psychophysics 1980). Loudness is left out, since recordings are divided by their peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from jaxtyping import Float, Int16

from emocluster_jax.corpora.demo_speakers import Speaker
from emocluster_jax.corpora.espeak import SAMPLE_RATE_HZ, Speech


@dataclass(frozen=True)
class Emotion:
    """What a speaker means to express; each value from -1 to 1."""

    arousal: float
    dominance: float
    valence: float


def speech_of(text: str, speaker: Speaker, emotion: Emotion, rng: np.random.Generator) -> Speech:
    """How a speaker says a sentence with an emotion, as far as eSpeak NG does it."""
    arousal, dominance, valence = emotion.arousal, emotion.dominance, emotion.valence
    octaves = 0.45 * arousal + rng.normal(0, 0.05)
    pitch = speaker.pitch + 20 * arousal - 14 * dominance + rng.normal(0, 2)
    pitch_range = speaker.pitch_range + 20 * arousal + 25 * valence + rng.normal(0, 4)
    return Speech(
        text=text,
        voice=speaker.voice,
        # The formant shift afterwards speeds everything up, which is undone here.
        rate_wpm=round(speaker.rate_wpm * 2**octaves / _formant_shift(emotion)),
        pitch=round(np.clip(pitch, 0, 99)),
        pitch_range=round(np.clip(pitch_range, 0, 99)),
        word_gap=round(max(0.0, 3 * -arousal)),
    )


def voice_quality(
    signal: Int16[np.ndarray, " samples"],
    speaker: Speaker,
    emotion: Emotion,
    sample_rate_hz: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " samples_out"]:
    """What eSpeak NG does not do: vocal effort, chest voice and smile as filters, and the room's noise.

    Args:
      signal: what eSpeak NG said, at its own rate.
      speaker: who speaks.
      emotion: what to express.
      sample_rate_hz: rate of the result.
      rng: for the noise.

    Returns:
      float32, its largest absolute value 0.9.
    """
    shift = _formant_shift(emotion)
    resampled = soxr.resample(signal.astype(np.float32), SAMPLE_RATE_HZ * shift, sample_rate_hz, quality="HQ")
    transform_size = 1 << len(resampled).bit_length()  # a power of two: fast whatever the length
    frequencies_hz = np.fft.rfftfreq(transform_size, 1 / sample_rate_hz)
    effort_db_per_octave = speaker.tilt_db_per_octave + 4.0 * emotion.arousal
    octaves = np.log2(np.clip(frequencies_hz, 125, 8_000) / 1_000)
    chest_db = 8.0 * emotion.dominance * np.exp(-0.5 * ((frequencies_hz - 350) / 150) ** 2)
    gain = 10 ** ((effort_db_per_octave * octaves + chest_db) / 20)
    filtered = np.fft.irfft(np.fft.rfft(resampled, transform_size) * gain)[: len(resampled)]
    level = np.sqrt(np.mean(filtered**2)) * 10 ** (speaker.noise_db / 20)
    noisy = filtered + level * rng.standard_normal(len(filtered))
    return (0.9 * noisy / np.abs(noisy).max()).astype(np.float32)


def _formant_shift(emotion: Emotion) -> float:
    """Factor on all frequencies by which a smile shortens the vocal tract."""
    return 1 + 0.08 * emotion.valence
