"""What clusters know, where it is known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from emocluster_jax.evaluation.cluster_information import (
    cluster_counts,
    cluster_information,
    information,
    quantile_bins,
)
from watched_console import WatchedConsole

CHUNKS = 11
SENTENCES = 120


def chunks(clusters: np.ndarray) -> np.ndarray:
    """Every chunk of a sentence in the sentence's cluster."""
    return np.repeat(clusters, CHUNKS)


def labels(column: np.ndarray) -> np.ndarray:
    """Arousal alone."""
    return np.stack([column, np.full(len(column), np.nan), np.full(len(column), np.nan)], axis=1)


def test_clusters_that_are_the_bins() -> None:
    arousal = np.linspace(1, 7, SENTENCES)
    found = cluster_information(chunks(quantile_bins(arousal, 4)), labels(arousal), [""] * SENTENCES, [""] * SENTENCES,
                                bins=4, permutations=99)  # fmt: skip
    known = found.attributes["arousal"]
    assert set(found.attributes) == {"arousal"} and found.speaker is None and found.gender is None
    assert known.mutual_information == pytest.approx(math.log(4))
    assert known.nmi == pytest.approx(1) and known.ami == pytest.approx(1)
    assert known.ami_of_sentences == pytest.approx(1)
    assert known.p_value == 1 / 100 and known.p_value_within_speakers is None
    assert (known.classes, known.sentences, known.permuted) == (4, SENTENCES, "sentences")


def test_clusters_that_recognise_sentences_know_nothing_of_independent_labels() -> None:
    p_values, corrected, by_chunks = [], [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        clusters, arousal = chunks(random.integers(0, 10, SENTENCES)), random.normal(size=SENTENCES)
        counts = cluster_counts(clusters, SENTENCES)
        found = information(counts, quantile_bins(arousal, 5), permutations=199)
        assert found is not None
        p_values.append(found.p_value)
        corrected.append(found.ami_of_sentences)
        by_chunks.append(found.ami)
    # Under independence p is uniform: the mean of 20 has a deviation of 0.065, and 20 below 0.05 are impossible.
    assert 0.25 < np.mean(p_values) < 0.75 and np.mean(np.array(p_values) <= 0.05) <= 0.2
    # The deviation of a single AMI is about 0.015 here. The correction that takes chunks for independent falls short.
    assert abs(np.mean(corrected)) < 0.015 < np.mean(by_chunks)


def test_progress_ends_at_its_total() -> None:
    """With speakers whose labels vary, with missing labels, and with an attribute that has no label."""
    random = np.random.default_rng(0)
    arousal = random.normal(size=SENTENCES)
    attributes = np.stack([arousal, np.where(arousal > 0, np.nan, arousal), np.full(SENTENCES, np.nan)], axis=1)
    names = [f"s{speaker}" for speaker in random.integers(0, 9, SENTENCES)]
    console = WatchedConsole()
    for speakers in (names, [""] * SENTENCES):
        cluster_information(
            chunks(random.integers(0, 5, SENTENCES)), attributes, speakers, names, permutations=9, console=console
        )
    (one, other) = console.tasks
    # Of two attributes each, and again within speakers where they are known; and of speakers and genders.
    assert one.done == one.total == 9 * (2 * 2 + 2) and other.done == other.total == 9 * (2 + 1)


def test_information_by_the_speaker_alone() -> None:
    """Clusters that are speakers, whose arousal differs: within a speaker nothing is left to know."""
    random = np.random.default_rng(0)
    speakers = np.arange(SENTENCES) % 4
    arousal = speakers + random.normal(0, 0.5, SENTENCES)
    names = [f"s{speaker}" for speaker in speakers]
    genders = ["female" if speaker < 2 else "male" for speaker in speakers]
    found = cluster_information(chunks(speakers), labels(arousal), names, genders, permutations=99)
    assert found.attributes["arousal"].p_value == 0.01
    # Every clustering that is constant within a speaker ties with every permutation within it.
    assert found.attributes["arousal"].p_value_within_speakers == 1.0
    assert found.speaker is not None and found.speaker.nmi == pytest.approx(1) and found.speaker.p_value == 0.01
    # Of the six ways to deal two and two genders to four voices, all are as informative: voices give genders away.
    assert found.gender is not None and found.gender.permuted == "speakers" and found.gender.p_value == 1.0


def test_what_is_known_beyond_the_speaker() -> None:
    random = np.random.default_rng(1)
    speakers = [f"s{i % 4}" for i in range(SENTENCES)]
    arousal = random.normal(size=SENTENCES)
    found = cluster_information(chunks(quantile_bins(arousal, 2)), labels(arousal), speakers, [""] * SENTENCES,
                                permutations=99)  # fmt: skip
    assert found.attributes["arousal"].p_value_within_speakers == 0.01


def test_permutations_keep_the_sums_that_the_information_rests_on() -> None:
    """The information of a permuted table, computed from the change of its joint entropy, is scikit-learn's."""
    random = np.random.default_rng(2)
    clusters, bins = random.integers(0, 6, SENTENCES * CHUNKS), random.integers(0, 3, SENTENCES)
    found = information(cluster_counts(clusters, SENTENCES), bins, permutations=2000)
    assert found is not None
    shuffled = [mutual_info_score(np.repeat(random.permutation(bins), CHUNKS), clusters) for _ in range(500)]
    expected = found.nmi and found.mutual_information / found.nmi  # the mean of both entropies
    by_chance = (found.mutual_information - found.ami_of_sentences * expected) / (1 - found.ami_of_sentences)
    # Four standard errors of a mean of 500.
    assert by_chance == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / math.sqrt(500))


def test_bins_of_equally_many_values_part_no_ties() -> None:
    values = np.random.default_rng(0).permutation(100).astype(float)
    assert np.bincount(quantile_bins(values, 5)).tolist() == [20] * 5
    assert (np.diff(quantile_bins(np.sort(values), 5)) >= 0).all()
    assert quantile_bins(np.array([1.0, 1, 1, 1, 2, np.nan]), 4).tolist() == [0, 0, 0, 0, 1, -1]
    assert quantile_bins(np.array([1.0, 2, 2, 2, 2]), 4).tolist() == [0, 1, 1, 1, 1]
    assert quantile_bins(np.array([3.0, 3, 3]), 4).tolist() == [0, 0, 0]
    assert quantile_bins(np.full(2, np.nan), 4).tolist() == [-1, -1]


def test_labels_without_two_classes_tell_nothing() -> None:
    counts = cluster_counts(chunks(np.arange(4)), 4)
    assert counts.tolist() == (CHUNKS * np.eye(4, dtype=int)).tolist()
    assert information(counts, np.array([0, 0, -1, 0]), permutations=9) is None
    with pytest.raises(ValueError, match="45 chunks of 4 sentences"):
        cluster_counts(np.zeros(45, int), 4)
