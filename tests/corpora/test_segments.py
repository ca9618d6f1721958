"""Segments' ids: one spelling for each, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.corpora.segments import segment_suffix, split_id


@pytest.mark.parametrize(
    ("start_s", "end_s", "suffix"),
    [
        (None, None, ""),
        (0.0, 4.0, "#0-4"),
        (1.5, None, "#1.5-"),
        (10.0, 100.0, "#10-100"),
        (0.1, 0.30000000000000004, "#0.1-0.3"),
        (1e-6, 86_400.000001, "#0.000001-86400.000001"),
    ],
)
def test_spelling(start_s: float | None, end_s: float | None, suffix: str) -> None:
    assert segment_suffix(start_s, end_s) == suffix


TIMES = st.integers(0, 10**15).map(lambda microseconds: round(microseconds / 1e6, 6))


@given(file=st.text(min_size=1), start_s=TIMES, end_s=st.one_of(st.none(), TIMES))
def test_there_and_back(file: str, start_s: float, end_s: float | None) -> None:
    assert split_id(file + segment_suffix(start_s, end_s)) == (file, start_s, end_s)


@pytest.mark.parametrize("id", ["a.wav", "a#1-2.wav", "#1-2", "a#01-2", "a#1.50-2", "a#1", "a#-2", "a#1-2 ", "a#1-2\n"])
def test_what_no_segment_is_called(id: str) -> None:
    assert split_id(id) == (id, None, None)
