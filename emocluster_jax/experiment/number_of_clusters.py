"""How many clusters? What the validation split says of each K; nothing here looks at the test split.

For each K the CCC, how far the clusters of different seeds agree, and how much they know of the label. Of all K whose
mean CCC is within one standard error of the best one's, the most stable is recommended: so small a difference is no
reason to prefer a K (the rule of Breiman, Friedman, Olshen & Stone, "Classification and regression trees", 1984), and
clusters that another seed does not find again mean little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from emocluster_jax.console import Console
from emocluster_jax.evaluation.cluster_information import BINS, quantile_bins
from emocluster_jax.experiment.completed import Results, Summary, completed_trials, summarize
from emocluster_jax.experiment.grid import Grid, Plan
from emocluster_jax.experiment.tables import (
    ResultTable,
    missing_note,
    summary_record,
    summary_text,
    trials_note,
)
from emocluster_jax.inference.model_directory import MODEL, read_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import predict_prepared
from emocluster_jax.records.reader import ChunkSource, PreparedData, open_data

FEWEST_TRIALS = 2
"""Of each K: one has neither a standard error nor another to be stable against."""


class ClusterNumber(NamedTuple):
    """What the validation split says of a number of clusters, over seeds, and over pairs of seeds.

    Attributes:
      clusters: K.
      validation_ccc: of the epochs that it selected.
      stability: adjusted Rand index of the chunks' clusters by two seeds (Hubert & Arabie 1985): 1 if they are the
        same, 0 by chance.
      information: adjusted mutual information of the chunks' clusters with the label, in quantile bins.
    """

    clusters: int
    validation_ccc: Summary
    stability: Summary
    information: Summary


def cluster_numbers(plan: Plan, results: Results, console: Console) -> dict[str, list[ClusterNumber]]:
    """By attribute, what is known of each K of the grid from the runs that are complete."""
    grid, data = plan.grid, open_data(plan.data_dir)
    runs = [run for run in grid.runs_of("clusters") if run in results]
    found = {}
    with console.task("clusters of the validation split", len(runs), "runs") as task:
        for run in runs:
            found[run] = _chunk_clusters(plan.folder(run) / MODEL, data)
            task.advance()
    labels = data.describe("validation").labels
    numbers: dict[str, list[ClusterNumber]] = {}
    for attribute in grid.attributes_of("clusters"):
        bins = quantile_bins(labels.of([attribute])[:, 0], BINS)
        for setting in grid.settings_of("clusters"):
            assert setting.clusters is not None
            trials = completed_trials(results, setting, attribute)
            known = summarize([ccc for trial in trials if (ccc := trial.validation_ccc) is not None])
            assignments = [found[trial.run] for trial in trials]
            number = ClusterNumber(setting.clusters, known, *agreement(assignments, bins))
            numbers.setdefault(attribute, []).append(number)
    return numbers


def _chunk_clusters(model: Path, data: PreparedData) -> Int[np.ndarray, "recordings chunks"]:
    saved = read_model(model)
    source, rows = ChunkSource(data, "validation", saved.inputs), []
    for prediction in predict_prepared(Predictor(saved), source, range(data.counts["validation"])):
        assert prediction.chunk_clusters is not None
        rows.append(prediction.chunk_clusters)
    return np.stack(rows)


def agreement(
    assignments: Sequence[Int[np.ndarray, "recordings chunks"]], classes: Int[np.ndarray, " recordings"]
) -> tuple[Summary, Summary]:
    """The adjusted Rand index of each pair of assignments, and the adjusted mutual information of each with the classes
    of its recordings, of which -1 is unknown."""
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    known = classes >= 0
    pairs = [adjusted_rand_score(one.ravel(), other.ravel()) for one, other in combinations(assignments, 2)]
    shared = [
        adjusted_mutual_info_score(np.repeat(classes[known], chunks.shape[1]), chunks[known].ravel())
        for chunks in assignments
    ]
    return summarize(pairs), summarize(shared)


def recommended(numbers: Sequence[ClusterNumber]) -> int | None:
    """The most stable K within one standard error of the best; the better one of equally stable ones.

    None until every K has `FEWEST_TRIALS` trials with a validation CCC.
    """
    if not numbers or min(number.validation_ccc.trials for number in numbers) < FEWEST_TRIALS:
        return None
    best = max(numbers, key=lambda number: number.validation_ccc.mean).validation_ccc
    lowest = best.mean - best.deviation / math.sqrt(best.trials)
    near = [number for number in numbers if number.validation_ccc.mean >= lowest]
    return max(near, key=lambda number: (number.stability.mean, number.validation_ccc.mean)).clusters


def cluster_number_table(
    grid: Grid, results: Results, numbers: Mapping[str, Sequence[ClusterNumber]], corpus: str
) -> ResultTable:
    """What is known of each K, one row each, and which is recommended."""
    rows, records = [], []
    for i, clusters in enumerate(grid.clusters):
        row = [f"K = {clusters}"]
        for attribute, found in numbers.items():
            _, ccc, stability, information = found[i]
            expected = ((ccc, grid.trials), (stability, math.comb(grid.trials, 2)), (information, grid.trials))
            row += [summary_text(*of) for of in expected]
            records.append(
                {
                    **{"clusters": clusters, "attribute": attribute, "trials": ccc.trials},
                    **summary_record("validation_ccc", ccc),
                    **summary_record("stability", stability),
                    **summary_record("information", information),
                }
            )
        rows.append(tuple(row))
    notes = [trials_note(grid), "Of the validation split alone, and of the epochs that it selected."]
    notes.append(
        "Stability: adjusted Rand index of the chunks' clusters by two seeds, over pairs of seeds. Information: "
        f"adjusted mutual information of the chunks' clusters with the label in {BINS} quantile bins."
    )
    for attribute, found in numbers.items():
        best = recommended(found)
        if best is None:
            notes.append(f"No K is recommended for {attribute} before each has {FEWEST_TRIALS} trials.")
        else:
            why = "the most stable of all within one standard error of the best"
            notes.append(f"Recommended for {attribute}: K = {best}, {why}.")
    parts = ("validation CCC", "stability", "information")
    header = ["clusters", *(f"{attribute}, {part}" for attribute in numbers for part in parts)]
    title = f"How many clusters, of {corpus}"
    return ResultTable("clusters", title, header, rows, [*notes, *missing_note(grid, "clusters", results)], records)
