"""What clusters know, where it is known beforehand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.evaluation.cluster_information import (
    ClusterInformation,
    Information,
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


def labels(column: np.ndarray) -> LabelColumns:
    """Arousal alone; the others are always missing."""
    missing = np.full(len(column), np.nan)
    return LabelColumns(VAD, np.stack([column, missing, missing], axis=1))


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


def test_a_table_has_what_each_input_alone_tells_below_what_all_do() -> None:
    known = Information(3, 8, 0.2, 0.3, 0.2, 0.1, 0.04, 0.5, "sentences", 8, 8)
    of_text, of_audio = (dataclasses.replace(known, sentences=n) for n in (6, 7))
    alone = {
        "audio": ClusterInformation({"arousal": of_audio}, of_audio, None, 5, 99),
        "text": ClusterInformation({"arousal": of_text}, None, None, 5, 99),
    }
    assert ClusterInformation({"arousal": known}, known, known, 5, 99, alone).rows == [
        ("arousal", known),
        ("arousal, audio alone", of_audio),
        ("arousal, text alone", of_text),
        ("speaker", known),
        ("speaker, audio alone", of_audio),  # of those with a text one speaker alone is known
        ("gender", known),
    ]


def test_progress_ends_at_its_total() -> None:
    """With speakers whose labels vary, with missing labels, and with an attribute that has no label."""
    random = np.random.default_rng(0)
    arousal = random.normal(size=SENTENCES)
    values = np.stack([arousal, np.where(arousal > 0, np.nan, arousal), np.full(SENTENCES, np.nan)], axis=1)
    names = [f"s{speaker}" for speaker in random.integers(0, 9, SENTENCES)]
    console = WatchedConsole()
    for speakers in (names, [""] * SENTENCES):
        cluster_information(
            chunks(random.integers(0, 5, SENTENCES)),
            LabelColumns(VAD, values),
            speakers,
            names,
            permutations=9,
            console=console,
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
    known = found.attributes["arousal"]
    assert known.p_value_within_speakers == 0.01
    # The clusters are the halves themselves, of which each speaker has some of either.
    assert known.ami_within_speakers is not None and 0.3 < known.ami_within_speakers <= 1
    # Clusters that are the speakers know of arousal what the speakers do, and nothing beyond.
    voices = cluster_information(chunks(np.arange(SENTENCES) % 4), labels(arousal), speakers, [""] * SENTENCES,
                                 permutations=99)  # fmt: skip
    assert voices.attributes["arousal"].ami_within_speakers == pytest.approx(0, abs=1e-9)


def brute_force(
    clusters: np.ndarray, names: np.ndarray, speakers: np.ndarray, permutations: int, seed: int
) -> tuple[float, float, np.ndarray]:
    """p and chance-corrected information where names are split over speakers, and what each permutation gives.

    Everything anew for each permutation, chunk by chunk, by scikit-learn.
    """
    random = np.random.default_rng(seed)
    owners, unit = np.unique(speakers, return_inverse=True)
    name_of = np.array([names[speakers == owner][0] for owner in owners])
    observed = mutual_info_score(np.repeat(names, CHUNKS), clusters)
    permuted = np.array(
        [mutual_info_score(np.repeat(random.permutation(name_of)[unit], CHUNKS), clusters) for _ in range(permutations)]
    )
    ceiling = (entropy(np.unique(names, return_counts=True)[1]) + entropy(np.bincount(clusters))) / 2
    p_value = (1 + (permuted >= observed - 1e-9).sum()) / (1 + permutations)
    return p_value, (observed - permuted.mean()) / (ceiling - permuted.mean()), permuted


def encoded_gender(recordings: list[int], women: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speakers and genders of sentences, and clusters of chunks that are right about the gender nine times in ten.

    Args:
      recordings: of each speaker.
      women: so many speakers, the first ones.
    """
    random = np.random.default_rng(4)
    speakers = np.repeat(np.arange(len(recordings)), recordings)
    genders = np.where(speakers < women, "female", "male")
    wrong = random.random(len(speakers) * CHUNKS) < 0.1
    return speakers, genders, (np.repeat(speakers < women, CHUNKS) ^ wrong).astype(int)


@pytest.mark.parametrize(
    ("recordings", "women"),
    [([100] * 4 + [10] * 20, 4), ([10] * 20 + [100] * 4, 20), ([3, 5, 60, 7, 9, 11], 3), ([20] * 8, 4)],
)
def test_information_of_gender_is_that_of_the_labels_dealt_out_anew_over_speakers(
    recordings: list[int], women: int
) -> None:
    """Also where speakers have different numbers of recordings, and genders their shares by the permutation."""
    speakers, genders, clusters = encoded_gender(recordings, women)
    p_value, ami, permuted = brute_force(clusters, genders, speakers, 499, seed=0)
    names = [f"s{speaker}" for speaker in speakers]
    unrated = labels(np.full(len(genders), np.nan))
    found = cluster_information(clusters, unrated, names, genders.tolist(), permutations=1999).gender
    assert found is not None and found.permuted == "speakers"
    # Four standard errors, of 499 and of 1,999 draws.
    deviation = 4 * math.sqrt(p_value * (1 - p_value) * (1 / 499 + 1 / 1999))
    assert found.p_value == pytest.approx(p_value, abs=deviation + 1 / 500)
    ceiling = found.mutual_information / found.nmi
    error = 4 * permuted.std() * math.sqrt(1 / 499 + 1 / 1999)
    assert found.ami_of_sentences == pytest.approx(ami, abs=error / (ceiling - permuted.mean()))


def test_clusters_that_encode_gender_are_found_out() -> None:
    speakers, genders, clusters = encoded_gender([100] * 4 + [10] * 20, women=4)
    unrated = labels(np.full(len(genders), np.nan))
    names = [f"s{speaker}" for speaker in speakers]
    found = cluster_information(clusters, unrated, names, genders.tolist()).gender
    # Of the 10,626 ways to deal out four women, hardly one tells as much.
    assert found is not None and found.p_value <= 0.002


def test_sentences_of_unknown_speakers_are_left_out_of_the_tests_that_rest_on_speakers() -> None:
    speakers, genders, clusters = encoded_gender([30, 30, 30, 5, 5, 5, 5], women=3)
    arousal = np.random.default_rng(0).normal(speakers, 1)
    names = [f"s{speaker}" for speaker in speakers]
    known = np.arange(len(names)) % 10 > 0
    some = [name if there else "" for name, there in zip(names, known, strict=True)]
    found = cluster_information(clusters, labels(arousal), some, genders.tolist(), permutations=99)
    without = cluster_information(
        clusters.reshape(-1, CHUNKS)[known].ravel(),
        labels(arousal[known]),
        [name for name in some if name],
        genders[known].tolist(),
        permutations=99,
    )
    for one, other in ((found.gender, without.gender), (found.attributes["arousal"], without.attributes["arousal"])):
        assert one is not None and other is not None
        assert one.sentences == len(names) and other.sentences == known.sum()
    gender, arousal_of_all = found.gender, found.attributes["arousal"]
    assert gender is not None and without.gender is not None
    assert (gender.p_value, gender.ami_of_sentences) == (without.gender.p_value, without.gender.ami_of_sentences)
    assert gender.permuted == "speakers" and gender.permuted_sentences == known.sum()
    # What needs no speaker rests on all.
    everything = cluster_information(clusters, labels(arousal), [""] * len(names), genders.tolist(), permutations=99)
    assert gender.mutual_information == everything.gender.mutual_information
    assert arousal_of_all.p_value == everything.attributes["arousal"].p_value
    assert arousal_of_all.permuted_sentences == len(names) and arousal_of_all.permuted == "sentences"
    assert (
        everything.gender.permuted == "sentences" and everything.attributes["arousal"].sentences_within_speakers is None
    )
    # Quantile bins are those of all sentences, hence not the p-value of `without`.
    assert arousal_of_all.p_value_within_speakers is not None
    assert arousal_of_all.sentences_within_speakers == known.sum()


def test_one_unknown_speaker_changes_nothing_but_its_sentence() -> None:
    """Clusters by the gender alone: the speakers' test still says that they know it by the voices."""
    random = np.random.default_rng(0)
    speakers = np.arange(SENTENCES) % 4
    names = [f"s{speaker}" for speaker in speakers]
    names[7] = ""
    genders = ["female" if speaker < 2 else "male" for speaker in speakers]
    arousal = speakers + random.normal(0, 0.5, SENTENCES)
    found = cluster_information(chunks(speakers), labels(arousal), names, genders, permutations=99)
    assert found.gender is not None and found.gender.p_value > 0.1
    assert (found.gender.permuted, found.gender.permuted_sentences) == ("speakers", SENTENCES - 1)
    assert found.attributes["arousal"].p_value_within_speakers == 1.0
    # A sentence of unknown gender says nothing of its speaker's.
    genders[8] = ""
    found = cluster_information(chunks(speakers), labels(arousal), names, genders, permutations=99)
    assert found.gender is not None and (found.gender.permuted, found.gender.sentences) == ("speakers", SENTENCES - 1)
    assert found.gender.permuted_sentences == SENTENCES - 2


def test_chance_is_what_scikit_learn_finds_on_the_permuted_labels() -> None:
    random = np.random.default_rng(2)
    clusters, bins = random.integers(0, 6, SENTENCES * CHUNKS), random.integers(0, 3, SENTENCES)
    found = information(cluster_counts(clusters, SENTENCES), bins, permutations=2000)
    assert found is not None
    _, ami, permuted = brute_force(clusters, bins, np.arange(SENTENCES), 500, seed=1)
    ceiling = found.mutual_information / found.nmi  # the mean of both entropies
    # Four standard errors of a mean of 500.
    error = 4 * permuted.std() / math.sqrt(500)
    assert found.ami_of_sentences == pytest.approx(ami, abs=error / (ceiling - permuted.mean()))


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
