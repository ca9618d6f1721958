"""Shards over the workers of an Apache Beam runner: of a Flink cluster, of Dataflow, or of this machine.

Each shard is one element of a pipeline, and is worked on as by local processes (`shard_work`). All workers need the
recordings and folders under the same absolute paths as this process, on a shared file system. A pipeline carries only
the shards' names, since services limit its size; the rows are in files beside the results.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.records.shards import Shard
from emocluster_jax.records.workers import ShardPass
from emocluster_jax.storage.atomic_files import replacing

_LOGGER = logging.getLogger(__name__)
_LOOK_EVERY_S = 5.0
_LONGEST_REASON = 300

_Element = tuple[str, str | None]
"""Name of a shard, and one of its recordings that this process can read, if there is one."""


class BeamRunner(NamedTuple):
    """A runner by Beam's name for it, and pipeline options as `--name=value`; `beam_runner` checks them."""

    name: str
    options: tuple[str, ...]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps Beam's warnings from the log: of absent Google packages, and what it repeats when the pipeline runs."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@_without_warnings()
def beam_runner(name: str, options: Sequence[str]) -> BeamRunner:
    """A runner that exists here, with options that it can be started with.

    Args:
      name: e.g. "DirectRunner" (Beam's runner in Python), "FlinkRunner", "DataflowRunner", or a class's full name.
      options: pipeline options without their dashes, `name=value` or `name`.

    Raises:
      InputError: Beam is not installed, there is no such runner or option, or the runner lacks an option or package.
    """
    try:
        from apache_beam.runners import create_runner  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            '`beam` needs Apache Beam: in an environment of its own, pip install "emocluster_jax[beam]"'
        ) from None
    for option in options:
        if not re.fullmatch(r"[A-Za-z]\w*(=.*)?", option, re.DOTALL) or option.startswith("runner="):
            raise InputError(f"`beam_options`: {option!r} is not an option; give name=value or name, without dashes")
    flags = tuple(f"--{option}" for option in options)
    # Beam would first try to fetch Prism, in Go, which ignores `direct_num_workers` and `direct_running_mode`.
    name = "FnApiRunner" if name.lower() in ("direct", "directrunner") else name
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"`beam={name}`: {error}") from None
    _check_options(name, flags)
    return BeamRunner(name, flags)


def _check_options(name: str, flags: Sequence[str]) -> None:
    """Raises InputError for what Beam would object to only when the work begins."""
    from apache_beam import Pipeline  # pyright: ignore[reportMissingImports]
    from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            options = PipelineOptions(list(flags))
            options.get_all_options()
            pipeline = Pipeline(runner=name, options=options)
    except SystemExit:
        # Beam's parser prints its usage and ends the process.
        raise InputError(f"`beam_options`: {printed.getvalue().strip().rpartition('error: ')[2]}") from None
    except Exception as error:
        # What the runner lacks, one a line below a heading; or what a service answered that Beam asked for defaults.
        problems = " ".join(str(error).split()).rpartition("validations errors: ")[2].rstrip(".")
        raise InputError(
            f"`beam_options` do not suit {name}: {problems or type(error).__name__}; give what it needs as name=value"
        ) from None
    # Removed by Beam only where the pipeline is run.
    shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
    if type(pipeline.runner).__name__ == "DataflowRunner":
        try:
            import google.cloud.dataflow  # noqa: F401 # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InputError('`beam=DataflowRunner` needs pip install "apache-beam[gcp]"') from None


def run_on_beam(
    runner: BeamRunner, folder: Path, shard_pass: ShardPass, shards: Iterable[Shard], done: Callable[[Shard], None]
) -> None:
    """One pipeline for one pass over shards; `done` is called in this process as their results appear in `folder`.

    A shard that fails does not end the pipeline: the others are done, and a further run has less to do.

    Raises:
      InputError: the pipeline failed, or some shards were not done in the end.
    """
    import apache_beam as beam  # pyright: ignore[reportMissingImports]
    from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]

    waiting = {shard.name: shard for shard in shards}
    if not waiting:
        return
    total = len(waiting)
    elements = [_element(shard, folder) for shard in waiting.values()]

    def look() -> None:
        for name in [name for name, shard in waiting.items() if shard_pass.is_done(shard)]:
            done(waiting.pop(name))

    pipeline = beam.Pipeline(runner=runner.name, options=PipelineOptions(list(runner.options)))
    # Without the reshuffle, runners fuse the steps and give all elements to one worker.
    _ = pipeline | beam.Create(elements) | beam.Reshuffle() | beam.Map(_work, shard_pass=shard_pass, folder=folder)
    with _meanwhile(look):
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            # What a shard raises is in the log (`_work`); this is Beam's own: options, network, lost workers.
            raise InputError(
                f"Beam's {runner.name} failed: {_reason(error)}; the same command again goes on from here"
            ) from error
    # An NFS client may take a file that it has missed before for absent for a minute, unless it changes the folder.
    mark = folder / ".look"
    mark.touch()
    mark.unlink()
    look()
    if waiting:
        raise InputError(
            f"the Beam workers left {len(waiting)} of {total} shards undone (first: {next(iter(waiting))}), their log "
            f"says why; each of them needs the recordings and {folder} under these very paths; the same command again "
            "goes on from here"
        )


def _element(shard: Shard, folder: Path) -> _Element:
    """Also writes the shard's rows where the workers read them."""
    with replacing(folder / f"{shard.name}.rows.json") as temporary:
        # In ASCII, since a path need not be valid Unicode; absolute, since workers have another working directory.
        temporary.write_text(json.dumps(asdict(shard), default=lambda path: str(path.absolute())))
    paths = (str(utterance.path.absolute()) for utterance in shard.utterances)
    return shard.name, next((path for path in paths if os.access(path, os.R_OK)), None)


def _read_shard(name: str, folder: Path) -> Shard:
    values = json.loads((folder / f"{name}.rows.json").read_text())
    for row in values["utterances"]:
        row |= {"path": Path(row["path"]), "inputs": {name: Path(path) for name, path in row["inputs"].items()}}
    return Shard(values["split"], values["index"], tuple(Utterance(**row) for row in values["utterances"]))


def _work(element: _Element, shard_pass: ShardPass, folder: Path) -> None:
    """Does the work on a shard, on a worker; errors go into the worker's log."""
    name, recording = element
    try:
        # Otherwise every recording would be skipped as missing.
        if recording is not None and not os.access(recording, os.R_OK):
            raise FileNotFoundError(f"this worker cannot read {recording}")
        shard = _read_shard(name, folder)
        # Runners may give an element to two workers, or again to one.
        if not shard_pass.is_done(shard):
            shard_pass.work(shard)
    except Exception:
        # Raised to the runner, it would end the job, and with it the other shards' work.
        _LOGGER.exception("shard %s failed", name)


@contextmanager
def _meanwhile(look: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            look()

    thread = threading.Thread(target=watch, name="beam progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _reason(error: Exception) -> str:
    """One line of what a runner raises: the first, or below a traceback the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if lines[0].startswith("Traceback") else 0][:_LONGEST_REASON]
