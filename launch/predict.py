"""`python -m launch.predict`: recordings become a table of predicted attributes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emocluster_jax.api.requests import PredictionSettings
from emocluster_jax.errors import InputError, one_line
from emocluster_jax.storage.disk import AGAIN, check_output_file, check_path, writing
from launch import command
from launch.options import named_values, parse

if TYPE_CHECKING:
    from emocluster_jax.api.prediction import Predictions
    from emocluster_jax.console import Console

DESCRIPTION = """Predict emotional attributes of recordings: a table (CSV or Parquet) with the columns file, start and
end and one for each attribute, one row per recording."""


@dataclass(frozen=True)
class Options:
    """Models, recordings, and where results go."""

    models: tuple[Path, ...] = field(metadata={"option": "checkpoint"})
    """Model directories, or work directories of training. Several models fill columns side by side."""
    recordings: tuple[Path, ...] = field(metadata={"option": "input"})
    """Recordings, or folders that are searched with their subfolders: wav, flac, mp3, ogg and others, of any rate. For
    models of given features, .npy files of them; the model's frame rate is assumed. A table (.csv, .tsv) names
    recordings in its column `file`, segments in `start` and `end` (seconds or timedeltas), and in `input:NAME` the
    files (.npy) of further inputs that a model reads."""
    output: Path
    """The table to write."""
    inputs: tuple[str, ...] = ()
    """Folders with the files of further inputs that the models read, as NAME=FOLDER: a .npy file for each recording,
    called as it is (relative to --input) but for the suffix. A recording without one is predicted without that input.
    """
    format: Literal["csv", "parquet"] | None = None
    """The table's format; by default Parquet if --output ends in .parquet, else CSV. Parquet needs pyarrow (pip install
    "emocluster_jax[parquet]")."""
    prediction: PredictionSettings = field(default_factory=PredictionSettings)
    embeddings: Path | None = None
    """Also write this .npz file, with the arrays file, start, end (in seconds), embeddings and, if the model has them,
    clusters, in the order of the table's rows. With several models: arousal_embeddings, arousal_clusters and so on."""
    quality: bool = False
    """Also write columns on the quality of each row: how much of it the chunks cover, how much is padding, silent or
    clipped, its DC offset, and whether its file was cut short."""
    spreadsheet_safe: bool = False
    """Protect a CSV from being evaluated by a spreadsheet: names such as `=1+1.wav`, and those that begin with an
    apostrophe, get an apostrophe in front, and all cells are quoted."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def main() -> None:
    options = parse(
        Options, "predict", DESCRIPTION, "--checkpoint run/model --input recordings --output predictions.csv"
    )
    for option, given in (("--checkpoint", options.models), ("--input", options.recordings)):
        if not given:
            raise InputError(f"{option} is empty; give at least one path")
    folders = {
        name: Path(folder) for name, folder in named_values("--inputs", options.inputs, "NAME=FOLDER", "text=sentences")
    }
    for folder in folders.values():
        check_path("--inputs", folder)
    check_output_file("--output", options.output)
    if options.embeddings is not None:
        check_output_file("--embeddings", options.embeddings)
    from emocluster_jax.api.prediction_tables import table_format, write_embeddings, write_table

    safe = options.spreadsheet_safe
    table = table_format(options.output, options.format, spreadsheet_safe=safe)
    from emocluster_jax.api.prediction import predict
    from emocluster_jax.corpora.audio_files import recording_suffixes
    from emocluster_jax.inference.input_recordings import find_recordings
    from emocluster_jax.inference.predictor import load_model

    console = command.console(options.quiet)
    predictors = [load_model(directory, options.prediction.engine) for directory in options.models]
    suffixes, source = recording_suffixes(predictors[0].features), options.prediction.source
    with console.showing_log():
        recordings = find_recordings(options.recordings, suffixes, None if source is None else Path(source))
    _check_outputs(options, {*options.recordings, *(recording.path for recording in recordings)})
    # The recordings are found, and the models have their engine.
    given = dict(vars(options.prediction), source=None, engine="auto", console=console)
    predictions = predict(predictors, recordings, inputs=folders, embeddings=options.embeddings is not None, **given)
    with writing(options.output.parent, AGAIN):
        write_table(options.output, predictions, format=table, quality=options.quality, spreadsheet_safe=safe)
    if options.embeddings is not None:
        with writing(options.embeddings.parent, AGAIN):
            write_embeddings(options.embeddings, predictions)
    _summarize(options, predictions, len(recordings), console)


def _check_outputs(options: Options, inputs: set[Path]) -> None:
    taken = {path.resolve() for path in inputs}
    for option, path in (("--output", options.output), ("--embeddings", options.embeddings)):
        if path is None:
            continue
        if path.resolve() in taken:
            raise InputError(f"{option} {path} is one of the inputs, or both outputs are one file; give another name")
        taken.add(path.resolve())


def _summarize(options: Options, predictions: Predictions, recordings: int, console: Console) -> None:
    from emocluster_jax.preprocessing.quality import told

    reasons = Counter(skipped.reason for skipped in predictions.skipped)
    rows = f"{recordings - reasons.total()} of {recordings} recordings, {len(predictions.files)} rows"
    console.line(one_line(f"{rows}: {options.output}"))
    silent = sum(any(models) for models in zip(*(model.silent for model in predictions.models), strict=True))
    if silent:
        console.line(f"{silent} {'row has' if silent == 1 else 'rows have'} empty cells, for silence")
    padded = int((predictions.quality["padded"] > 0).sum())
    if padded:
        console.line(f"{padded} {'row is' if padded == 1 else 'rows are'} shorter than one chunk and padded")
    skipped = (f"skipped {count}: {reason}" for reason, count in reasons.most_common())
    for line in (*told(predictions.noticed), *skipped):
        console.line(line)
    if options.embeddings is not None:
        console.line(one_line(f"embeddings: {options.embeddings}"))


if __name__ == "__main__":
    command.run(main)
