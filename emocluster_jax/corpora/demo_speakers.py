"""The demo corpus's speakers: one voice of eSpeak NG each, with an accent and habits of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emocluster_jax.errors import InputError

# Variants that sound like a person and follow pitch, range and rate; of families that differ little, one member.
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
    """A voice and what is constant about it; prosody moves around these values.

    Attributes:
      name: unique in the corpus.
      gender: "female" or "male".
      voice: language and variant as eSpeak NG names them.
      rate_wpm: usual speaking rate, words a minute.
      pitch: usual pitch on eSpeak NG's scale.
      pitch_range: usual range on eSpeak NG's scale.
      tilt_db_per_octave: constant slope of the spectrum: voice and microphone.
      noise_db: background noise, relative to the speech's root mean square.
    """

    name: str
    gender: str
    voice: str
    rate_wpm: float
    pitch: float
    pitch_range: float
    tilt_db_per_octave: float
    noise_db: float


def draw_speakers(count: int, rng: np.random.Generator) -> list[Speaker]:
    """Speakers with different voices, the women first, women and men in the proportion of the voices.

    Raises:
      InputError: more than there are voices.
    """
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
