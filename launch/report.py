"""`python -m launch.report`: one HTML page on a run, or on a grid of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from emocluster_jax.errors import InputError, one_line
from emocluster_jax.ranges import Range, within
from emocluster_jax.settings import Checked
from emocluster_jax.storage.disk import AGAIN, check_output_file, writing
from launch import command
from launch.options import parse

if TYPE_CHECKING:
    from emocluster_jax.console import Console
    from emocluster_jax.reporting.html.run_files import RunFiles

DESCRIPTION = """Write one self-contained HTML page on a training run, or on the grid of runs of launch.experiment:
settings, scores, curves, clusters, a map of the embeddings, recordings to listen to. It needs no network and no
server. Needs jinja2 and plotly (pip install "emocluster_jax[report]")."""


@dataclass(frozen=True)
class Options(Checked):
    """What to report on."""

    workdir: Path
    """Work directory of a training, or of an experiment."""
    data_dir: Path | None = None
    """The records that it was trained on; without them the page has no map, no recordings and no distributions."""
    output: Path | None = None
    """The page. [default: report.html in --workdir]"""
    audio: Path | None = None
    """Folder of the recordings, if they are no longer where they were prepared from."""
    beside: Path | None = None
    """Work directory of another training, such as one without an option: what its clusters know stands beside what
    those of --workdir do."""
    recordings: int = field(default=1000, metadata=within(Range(int, 0, 1_000_000)))
    """Recordings on the map, at most."""
    clips: int = field(default=4, metadata=within(Range(int, 0, 1_000)))
    """Recordings to listen to per cluster, at most."""
    clip_seconds: float = field(default=6.0, metadata=within(Range(float, 0.1, 60)))
    """Length of each of them, at most."""
    quiet: bool = False
    """Print nothing but warnings and errors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.audio is not None and self.data_dir is None:
            raise InputError("--audio is given without --data-dir; give the records that the run was trained on")
        if self.audio is not None and not self.audio.is_dir():
            raise InputError(f"--audio {self.audio} is not a folder; give that of the recordings")


def _check_beside(run: RunFiles, beside: RunFiles, console: Console) -> None:
    for option, one in (("--workdir", run), ("--beside", beside)):
        if one.information is None:
            raise InputError(f"{option} {one.workdir} has nothing on clusters (clusters.json); give a run that has")
    if run.saved.id == beside.saved.id:
        raise InputError(f"--beside {beside.workdir} is the run itself; give another one")
    if not run.has_data_of(beside):
        console.warn(f"{beside.workdir} was trained on other data: what its clusters know is of other recordings")


def main() -> None:
    options = parse(Options, "report", DESCRIPTION, "--workdir run --data-dir data")
    if not options.workdir.is_dir():
        raise InputError(f"--workdir {options.workdir} does not exist; give that of a training or of an experiment")
    output = options.output or options.workdir / "report.html"
    check_output_file("--output", output)
    from emocluster_jax.reporting.html.grid_files import is_grid, read_grid
    from emocluster_jax.reporting.html.grid_page import grid_page
    from emocluster_jax.reporting.html.run_files import read_run_files
    from emocluster_jax.reporting.html.run_page import Extent, run_page, view_data
    from emocluster_jax.runtime.programs import keep_programs
    from emocluster_jax.storage.atomic_files import replacing

    keep_programs()
    console = command.console(options.quiet)
    if is_grid(options.workdir):
        if options.data_dir is not None:
            raise InputError(f"{options.workdir} is an experiment; its page needs no --data-dir, leave it out")
        if options.beside is not None:
            raise InputError(f"{options.workdir} is an experiment, whose runs are side by side; leave --beside out")
        grid = read_grid(options.workdir)
        problems = [*grid.problems, *(problem for run in grid.runs for problem in run.problems)]
        page = grid_page(grid, output)
    else:
        run, beside = read_run_files(options.workdir), options.beside and read_run_files(options.beside)
        if beside is not None:
            _check_beside(run, beside, console)
        extent = Extent(options.recordings, options.clips, options.clip_seconds)
        data = view_data(run, options.data_dir, options.audio, extent, console) if options.data_dir else None
        problems = [*run.problems, *(data.problems if data else ())]
        page = run_page(run, data, extent, beside)
    for problem in problems:
        console.warn(f"left out of the page: {problem}")
    with writing(output.parent, AGAIN), replacing(output) as temporary:
        size = temporary.write_bytes(page.encode())
    console.line(f"{one_line(str(output))} ({size / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    command.run(main)
