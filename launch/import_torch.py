"""`python -m launch.import_torch`: one of the authors' published models becomes a model directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emocluster_jax.errors import InputError, one_line
from emocluster_jax.storage.disk import AGAIN, check_output_folder, writing
from launch import command
from launch.options import parse, prediction

DESCRIPTION = """Turn a published PyTorch model (of DeepEmoClusters or Temporal-Enhanced-DeepEmoCluster at
github.com/winston-lin-wei-cheng) into a model directory for launch.predict. Needs PyTorch
(pip install "emocluster_jax[import]"); weights are never unpickled freely."""


@dataclass(frozen=True)
class Options:
    """What to import, and where it goes."""

    weights: Path
    """A .pth.tar file of a published repository."""
    norm: Path
    """The folder with its statistics: feat_norm_means.mat and the others."""
    attribute: Literal["arousal", "dominance", "valence"]
    """What the model predicts; published names have Act, Dom or Val in them."""
    output: Path
    """The model directory to write."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def main() -> None:
    options = parse(
        Options, "import_torch", DESCRIPTION, "--weights Act.pth.tar --norm norm --attribute arousal --output arousal"
    )
    check_output_folder("--output", options.output)
    from emocluster_jax.inference.model_directory import may_take_model, read_model, save_model
    from emocluster_jax.interop.published import import_published

    imported = (options.output / "model.json").exists()
    if not imported and not may_take_model(options.output):
        raise InputError(f"--output {options.output} holds other files; give a new folder")
    model = import_published(options.weights, options.norm, options.attribute)
    if not imported:
        with writing(options.output, AGAIN):
            save_model(options.output, model)
    elif read_model(options.output).origin != model.origin:
        raise InputError(f"--output {options.output} holds another model; give a new folder")
    console = command.console(options.quiet)
    console.line(one_line(f"{options.attribute}, {model.config.clusters} clusters: {options.output}"))
    console.line("Predict with (--input is a recording, or a folder of them):")
    console.command(prediction(options.output, "recordings"))


if __name__ == "__main__":
    command.run(main)
