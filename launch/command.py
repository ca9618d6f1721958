"""How commands run and end.

Exit status: 0 done, 1 a defect of this project (with its traceback), 2 a request that cannot be carried out, 3 done,
with all files written, but not all of what was printed (stdout or stderr is full, or its reader has gone), 130 Ctrl-C,
143 SIGTERM
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, NoReturn

from emocluster_jax.errors import InputError
from emocluster_jax.runtime.child_processes import end_with_parent
from emocluster_jax.storage.caches import compiled_programs
from launch.signals import PATIENCE_S, Terminated, heeded, interruption
from launch.streams import independent
from launch.wording import as_options

if TYPE_CHECKING:
    from emocluster_jax.console import Console

_NOT_ALL_PRINTED = 3
_TOGETHER_S = 5.0


def run(main: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
    """Runs a command and exits: with one line and no traceback where the person, not the program, is to act.

    A KeyboardInterrupt's text, if it has one, says how to go on.

    Args:
      main: the command.
      patience_s: seconds that it has to end by itself after a signal interrupted it.
    """
    end_with_parent()
    with independent() as outputs, heeded(patience_s):
        try:
            _run(main)
        except SystemExit as end:
            if end.code or not outputs.lost():
                raise
        if lost := outputs.lost():
            _end_with_losses(lost)


def _run(main: Callable[[], None]) -> None:
    try:
        main()
    except InputError as error:
        _end(f"error: {as_options(str(error))}", 2)
    except KeyboardInterrupt as signal:
        _end_by(signal)
    except Exception:
        # A signal may leave a lock in a state of which Python then complains: "cannot release un-acquired lock".
        if signal := interruption():
            _end_by(signal)
        if not _is_one_of_several():
            raise
        traceback.print_exc()
        _leave(1)


def console(quiet: bool, interval_s: float = 10.0) -> Console:
    """What prints for a command; settings that it is told of become options."""
    from emocluster_jax.console import Console

    return Console(quiet, interval_s, wording=as_options)


def enable_compilation_cache() -> None:
    """Keeps compiled programs for the next run, under `~/.cache/emocluster_jax/xla` or `JAX_COMPILATION_CACHE_DIR`.

    Call it before anything is compiled. Programs that compile in less than a second are not kept (JAX's default). Where
    the folder cannot be written, `emocluster_jax.storage.caches` has named another.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR") and (folder := compiled_programs()):
        jax.config.update("jax_compilation_cache_dir", str(folder))


def choose_deterministic_algorithms() -> None:
    """Has XLA take only algorithms that give the same bits each time on GPUs; elsewhere it changes nothing.

    Call it before JAX compiles anything, which is when XLA reads its options. With this one, which the XLA of JAX 0.10
    and 0.11 knows, it also no longer measures which algorithm is the fastest, and so chooses alike in every process.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".lstrip()


def _end_by(signal: KeyboardInterrupt) -> NoReturn:
    word, status = ("terminated", 143) if isinstance(signal, Terminated) else ("interrupted", 130)
    _end("; ".join(filter(None, (word, str(signal)))), status)


def _end_with_losses(lost: Mapping[str, OSError]) -> NoReturn:
    """Ends with the status for work that is done without all of it having been told."""
    # A reader that has gone (`| head`) has read what it wanted.
    reasons = [f"{name}: {error.strerror}" for name, error in lost.items() if not isinstance(error, BrokenPipeError)]
    if not reasons:
        _leave(_NOT_ALL_PRINTED)
    _end(f"error: not all output could be printed ({', '.join(reasons)}); all else is done", _NOT_ALL_PRINTED)


def _end(line: str, status: int) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends this process. If it is one of several, it waits only seconds for the others, which may know of no error.

    At exit JAX would wait for them much longer, and they for what this process has to give, until all are aborted.
    A short wait there has to be: where all end by the same error, the end of the first would abort the others before
    they have said it.
    """
    if not _is_one_of_several():
        sys.exit(status)
    import jax

    from emocluster_jax.runtime import parallel

    # Those who have not met know of nothing to end together, and JAX would only print what it thinks of that.
    if parallel.have_met():
        together = Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(_TOGETHER_S)
    os._exit(status)


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
