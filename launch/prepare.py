"""`python -m launch.prepare`: recordings and labels become a data directory of TFDS records, ready for training."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emocluster_jax.config import FeatureConfig
from emocluster_jax.corpora.registry import CorpusName, reader_of
from emocluster_jax.errors import InputError
from launch.command import invocation, parse, run

if TYPE_CHECKING:
    from emocluster_jax.corpora.utterance import Utterance
    from emocluster_jax.records.beam import BeamRunner
    from emocluster_jax.records.preparation import Preparation
    from emocluster_jax.reporting.console import Console

DESCRIPTION = """Prepare recordings and their labels: a data directory of TFDS records, ready for training. What is
there already is used again, and what cannot be decoded is skipped and listed."""

_NAMES_SHOWN = 3
_BUCKET = re.compile("[a-z][a-z0-9]+:/")  # a path that was `gs://...`


@dataclass(frozen=True)
class Options:
    corpus: CorpusName
    """What lies in the source folder."""
    source: Path
    """The corpus's folder (of `manifest`, the CSV file will do). `demo` makes its recordings there if they are not."""
    data_dir: Path
    """Where the records go. A run that was killed goes on where it stopped, with the same command."""
    unlabeled: Path | None = None
    """A folder of recordings without labels, which join the unlabelled split."""
    unlabeled_limit: int | None = None
    """Take this many of that folder: the same ones each time, and a smaller number is part of a larger."""
    english: Literal["labeled", "unlabeled"] = "labeled"
    """`emotale` without splits.csv: the English recordings train beside the Danish ones, or are the unlabelled pool."""
    test_sets: tuple[str, ...] = ("test", "test1", "test2")
    """`msp_podcast`: values of Split_Set that make up the test split."""
    statistics_from: Path | None = None
    """Normalise by the feature statistics of this data directory, or of this model directory to evaluate the model,
    instead of those of this corpus's training split."""
    workers: int | None = None
    """Processes that decode and write; all cores by default. The records are the same for any number."""
    beam_runner: str | None = None
    """An Apache Beam runner decodes and writes in place of local processes: DirectRunner, FlinkRunner, DataflowRunner,
    ...; see docs/preparation-at-scale.md. The records are the same."""
    beam_options: tuple[str, ...] = ()
    """Its pipeline options without their dashes, e.g. `flink_master=host:8081 parallelism=64`."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def prepare_corpus(options: Options, console: Console) -> Preparation:
    """Reads the corpus and prepares it, or finds that it is prepared already.

    Raises:
      InputError: what is wrong with the request or the corpus.
    """
    from emocluster_jax.records.writer import prepare

    _check(options)
    workers = _workers(options)
    utterances = _read(options, console)
    return prepare(
        utterances,
        options.data_dir,
        FeatureConfig(),
        corpus=options.corpus,
        source=str(options.source),
        workers=workers,
        console=console,
        statistics_from=options.statistics_from,
    )


def summarize(preparation: Preparation, data_dir: Path, console: Console) -> None:
    """Prints what a data directory holds, and what was left out and why."""
    rows = [(split, count, preparation.hours[split]) for split, count in preparation.counts.items()]
    console.table("prepared", ["split", "recordings", "hours"], rows)
    if preparation.padded:
        console.line(f"{preparation.padded} recordings are shorter than one chunk and were padded")
    names = defaultdict(list)
    for skipped in preparation.skipped:
        # Names of files may break a line or steer a terminal.
        names[skipped.reason].append(skipped.id if skipped.id.isprintable() else repr(skipped.id))
    for reason, ids in sorted(names.items(), key=lambda item: -len(item[1])):
        more = ", ..." if len(ids) > _NAMES_SHOWN else ""
        console.line(f"skipped {len(ids)}, {reason}: {', '.join(ids[:_NAMES_SHOWN])}{more}")
    console.line(f"data directory: {data_dir}")


def _workers(options: Options) -> int | BeamRunner:
    if options.beam_runner is None:
        return options.workers or _cores()
    from emocluster_jax.records.beam import beam_runner

    return beam_runner(options.beam_runner, options.beam_options)


def _cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has (not every system tells)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(options: Options) -> None:
    """Raises InputError for options that contradict one another, before anything is read."""
    if options.unlabeled_limit is not None and options.unlabeled is None:
        raise InputError("--unlabeled-limit needs --unlabeled, the folder that it limits")
    if options.english != Options.english and options.corpus != "emotale":
        raise InputError(f"--english belongs to --corpus emotale, not to {options.corpus}")
    if options.test_sets != Options.test_sets and options.corpus != "msp_podcast":
        raise InputError(f"--test-sets belongs to --corpus msp_podcast, not to {options.corpus}")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers is {options.workers}; give 1 or more")
    if options.beam_runner is None and options.beam_options:
        raise InputError("--beam-options needs --beam-runner, whose options they are")
    if options.beam_runner is not None and options.workers is not None:
        raise InputError("--workers counts local processes; with --beam-runner say how many in --beam-options")
    if options.beam_runner is not None and _BUCKET.match(str(options.data_dir)):
        raise InputError(
            f"--data-dir {options.data_dir} is no folder; Beam workers write to a file system that all of them mount"
        )


def _read(options: Options, console: Console) -> list[Utterance]:
    """The rows of the corpus and of the unlabelled pool beside it."""
    source, pool, limit = options.source, options.unlabeled, options.unlabeled_limit
    if options.corpus == "manifest":
        from emocluster_jax.corpora import manifest

        return manifest.read(source, pool, limit)
    if options.corpus == "msp_podcast":
        from emocluster_jax.corpora import msp_podcast

        return msp_podcast.read(source, pool, limit, options.test_sets)
    if options.corpus == "emotale":
        from emocluster_jax.corpora import emotale

        utterances = emotale.read(source, options.english)
    elif options.corpus == "demo":
        from emocluster_jax.corpora import demo

        config = demo.DemoCorpus()
        with console.task("rendering the demo corpus", total=config.recordings) as task:
            demo.generate(source, config, task.advance)
        utterances = demo.read(source)
    else:
        utterances = reader_of(options.corpus)(source)
    if pool is None:
        return utterances

    from emocluster_jax.corpora.unlabeled_pool import read_pool

    return utterances + read_pool(pool, source, utterances, limit)


def main() -> None:
    options = parse(
        Options,
        prog=invocation("prepare"),
        description=DESCRIPTION,
        example="--corpus manifest --source speech --data-dir data",
    )
    from emocluster_jax.reporting.console import Console

    console = Console(quiet=options.quiet)
    try:
        preparation = prepare_corpus(options, console)
    except KeyboardInterrupt as signal:
        raise type(signal)(f"go on with: {invocation('prepare')} {shlex.join(sys.argv[1:])}") from None
    summarize(preparation, options.data_dir, console)


if __name__ == "__main__":
    run(main)
