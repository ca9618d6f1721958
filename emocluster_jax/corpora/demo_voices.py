"""The demo corpus's speakers, how hidden arousal, dominance and valence sound in them, and eSpeak NG.

The cues are those that studies of vocal emotion agree on (Scherer, "Vocal communication of emotion: a review of
research paradigms", Speech Communication 2003), kept few and simple: arousal raises rate, pitch, pitch range and vocal
effort (a flatter spectrum) and shortens pauses; dominance lowers the pitch and strengthens the low frequencies; valence
widens the pitch range, and smiling shortens the vocal tract, which shifts the formants up (Tartter, "Happy talk",
Perception & Psychophysics 1980). Loudness is left out, since recordings are divided by their peak.

eSpeak NG's library and voices are in the package `espeakng-loader`, an optional extra: the library is under the GPL and
runs in processes of its own (`espeak_process`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Float, Int16

from emocluster_jax.errors import InputError

SAMPLE_RATE_HZ = 22_050
"""Of eSpeak NG."""

# Variants that sound like a person and follow pitch, range and rate; one of each family of similar ones.
_FEMALE = ("f1", "f2", "f3", "f4", "f5", "Alicia", "Andrea", "Annie", "aunty", "belinda", "grandma", "shelby", "steph")
_MALE = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Andy", "Denis", "Diogo", "Gene", "Hugo", "Lee", "Mike",
    "Nguyen", "Reed", "adam", "antonio", "benjamin", "boris", "david", "ed", "edward", "grandpa", "iven", "john",
    "max", "michel", "miguel", "norbert", "pablo", "pedro", "sandro", "victor",
)  # fmt: skip
_ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
MAXIMUM = len(_FEMALE) + len(_MALE)


@dataclass(frozen=True)
class Speaker:
    """A voice of eSpeak NG with an accent and habits of its own; emotion moves its prosody around these values."""

    name: str
    gender: str  # "female" or "male"
    voice: str  # language and variant as eSpeak NG names them
    rate_wpm: float  # words per minute
    pitch: float  # on eSpeak NG's scale, as the range
    pitch_range: float
    tilt_db_per_octave: float  # slope of the spectrum, by voice and microphone
    noise_db: float  # background noise, relative to the speech's root mean square


@dataclass(frozen=True)
class Emotion:
    """What a speaker means to express; each value from -1 to 1."""

    arousal: float
    dominance: float
    valence: float


@dataclass(frozen=True)
class Speech:
    """What to say, and how."""

    text: str  # English words
    voice: str  # language and variant as eSpeak NG names them, such as "en-us+f3"
    rate_wpm: int  # words per minute, 80 to 450
    pitch: int  # 0 to 99; 50 is the voice's own
    pitch_range: int  # 0 (monotonous) to 99; 50 is the voice's own
    word_gap: int  # extra silence between words, in tens of milliseconds at a rate of 175


def draw_speakers(count: int, rng: np.random.Generator) -> list[Speaker]:
    """Speakers of different voices, women first, in the proportion of women's and men's voices."""
    if count > MAXIMUM:
        raise InputError(f"the demo corpus has {MAXIMUM} voices, {count} were asked for; ask for fewer speakers")
    women = min(round(count * len(_FEMALE) / MAXIMUM), count)
    drawn = [("female", name) for name in rng.permutation(_FEMALE)[:women]]
    drawn += [("male", name) for name in rng.permutation(_MALE)[: count - women]]
    return [
        Speaker(
            name=f"speaker{index:02d}",
            gender=gender,
            voice=f"{_ACCENTS[rng.integers(len(_ACCENTS))]}+{variant}",
            rate_wpm=float(rng.normal(170, 8)),
            pitch=float(rng.normal(45, 4)),
            pitch_range=float(rng.normal(45, 5)),
            tilt_db_per_octave=float(rng.normal(0, 0.5)),
            noise_db=float(rng.uniform(-50, -38)),
        )
        for index, (gender, variant) in enumerate(drawn)
    ]


def speech_of(text: str, speaker: Speaker, emotion: Emotion, rng: np.random.Generator) -> Speech:
    """How a speaker says a sentence with an emotion, as far as eSpeak NG can."""
    arousal, dominance, valence = emotion.arousal, emotion.dominance, emotion.valence
    octaves = 0.45 * arousal + rng.normal(0, 0.05)
    pitch = speaker.pitch + 20 * arousal - 14 * dominance + rng.normal(0, 2)
    pitch_range = speaker.pitch_range + 20 * arousal + 25 * valence + rng.normal(0, 4)
    return Speech(
        text=text,
        voice=speaker.voice,
        # `voice_quality` shifts the formants by speeding everything up, which is undone here.
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
    """Adds what eSpeak NG cannot do: vocal effort, chest voice and smile as filters, and the room's noise.

    From eSpeak NG's samples, at its rate, to float32 at `sample_rate_hz` with a peak of 0.9.
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


def say(speeches: Sequence[Speech]) -> list[Int16[np.ndarray, " samples"]]:
    """Renders speech as mono signals at `SAMPLE_RATE_HZ`, in one process: the same list gives the same samples.

    Raises:
      InputError: the package `espeakng-loader` is not installed.
      RuntimeError: eSpeak NG failed.
    """
    library, data = installed_paths()
    # With -P and -S, as the standard library is all it needs, the process starts in 20 ms.
    command = [sys.executable, "-P", "-S", str(Path(__file__).with_name("espeak_process.py")), library, data]
    requests = "".join(json.dumps(asdict(speech)) + "\n" for speech in speeches)
    process = subprocess.run(command, input=requests, capture_output=True, encoding="utf-8", errors="replace")
    if process.returncode:
        message = process.stderr.strip() or f"exit status {process.returncode}"
        raise RuntimeError(f"eSpeak NG failed: {message}")
    return [np.frombuffer(bytes.fromhex(line), np.int16) for line in process.stdout.splitlines()]


def installed_paths() -> tuple[str, str]:
    """The paths of eSpeak NG's library and of its data; InputError if it is not installed."""
    try:
        import espeakng_loader  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            'the demo corpus is spoken by eSpeak NG, which is not installed; pip install "emocluster_jax[demo]"'
        ) from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
