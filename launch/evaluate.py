"""`python -m launch.evaluate`: sentence-level CCC, Pearson r and RMSE of a model on a prepared split."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from emocluster_jax.api.requests import EvaluateRequest
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.storage.disk import AGAIN, check_output_file, writing
from launch import command
from launch.options import invocation, parse


@dataclass(frozen=True)
class Options:
    evaluation: EvaluateRequest
    output: Path | None = None
    """Also write the scores to this file, as JSON."""
    processes: Processes = field(default_factory=Processes)
    quiet: bool = False
    """Print the JSON alone."""


def main() -> None:
    options = parse(
        Options,
        "evaluate",
        "Score a model's predictions on a prepared split: a table, then one line of JSON.",
        "--checkpoint run/model --data-dir data --split test",
    )
    if options.output is not None:
        check_output_file("--output", options.output)
    from emocluster_jax.runtime import parallel

    parallel.start_processes(options.processes)
    from emocluster_jax.api.evaluation import evaluate, run_on
    from emocluster_jax.evaluation.metrics import score_rows
    from emocluster_jax.evaluation.run_results import scores_as_json
    from emocluster_jax.storage.atomic_files import write_json

    console = command.console(options.quiet or not parallel.is_primary())
    request = options.evaluation
    evaluation = evaluate(**dict(vars(request), console=console))
    fold = "" if evaluation.data.fold is None else f", fold {evaluation.data.fold}"
    console.table(
        f"{request.model} on {request.split} of {request.data_dir}{fold}",
        ("attribute", "CCC", "Pearson r", "RMSE", "recordings"),
        [(name, s.ccc, s.pearson, s.rmse, s.n) for name, s in score_rows(evaluation.scores, evaluation.alone)],
    )
    if not parallel.is_primary():
        return
    if evaluation.reachable:
        most = ", ".join(f"{value:.3f} for {name}" for name, value in evaluation.reachable.items())
        given = ["--checkpoint", request.model, "--data-dir", request.data_dir]
        given += [] if request.fold is None else ["--fold", request.fold]
        if run_on(evaluation.data, Path(request.model)) and evaluation.data.counts.get("validation"):
            given += ["--split", "validation"]
        console.line(
            "Calibration, which matches mean and deviation of predictions and labels, could raise the CCC here to at "
            f"most Pearson's r: {most}. To calibrate the model:"
        )
        console.line(f"  {invocation('calibrate', *given, '--output', f'{request.model}-calibrated')}")
    scores = scores_as_json(evaluation.scores, evaluation.alone)
    print(json.dumps(scores))
    if options.output is not None:
        with writing(options.output.parent, AGAIN):
            write_json(options.output, scores)


if __name__ == "__main__":
    command.run(main)
