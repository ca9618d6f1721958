"""`python -m launch.evaluate`: sentence-level CCC, Pearson r and RMSE of a model on a prepared split."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from emocluster_jax.disk import AGAIN, writing
from emocluster_jax.errors import InputError
from emocluster_jax.processes import Processes
from launch import command


@dataclass(frozen=True)
class Options:
    """What to evaluate on what."""

    checkpoint: Path
    """A model directory."""
    data_dir: Path
    """Records that launch.prepare wrote."""
    split: Literal["train", "validation", "test"] = "test"
    """The recordings to evaluate on."""
    feed: Literal["auto", "resident", "streamed"] = "auto"
    """Hold all chunks in the devices' memory, or read them from the records as they are needed; results are the same.
    `auto` holds them where they fit."""
    output: Path | None = None
    """Also write the scores to this file, as JSON."""
    processes: Processes = field(default_factory=Processes)
    quiet: bool = False
    """Print the JSON alone."""


def main() -> None:
    options = command.parse(
        Options,
        prog=command.invocation("evaluate"),
        description="Score a model's predictions on a prepared split: a table, then one line of JSON.",
        example="--checkpoint run/model --data-dir data --split test",
        args=sys.argv[1:],
    )
    command.enable_compilation_cache()
    from emocluster_jax import parallel

    parallel.start_processes(options.processes)
    from emocluster_jax.evaluation.evaluate import check_features, evaluate_split
    from emocluster_jax.evaluation.score_file import scores_as_json, write_scores
    from emocluster_jax.feed.choice import resolve_feed
    from emocluster_jax.feed.from_records import load_split
    from emocluster_jax.model_directory import read_model
    from emocluster_jax.records.preparation import read_preparation
    from emocluster_jax.records.reader import read_ids, split_size
    from emocluster_jax.reporting.console import Console

    console = Console(quiet=options.quiet or not parallel.is_primary())
    with parallel.all_or_none():
        model = read_model(options.checkpoint)
        preparation = read_preparation(options.data_dir)
        check_features(model, preparation, str(options.data_dir))
        size = split_size(preparation, options.data_dir, options.split)
    if not parallel.same_everywhere(repr((options.split, preparation.fingerprint, model.config, model.origin))):
        raise InputError("the processes have different models, data or splits; give all the same options")
    feed = resolve_feed(options.feed, [size], preparation.features, console)
    split = load_split(options.data_dir, preparation, options.split, console, feed=feed)
    evaluation = evaluate_split(model, split, partial(read_ids, options.data_dir, options.split), console)
    console.table(
        f"{options.checkpoint} on {options.split} of {options.data_dir}",
        ("attribute", "CCC", "Pearson r", "RMSE", "recordings"),
        [(name, s.ccc, s.pearson, s.rmse, s.n) for name, s in evaluation.scores.items()],
    )
    if not parallel.is_primary():
        return
    print(json.dumps(scores_as_json(evaluation.scores)))
    if options.output is not None:
        with writing(options.output.parent, AGAIN):
            write_scores(options.output, evaluation.scores)


if __name__ == "__main__":
    command.run(main)
