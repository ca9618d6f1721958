"""`python -m launch.predict`: recordings become a table of predicted attributes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emocluster_jax.disk import AGAIN, writing
from emocluster_jax.errors import InputError
from launch import command

if TYPE_CHECKING:
    from emocluster_jax.batch_inference import Recording
    from emocluster_jax.inference import Predictor
    from emocluster_jax.reporting.console import Console

DESCRIPTION = """Predict emotional attributes of recordings: a CSV with the columns file, start, end and one for each
attribute, in audformat's segmented index, one row a recording."""


@dataclass(frozen=True)
class Options:
    """Models, recordings, and where results go."""

    checkpoint: tuple[Path, ...]
    """Model directories, or work directories of training. Several models fill columns side by side."""
    input: tuple[Path, ...]
    """Recordings, or folders of them, searched with their subfolders: wav, flac, mp3, ogg and others, of any rate."""
    output: Path
    """The CSV file to write."""
    window_seconds: float | None = None
    """A row for each window of this length: for recordings of which 11 parts of one second, one row, say too little.

    A shorter rest is a window from 1 s on."""
    embeddings: Path | None = None
    """Also write this .npz file: file, start, end (in seconds), embeddings and (where a model has some) clusters of the
    table's rows.

    Several models: arousal_embeddings, arousal_clusters and so on."""
    batch_size: int | None = None
    """Recordings or windows that go through a network at a time; by default 4 on a CPU and 32 elsewhere."""
    workers: int | None = None
    """Threads that decode; one a core by default."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def check(options: Options) -> list[Recording]:
    """The recordings to predict, once everything that can be known beforehand is right.

    Raises:
      InputError: what is wrong with the request.
    """
    from emocluster_jax.batch_inference import SHORTEST_WINDOW_S
    from emocluster_jax.input_recordings import find_recordings

    for option, given in (("--checkpoint", options.checkpoint), ("--input", options.input)):
        if not given:
            raise InputError(f"{option} is empty; give at least one path")
    for option, number in (("--batch-size", options.batch_size), ("--workers", options.workers)):
        if number is not None and number < 1:
            raise InputError(f"{option} is {number}; give 1 or more")
    window_s = options.window_seconds
    if window_s is not None and not SHORTEST_WINDOW_S <= window_s < float("inf"):
        raise InputError(f"--window-seconds is {window_s:g}; give {SHORTEST_WINDOW_S:g} or more")
    recordings = find_recordings(options.input)
    taken = {recording.path.resolve() for recording in recordings}
    for option, path in (("--output", options.output), ("--embeddings", options.embeddings)):
        if path is None:
            continue
        if path.is_dir():
            raise InputError(f"{option} {path} is a folder; give the name of a file in it")
        if not path.parent.is_dir():
            raise InputError(f"{option}: the folder {path.parent} does not exist; make it first")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{option}: the folder {path.parent} cannot be written to; give another")
        if path.resolve() in taken:
            raise InputError(f"{option} {path} is one of the inputs, or both outputs are one file; give another name")
        taken.add(path.resolve())
    return recordings


def predict(options: Options, recordings: list[Recording], predictors: list[Predictor], console: Console) -> None:
    """Predicts, writes the table and the embeddings, and says what was left out.

    Raises:
      InputError: no recording could be used; nothing is written.
    """
    from emocluster_jax.batch_inference import Skipped, predict_recordings
    from emocluster_jax.predictions_table import EmbeddingsCollector, writing_table

    embeddings = EmbeddingsCollector(predictors)
    reasons: Counter[str] = Counter()
    rows = 0
    with writing(options.output.parent, AGAIN), writing_table(options.output, predictors) as table:
        with console.task("predicting", total=len(recordings)) as task:
            for result in predict_recordings(
                predictors,
                recordings,
                window_s=options.window_seconds,
                batch_size=options.batch_size,
                workers=options.workers,
            ):
                if isinstance(result, Skipped):
                    console.warn(f"skipped {result.file!r}: {result.reason}")
                    reasons[result.reason] += 1
                    task.advance()
                    continue
                table.write(result)
                rows += 1
                if options.embeddings is not None:
                    embeddings.add(result)
                if result.is_last:
                    task.advance()
        if not rows:
            raise InputError(f"none of the {len(recordings)} recordings can be used; {options.output} is not written")
        if options.embeddings is not None:
            with writing(options.embeddings.parent, AGAIN):
                embeddings.write(options.embeddings)
    _summarize(options, rows, len(recordings), reasons, console)


def _summarize(options: Options, rows: int, recordings: int, reasons: Counter[str], console: Console) -> None:
    console.line(f"{recordings - reasons.total()} of {recordings} recordings, {rows} rows: {options.output}")
    for reason, count in reasons.most_common():
        console.line(f"skipped {count}: {reason}")
    if options.embeddings is not None:
        console.line(f"embeddings: {options.embeddings}")


def main() -> None:
    options = command.parse(
        Options,
        prog=command.invocation("predict"),
        description=DESCRIPTION,
        example="--checkpoint run/model --input recordings --output predictions.csv",
    )
    command.enable_compilation_cache()
    recordings = check(options)
    from emocluster_jax.inference import load_model
    from emocluster_jax.predictions_table import check_distinct_attributes
    from emocluster_jax.reporting.console import Console

    predictors = [load_model(directory) for directory in options.checkpoint]
    check_distinct_attributes(predictors, options.checkpoint)
    predict(options, recordings, predictors, Console(quiet=options.quiet))


if __name__ == "__main__":
    command.run(main)
