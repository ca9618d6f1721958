"""The page of one run, from its work directory and its data; parts without data are left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from emocluster_jax.config import DEFAULT_AUDIO, GivenFeatures
from emocluster_jax.console import Console, audio_duration, counted
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.metrics import score_rows
from emocluster_jax.evaluation.run_results import TEST_SCORES
from emocluster_jax.inference.model_directory import MODEL, SavedModel, read_model
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.preprocessing.quality import told
from emocluster_jax.records.folds import describe_fold
from emocluster_jax.records.preparation import Preparation
from emocluster_jax.records.reader import ChunkSource, Descriptions, PreparedData, open_data
from emocluster_jax.reporting.html import run_figures
from emocluster_jax.reporting.html.embedding_map import FEWEST, embedding_map
from emocluster_jax.reporting.html.recordings import Cut, TypicalRecordings, draw_cut, typical_recordings
from emocluster_jax.reporting.html.rendering import number, render
from emocluster_jax.reporting.html.run_files import RunFiles, unless_wrong
from emocluster_jax.reporting.html.sample import Sample, draw_sample
from emocluster_jax.settings import values_of
from emocluster_jax.storage.json_files import RUN_ENTRY, check_run
from emocluster_jax.training.workdir import read_training_clusters

_LONGEST_CUT_S = 60.0
_WORDS = {"None": "not set", "True": "yes", "False": "no"}


class Extent(NamedTuple):
    """The most that a page holds: recordings on the map, clips per cluster, and seconds of each clip."""

    recordings: int
    clips: int
    clip_seconds: float


class DataView(NamedTuple):
    """What a page shows of the data that its run was trained on.

    Attributes:
      train: the training split.
      assignments: the clusters of its chunks in the kept epoch; None for systems without clusters.
      sample: labelled recordings with the model's results; None if there is no model yet.
      silent: why none of the typical recordings can be played; "" if one can.
      cuts: a short and a long recording and their chunks.
      problems: files that are damaged or do not belong to the run or these data, one line each.
    """

    preparation: Preparation
    train: Descriptions
    assignments: Int[np.ndarray, " chunks"] | None
    sample: Sample | None
    typical: tuple[TypicalRecordings, ...]
    silent: str
    cuts: tuple[Cut, ...]
    problems: tuple[str, ...]


def view_data(run: RunFiles, data_dir: Path, source: Path | None, extent: Extent, console: Console) -> DataView:
    """Reads what a run's page shows of the run's data.

    The recordings are in the folder `source`; None is the one that they were prepared from.

    Raises:
      InputError: the data are damaged or not those of the run.
    """
    data = open_data(data_dir, run.saved.config.fold)
    preparation = data.preparation
    if run.saved.data not in preparation.fingerprints:
        raise InputError(f"the run in {run.workdir} was trained on other data than {data_dir}; give its `data_dir`")
    if not preparation.counts.get("train"):
        raise InputError(f"{data_dir} has no labelled recordings to show; leave `data_dir` out")
    train, source = data.describe("train"), source or Path(preparation.source)
    problems: list[str] = []
    sample, typical = None, ()
    if os.path.lexists(run.workdir / MODEL):
        model = unless_wrong(lambda: _read_model(run, preparation), None, problems)
        if model is not None:
            sample = draw_sample(data, model, extent.recordings, console)
            typical = typical_recordings(sample, source, preparation.audio, extent.clips, extent.clip_seconds, console)
    assignments = unless_wrong(lambda: _read_assignments(run, data), None, problems)
    silent = _silent(typical, source)
    if silent and not isinstance(preparation.features, GivenFeatures):
        console.warn(silent)
    cuts: tuple[Cut, ...] = unless_wrong(lambda: _cuts(data, train, source), (), problems)
    return DataView(preparation, train, assignments, sample, typical, silent, cuts, tuple(problems))


def _read_model(run: RunFiles, preparation: Preparation) -> SavedModel:
    """The run's model; InputError if it belongs to another run or reads other features than the run's data."""
    folder = run.workdir / MODEL
    model = read_model(folder)
    check_run(folder, model.origin.get(RUN_ENTRY, ""), run.saved.id)
    if model.features != preparation.features:
        raise InputError(f"{folder} reads other features than the run's data; train the run again")
    return model


def _read_assignments(run: RunFiles, data: PreparedData) -> Int[np.ndarray, " chunks"] | None:
    """The clusters in the kept epoch; None for systems without clusters."""
    if run.best_epoch is None:
        return None
    chunks = data.counts["train"] * data.preparation.features.chunks_per_utterance
    return read_training_clusters(run.workdir, run.best_epoch, run.saved, chunks)


def _silent(typical: Sequence[TypicalRecordings], source: Path) -> str:
    clips = [clip for cluster in typical for clip in cluster.clips]
    if not clips or any(clip.audio is not None for clip in clips):
        return ""
    return (
        f"none of these recordings can be played: {clips[0].reason} (looked for {clips[0].recording.id} in {source}; "
        "give the report the folder that they are in)"
    )


def _name(run: RunFiles) -> str:
    return "/".join(run.workdir.resolve().parts[-2:])


def _beside_name(run: RunFiles, beside: RunFiles) -> str:
    return _name(beside) if run.has_data_of(beside) else f"{_name(beside)}, which was trained on other data"


def run_page(run: RunFiles, data: DataView | None, extent: Extent, beside: RunFiles | None = None) -> str:
    """The page of a run; without `data` it lacks the parts that need them.

    What the clusters of the run `beside` know stands beside what this one's do.
    """
    config, sample = run.saved.config, data.sample if data else None
    return render(
        "run.html",
        title=_name(run),
        subtitle=_subtitle(run),
        facts=_facts(run),
        problems=[*run.problems, *(data.problems if data else ())],
        left_out=_left_out(run, data),
        settings=_settings(config, config.model.system),
        data=_data_rows(data.preparation, config.fold) if data else [("fingerprint", run.saved.data)],
        versions=list(run.saved.versions.items()),
        scores=[(name, s.ccc, s.pearson, s.rmse, s.n) for name, s in score_rows(run.scores, run.alone)],
        scatters=run_figures.prediction_scatters(run),
        training=run_figures.training_curves(run.metrics),
        clusters_by_epoch=run_figures.cluster_curves(run.metrics),
        information=run.information,
        beside=dict(beside.information.rows) if beside is not None and beside.information is not None else {},
        beside_name="" if beside is None else _beside_name(run, beside),
        distributions=run_figures.cluster_figures(data.assignments, data.train.labels)
        if data and data.assignments is not None
        else [],
        map=embedding_map(sample) if sample is not None and len(sample.recordings) >= FEWEST else None,
        sampled=_sampled(sample) if sample is not None else "",
        with_clusters=sample is not None and any(recording.cluster is not None for recording in sample.recordings),
        listening=data.typical if data else (),
        clip_seconds=f"{extent.clip_seconds:g}",
        silent=data.silent if data else "",
        cuts=data.cuts if data else (),
    )


def _cuts(data: PreparedData, train: Descriptions, source: Path) -> tuple[Cut, ...]:
    """A training recording at the first tenth of durations, and the longest in which chunks can be told apart."""
    features = data.preparation.features
    by_duration = sorted(range(len(train)), key=lambda i: (float(train.durations_s[i]), train.ids[i]))
    short = by_duration[len(train) // 10]
    long = next((i for i in reversed(by_duration) if train.durations_s[i] <= _LONGEST_CUT_S), short)
    chunks = ChunkSource(data, "train")
    return tuple(
        draw_cut(train.ids[i], source, float(train.durations_s[i]), chunks[i], features, data.preparation.audio)
        for i in dict.fromkeys((short, long))
    )


def _subtitle(run: RunFiles) -> str:
    model = run.saved.config.model
    what = f"A run of {NETWORKS[model.system].title} for {', '.join(model.attributes)}"
    if not run.metrics:
        return f"{what}; no epoch has ended yet."
    done, wanted = run.metrics[-1]["epoch"], run.saved.config.epochs
    return f"{what}; {done} of {wanted} epochs, epoch {run.best_epoch} was kept."


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    facts = [(f"test CCC, {name}", number(scores.ccc)) for name, scores in run.scores.items()]
    best = next((epoch for epoch in run.metrics if epoch["epoch"] == run.best_epoch), {})
    if best.get("validation_ccc_mean") is not None:
        facts.append(("validation CCC, mean", number(best["validation_ccc_mean"])))
    for name, known in run.information.labels.items() if run.information else ():
        if name in run.saved.config.model.attributes or name == "speaker":
            facts.append((f"clusters and {name}, AMI", number(known.ami_of_sentences)))
    return facts


def _left_out(run: RunFiles, data: DataView | None) -> list[str]:
    notes = []
    if data is None:
        notes.append("This page was made without the run's data: it has no map, recordings or distributions of labels.")
    elif data.sample is None and not (run.workdir / MODEL).exists():
        notes.append("There is no model yet, so there is no map and there are no recordings to listen to.")
    elif data.sample is not None and len(data.sample.recordings) < FEWEST:
        notes.append(f"Fewer than {FEWEST} recordings: there is no map.")
    if run.saved.config.stages == "unsupervised":
        notes.append("The regressor was not trained (stages: unsupervised): its predictions mean nothing.")
    if run.metrics and not run.scores and not os.path.lexists(run.workdir / TEST_SCORES):
        notes.append("There are no test scores: training has not ended, or the data have no test split.")
    return notes


def _sampled(sample: Sample) -> str:
    drawn = len(sample.recordings)
    if drawn == sample.total:
        return f"All {drawn} labelled recordings."
    return f"{drawn} of the {sample.total} labelled recordings, drawn at random."


def _data_rows(preparation: Preparation, fold: int | None) -> list[tuple[str, str]]:
    rows = [("corpus", preparation.corpus), ("source", preparation.source)]
    if fold is not None:
        rows.append(("folds", describe_fold(preparation, fold)))
    for split, count in preparation.counts.items():
        name = "all folds" if fold is not None and split == "train" else split
        rows.append((name, f"{counted(count, 'recording')}, {audio_duration(preparation.hours[split])}"))
    return [
        *rows,
        ("shorter than a chunk", f"{preparation.padded} recordings, padded"),
        *(("noticed", line) for line in told(preparation.noticed)),
        ("left out", f"{len(preparation.skipped)} recordings that could not be used"),
        *([] if preparation.audio == DEFAULT_AUDIO else _settings(preparation.audio, "")),
        ("normalised by", f"statistics of {preparation.statistics_from}"),
        ("fingerprint", preparation.fingerprint),
    ]


def _settings(config: Any, system: str) -> list[tuple[str, str]]:
    """The settings that the system uses, by their option's name."""
    rows: list[tuple[str, str]] = []
    for setting, value in values_of(config):
        if setting.systems is None or system in setting.systems:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            rows.append(((setting.option or setting.name).replace("-", " "), _WORDS.get(shown, shown)))
    return rows
