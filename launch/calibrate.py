"""`python -m launch.calibrate`: a model's predictions brought to the scale of labelled recordings."""

from __future__ import annotations

from dataclasses import dataclass

from emocluster_jax.api.requests import CalibrateRequest
from launch import command
from launch.options import parse, prediction

DESCRIPTION = """Calibrate a model: write one whose predictions have the mean and deviation of labels, each attribute
shifted and scaled on a prepared, labelled split. Some 20 recordings are enough."""


@dataclass(frozen=True)
class Options:
    calibration: CalibrateRequest
    quiet: bool = False
    """Print nothing but warnings and errors."""


def main() -> None:
    options = parse(
        Options, "calibrate", DESCRIPTION, "--checkpoint published/arousal --data-dir data --output calibrated"
    )
    from emocluster_jax.api.calibration import calibrate
    from emocluster_jax.inference.model_directory import read_model

    console, request = command.console(options.quiet), options.calibration
    found = calibrate(**dict(vars(request), console=console))
    console.table(
        f"{request.output}, on what it was calibrated on",
        ("attribute", "CCC before", "CCC after", "RMSE before", "RMSE after", "recordings"),
        [
            (name, old.ccc, new.ccc, old.rmse, new.rmse, new.n)
            for (name, old), new in zip(found.before.items(), found.after.values(), strict=True)
        ],
    )
    console.line("Predict with (--input is a recording, or a folder of them):")
    console.command(prediction(found.model, "recordings", read_model(found.model).config.inputs))


if __name__ == "__main__":
    command.run(main)
