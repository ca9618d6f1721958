"""Labels that deserve a second look: what is warned of, and what is not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.corpora.labels import VAD, outlying_labels, unused_columns
from emocluster_jax.corpora.table import read_table
from emocluster_jax.corpora.utterance import Utterance
from small_records import vad

USED = ("file", "split", "speaker", "gender")


@pytest.mark.parametrize(
    ("text", "columns", "advice"),
    [
        ("file,activation,valence\na,1,2\n", "activation", "rename activation to arousal"),
        (
            "file,Arousal_Mean,V,EmoDom\na,1,-,3\nb,1.5,2,n.a.\n",
            "Arousal_Mean, V, EmoDom",
            "rename Arousal_Mean to arousal, EmoDom to dominance, V to valence",
        ),
        ("file;valence;pleasure;act\na;1;1,5;3,25\n", "pleasure, act", "rename act to arousal"),
        (
            "file,arousal_mean,arousal_std\na,1,0.5\n",
            "arousal_mean, arousal_std",
            "rename arousal_mean or arousal_std to",
        ),
        ("file,arousal,age\na,1,40\n", "age", None),
        ("file,valence," + ",".join(f"f{i}" for i in range(88)) + "\na" + ",1" * 89 + "\n", "f6, f7 and 80 more", None),
    ],
)
def test_columns_of_numbers_that_are_not_used_are_named(tmp_path: Path, write_text, text, columns, advice) -> None:
    path = write_text(tmp_path / "m.csv", text)
    warning = unused_columns(read_table(path), USED, VAD)
    assert warning and str(path) in warning
    assert f"not used: {columns} (" in warning or f", {columns} (" in warning
    assert (f"rename {advice.removeprefix('rename ')}" in warning) if advice else ("rename" not in warning)


@pytest.mark.parametrize(
    "text",
    [
        "FILE,Split,arousal,Gender\na,train,1,f\n",
        "file,arousal,emotion,start,note\na,1,angry,0 days 00:00:01,\nb,2,3,0 days,\n",  # not numbers, or nothing
    ],
)
def test_columns_of_words_are_nobodys_labels(tmp_path: Path, write_text, text) -> None:
    assert unused_columns(read_table(write_text(tmp_path / "m.csv", text)), USED, VAD) is None


def warnings_of(arousal: list[float] | np.ndarray) -> list[str]:
    rows = [
        Utterance(f"{i}.wav", Path(f"{i}.wav"), "train", labels=vad(value, math.nan, math.nan))
        for i, value in enumerate(arousal)
    ]
    return outlying_labels(rows)


RANDOM = np.random.default_rng(0)
ORDINARY = {
    "a scale from 1 to 5": RANDOM.integers(1, 6, 500),
    "mostly neutral": np.repeat([1, 2, 3, 4, 5], [5, 20, 400, 20, 5]),
    "mostly lowest, of 100": np.concatenate([np.ones(300), RANDOM.integers(1, 101, 200)]),
    "all equal but one": np.append(np.full(99, 3), 4),
    "all equal": np.full(9, 3),
    "all zero but one": np.append(np.zeros(99), 1),
    "means of annotators": RANDOM.integers(1, 8, (2000, 5)).mean(axis=1),
    "equal up to rounding": np.concatenate([np.full(40, 3.0), np.full(30, 3.0 + 4e-16), [1, 2, 4, 5, 2.5, 3.5]]),
    "normal": RANDOM.normal(size=5000),
    "one": np.array([4]),
    "two": np.array([1, 100]),
    "missing": np.full(5, np.nan),
}


@pytest.mark.parametrize("values", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_ratings_are_not_warned_of(values: np.ndarray) -> None:
    assert warnings_of(values.astype(float)) == []


@pytest.mark.parametrize("values", [values for values in ORDINARY.values() if np.isfinite(values).sum() > 2])
def test_a_value_a_thousand_times_the_others_is(values: np.ndarray) -> None:
    extreme = 1000 * float(values.max())
    (warning,) = warnings_of([*values.astype(float), extreme])
    assert f"arousal: 1 of {len(values) + 1} values" in warning
    assert f"the most extreme is {extreme:g}, of {len(values)}.wav;" in warning


def test_a_second_scale_is_counted_in_each_attribute() -> None:
    rows = [
        Utterance(
            f"{i}.wav", Path(f"{i}.wav"), "train", labels=vad(1 + i % 5, 20.0 + i if i > 35 else 1 + i % 5, math.nan)
        )
        for i in range(40)
    ]
    (warning,) = outlying_labels(rows)
    assert "dominance: 4 of 40 values" in warning and "is 59, of 39.wav" in warning


def test_the_largest_numbers_that_there_are() -> None:
    (warning,) = warnings_of([1.0, 2.0, 3.0, -1.7e308, 1.7e308])
    assert "2 of 5 values" in warning
