"""`python -m launch.export`: a trained model in formats of other tools, with its card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from emocluster_jax.errors import InputError, one_line
from emocluster_jax.storage.disk import check_output_folder
from launch import command
from launch.options import parse

DESCRIPTION = """Export a model: as a StableHLO program for JAX on CPU, GPU and TPU, as an ONNX graph, and its weights
as safetensors, each checked against the model before it is written; with a JSON of the feature settings and a model
card. Needs pip install "emocluster_jax[export]"."""


@dataclass(frozen=True)
class Options:
    """What to export, and where it goes."""

    checkpoint: Path
    """A model directory, or a work directory of training."""
    output: Path
    """The folder to write: a new one, or one with an export of the same model."""
    formats: tuple[Literal["stablehlo", "onnx", "safetensors"], ...] = field(
        default=("stablehlo", "onnx", "safetensors"), metadata={"option": "format"}
    )
    """One or more of them."""
    data_dir: Path | None = None
    """The records that it was trained on, for the card: the corpus and its counts."""
    license: str = "unknown"
    """The weights' license, for the card: an identifier that Hugging Face knows, such as cc-by-4.0."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def main() -> None:
    options = parse(
        Options, "export", DESCRIPTION, "--checkpoint run/model --output exported --format onnx --data-dir data"
    )
    if not options.formats:
        raise InputError("--format is empty; give at least one")
    check_output_folder("--output", options.output)
    from emocluster_jax.inference.model_directory import EXPORT_CARD, model_folder, read_model
    from emocluster_jax.interop.export_folder import check_request, export, write_export
    from emocluster_jax.interop.model_card import model_card, read_run_numbers
    from emocluster_jax.records.preparation import read_preparation
    from emocluster_jax.runtime.programs import keep_programs

    keep_programs()
    console = command.console(options.quiet)
    folder = model_folder(options.checkpoint)
    model = read_model(folder)
    check_request(options.output, options.formats, model)
    preparation = None if options.data_dir is None else read_preparation(options.data_dir)
    name, numbers = options.output.absolute().name, read_run_numbers(folder, model)
    card = model_card(model, numbers, preparation, options.formats, name=name, license=options.license)
    kept = (options.output / EXPORT_CARD).exists()
    exported = []
    with console.task("exporting", total=len(options.formats)) as task:
        for wanted in options.formats:
            task.describe(wanted)
            exported.append(export(model, wanted))
            task.advance()
    write_export(options.output, model, exported, card)
    for file in exported:
        found = ", ".join(f"{name} {difference:.1g}" for name, difference in file.differences.items())
        parity = f"largest differences from the model: {found}" if found else "bit-equal weights"
        console.line(one_line(f"{options.output / file.name}: {len(file.content) / 1e6:.1f} MB, {parity}"))
    console.line(one_line(f"{options.output / EXPORT_CARD}: the model card{', kept as it was' if kept else ''}"))


if __name__ == "__main__":
    command.run(main)
