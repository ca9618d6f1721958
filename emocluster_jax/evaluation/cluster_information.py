"""The information that clusters and labels share: mutual information, normalised, corrected for chance, tested.

The chunks of a sentence overlap and share its labels, so they are not independent examples. To measure chance, labels
are therefore shuffled over whole sentences: a sentence's chunks keep their clusters and stay together. If labels were
shuffled over chunks, any clustering that recognises sentences would seem to know every label. Labels that belong to the
speaker are shuffled over speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import LabelColumns

PERMUTATIONS = 999
BINS = 5
_SEED = 0
_REPORTS = 4
"""How often a test reports its progress."""
_TIE = 1e-12
"""Nats; rounding makes equal tables differ by less."""


@dataclass(frozen=True)
class Information:
    """The information that the clusters of chunks share with one label of their sentences.

    Attributes:
      classes: different values of the label, after binning.
      sentences: those with a known label; `mutual_information`, `nmi` and `ami` are of these.
      mutual_information: in nats, over chunks.
      nmi: normalised by the mean of both entropies, 0 to 1.
      ami: corrected for chance as if chunks were independent (Vinh, Epps & Bailey, JMLR 11, 2010); 0 by chance, 1 if
        both are the same partition.
      ami_of_sentences: the same, with the mean over the permutations as chance.
      p_value: share of permutations of the labels that give as much information, counting the observed order (Phipson &
        Smyth 2010): at least 1 / (permutations + 1).
      p_value_within_speakers: the same with labels shuffled only among each speaker's sentences: small if the clusters
        know more about the label than the speaker tells. None if speakers are unknown or determine the label.
      permuted: what labels are shuffled over for `p_value` and `ami_of_sentences`: "sentences" or "speakers".
      permuted_sentences: how many sentences these two are of; None in files of earlier versions, which left none out.
      sentences_within_speakers: how many `p_value_within_speakers` and `ami_within_speakers` are of.
      ami_within_speakers: as `ami_of_sentences`, with labels shuffled only among each speaker's sentences: how much the
        clusters know beyond the speaker. None where `p_value_within_speakers` is, and in files of earlier versions.
    """

    classes: int
    sentences: int
    mutual_information: float
    nmi: float
    ami: float
    ami_of_sentences: float
    p_value: float
    p_value_within_speakers: float | None
    permuted: str
    permuted_sentences: int | None = None
    sentences_within_speakers: int | None = None
    ami_within_speakers: float | None = None


@dataclass(frozen=True)
class ClusterInformation:
    """The information that the clusters of a split share with its labels.

    Attributes:
      attributes: by name; attributes without at least two classes of labels are left out.
      speaker: None unless two speakers are known.
      gender: None unless two genders are known. It is shuffled over speakers if each has one gender and both occur:
        otherwise clusters that recognise voices would seem to know the gender.
      bins: requested quantile bins of the attributes.
      permutations: behind each p-value and `ami_of_sentences`.
      alone: by input, the same of the clusters that this input tells, with the others hidden, of the sentences that
        have it; empty for models of audio alone, and in files of earlier versions.
    """

    attributes: dict[str, Information]
    speaker: Information | None
    gender: Information | None
    bins: int
    permutations: int
    alone: Mapping[str, ClusterInformation] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, Information]:
        """All of it by name."""
        others = {"speaker": self.speaker, "gender": self.gender}
        return self.attributes | {name: known for name, known in others.items() if known is not None}

    @property
    def rows(self) -> list[tuple[str, Information]]:
        """The rows of a table: by label what all inputs tell, and under it what each one alone does."""
        rows = []
        for name, of_all in self.labels.items():
            rows.append((name, of_all))
            tables = [(given, of_one.labels) for given, of_one in self.alone.items()]
            rows += [(f"{name}, {given} alone", known[name]) for given, known in tables if name in known]
        return rows


def cluster_information(
    assignments: Int[np.ndarray, " chunks"],
    labels: LabelColumns,
    speakers: Sequence[str],
    genders: Sequence[str],
    *,
    bins: int = BINS,
    permutations: int = PERMUTATIONS,
    console: Console | None = None,
) -> ClusterInformation:
    """Measures what the clusters of a split know about its labels; the same input gives the same result.

    Args:
      assignments: cluster of every chunk, grouped by sentence, the same number for each.
      labels: of the sentences.
      speakers: of the sentences, "" where unknown; `genders` likewise.
      bins: quantile bins of the attributes; equal labels share a bin, so there may be fewer.
      permutations: number of shuffles that measure chance.
      console: shows progress; tens of thousands of sentences take a minute.
    """
    counts, speaker, gender = cluster_counts(assignments, len(labels)), _classes(speakers), _classes(genders)
    bins_of = {name: quantile_bins(values, bins) for name, values in labels.columns()}
    asked = [(speaker, None), (gender, None), *((binned, speaker) for binned in bins_of.values())]
    gender_of_speakers = _labels_of_groups(gender, speaker)
    over = speaker if gender_of_speakers is not None and len(np.unique(gender_of_speakers)) > 1 else None
    total = permutations * sum(_tests(classes, groups) for classes, groups in asked)
    with (console or Console(quiet=True)).task("comparing clusters and labels", total, "permutations") as task:

        def found(classes: Int[np.ndarray, " sentences"], **others: Any) -> Information | None:
            return information(counts, classes, permutations=permutations, advance=task.advance, **others)

        by_name = {name: found(binned, within=speaker) for name, binned in bins_of.items()}
        attributes = {name: known for name, known in by_name.items() if known is not None}
        return ClusterInformation(attributes, found(speaker), found(gender, over=over), bins, permutations)


def quantile_bins(values: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """Bins of about the same number of values, numbered from 0 without gaps; -1 where a value is NaN.

    Equal values share a bin, so ratings on a coarse scale may give fewer bins.
    """
    from scipy.stats import rankdata

    known = np.isfinite(values)
    codes = np.full(len(values), -1)
    if known.any():
        # Equal values have the mean of their ranks, 1 to n.
        quantiles = (rankdata(values[known]) - 0.5) / known.sum()
        codes[known] = np.unique((bins * quantiles).astype(int), return_inverse=True)[1]
    return codes


def cluster_counts(assignments: Int[np.ndarray, " chunks"], sentences: int) -> Int[np.ndarray, "sentences clusters"]:
    """How many chunks of each sentence are in each cluster, from assignments grouped by sentence.

    Raises ValueError if the number of chunks is not a multiple of the number of sentences.
    """
    if sentences == 0 or len(assignments) % sentences:
        raise ValueError(f"{len(assignments)} chunks of {sentences} sentences")
    clusters = int(assignments.max()) + 1
    numbers = assignments.reshape(sentences, -1) + clusters * np.arange(sentences)[:, None]
    return np.bincount(numbers.ravel(), minlength=sentences * clusters).reshape(sentences, clusters)


def information(
    counts: Int[np.ndarray, "sentences clusters"],
    labels: Int[np.ndarray, " sentences"],
    *,
    permutations: int,
    within: Int[np.ndarray, " sentences"] | None = None,
    over: Int[np.ndarray, " sentences"] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Information | None:
    """The information that clusters share with one label; None if the label has fewer than two classes.

    Args:
      counts: from `cluster_counts`.
      labels: class of each sentence, -1 where unknown.
      permutations: number of shuffles that measure chance.
      within: speakers for `p_value_within_speakers`, -1 where unknown, which leaves the sentence out.
      over: speakers to shuffle the labels over, each of one class, at least two classes in all; -1 where unknown, which
        leaves the sentence out of `p_value` and `ami_of_sentences`. None shuffles over sentences.
      advance: called now and then with the number of further permutations done.
    """
    from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score, normalized_mutual_info_score

    known = labels >= 0
    classes = len(np.unique(labels[known]))
    if classes < 2:
        return None
    clusters_of_chunks = np.repeat(np.tile(np.arange(counts.shape[1]), known.sum()), counts[known].ravel())
    labels_of_chunks = np.repeat(labels[known], counts[known].sum(axis=1))

    permuted = known if over is None else known & (over >= 0)
    units, unit_labels = counts[permuted], labels[permuted]
    ceiling = _ceiling(units, unit_labels)
    if over is not None:
        _, first, unit = np.unique(over[permuted], return_index=True, return_inverse=True)
        units, unit_labels = _sums_by(unit, units), unit_labels[first]
    observed, by_chance = _shuffled(units, unit_labels, np.zeros(len(units), int), permutations, advance)
    within_speakers = ami_within_speakers = sentences_within_speakers = None
    if within is not None and _tests(labels, within) == 2:
        tested = known & (within >= 0)
        shuffled = _shuffled(counts[tested], labels[tested], within[tested], permutations, advance)
        within_speakers = _p_value(*shuffled)
        ami_within_speakers = _adjusted(*shuffled, _ceiling(counts[tested], labels[tested]))
        sentences_within_speakers = int(tested.sum())
    pair = labels_of_chunks, clusters_of_chunks
    return Information(
        classes=classes,
        sentences=int(known.sum()),
        mutual_information=float(mutual_info_score(*pair)),
        nmi=float(normalized_mutual_info_score(*pair)),
        ami=float(adjusted_mutual_info_score(*pair)),
        ami_of_sentences=_adjusted(observed, by_chance, ceiling),
        p_value=_p_value(observed, by_chance),
        p_value_within_speakers=within_speakers,
        permuted="sentences" if over is None else "speakers",
        permuted_sentences=int(permuted.sum()),
        sentences_within_speakers=sentences_within_speakers,
        ami_within_speakers=ami_within_speakers,
    )


def _ceiling(counts: Int[np.ndarray, "units clusters"], labels: Int[np.ndarray, " units"]) -> float:
    """The mean of the entropies of clusters and labels, over chunks, in nats."""
    from scipy.stats import entropy

    return float(entropy(counts.sum(axis=0)) + entropy(_sums_by(labels, counts.sum(axis=1)))) / 2


def _adjusted(observed: float, by_chance: Float[np.ndarray, " n"], ceiling: float) -> float:
    expected = float(by_chance.mean())
    return (observed - expected) / (ceiling - expected) if ceiling - expected > _TIE else 0.0


def _shuffled(
    counts: Int[np.ndarray, "units clusters"],
    labels: Int[np.ndarray, " units"],
    groups: Int[np.ndarray, " units"],
    permutations: int,
    advance: Callable[[int], None],
) -> tuple[float, Float[np.ndarray, " permutations"]]:
    """The mutual information in nats, and its values after shuffles of the labels among each group's units."""
    from scipy.special import xlogy

    home = np.lexsort((labels, groups))
    by_label = np.argsort(labels[home], kind="stable")
    starts = np.flatnonzero(np.diff(labels[home][by_label], prepend=-1))
    total, by_cluster = int(counts.sum()), counts.sum(axis=0)
    # Clusters keep their sizes; labels keep theirs only if all units have the same number of chunks.
    of_clusters = float(xlogy(total, total) - xlogy(by_cluster, by_cluster).sum())

    def mutual_information(order: Int[np.ndarray, " units"]) -> float:
        """For the table in which unit `order[i]` has the label of unit `home[i]`."""
        table = np.add.reduceat(counts[order[by_label]], starts)
        by_label_sums = table.sum(axis=1)
        return (float(xlogy(table, table).sum() - xlogy(by_label_sums, by_label_sums).sum()) + of_clusters) / total

    rng = np.random.default_rng(_SEED)
    by_chance = []
    for part in np.array_split(np.arange(permutations), _REPORTS):
        by_chance += [mutual_information(np.lexsort((rng.random(len(labels)), groups))) for _ in part]
        advance(len(part))
    return mutual_information(home), np.array(by_chance)


def _sums_by(groups: Int[np.ndarray, " n"], values: Int[np.ndarray, "n ..."]) -> Int[np.ndarray, "g ..."]:
    """The sums of the values of each group, numbered from 0."""
    sums = np.zeros((groups.max() + 1, *values.shape[1:]), values.dtype)
    np.add.at(sums, groups, values)
    return sums


def _tests(labels: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"] | None) -> int:
    """How many tests a label gets: none with a single class, and a second one if it varies within some group."""
    if len(np.unique(labels[labels >= 0])) < 2:
        return 0
    return 1 if groups is None or _labels_of_groups(labels, groups) is not None else 2


def _labels_of_groups(
    labels: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " groups"] | None:
    """The label of each group, where both are known; None if a group has several."""
    both = (labels >= 0) & (groups >= 0)
    pairs = np.unique(np.stack([labels[both], groups[both]], axis=1), axis=0)
    return pairs[:, 0] if len(pairs) == len(np.unique(pairs[:, 1])) else None


def _p_value(observed: float, by_chance: Float[np.ndarray, " n"]) -> float:
    return float((1 + (by_chance >= observed - _TIE).sum()) / (1 + len(by_chance)))


def _classes(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Numbers in place of names, -1 in place of ""."""
    return np.unique(["", *names], return_inverse=True)[1][1:] - 1
